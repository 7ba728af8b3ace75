/* Stacks that grow, stacks of threads, threads that grow at once. What a thread made in C grows is
 * no Python function's, so those cases return 0. */
#include "torture.h"

#include <alloca.h>
#include <pthread.h>

static void deeper(int levels)
{
    char *block = alloca(64 * KIB);
    write_pages(block, 64 * KIB);
    if (levels > 1)
        deeper(levels - 1);
    else
        torture_stop("stack_grown", "deep");
    /* Not a tail call. */
    ((volatile char *)block)[0] = 0;
}

long stack_grown(void)
{
    deeper(48);
    STOP("back");
    deeper(64);
    return 4 * MIB;
}

#define THREADS 16
static pthread_barrier_t arrived, leave;

static void *on_own_stack(void *unused)
{
    char *block = alloca(256 * KIB);
    write_pages(block, 256 * KIB);
    pthread_barrier_wait(&arrived);
    pthread_barrier_wait(&leave);
    ((volatile char *)block)[0] = 0;
    return unused;
}

long thread_stacks(void)
{
    pthread_t threads[THREADS];
    for (int round = 0; round < 2; round++) {
        pthread_barrier_init(&arrived, NULL, THREADS + 1);
        pthread_barrier_init(&leave, NULL, THREADS + 1);
        for (int i = 0; i < THREADS; i++)
            MUST(pthread_create(&threads[i], NULL, on_own_stack, NULL) == 0);
        pthread_barrier_wait(&arrived);
        STOP(round ? "second" : "first");
        pthread_barrier_wait(&leave);
        for (int i = 0; i < THREADS; i++)
            MUST(pthread_join(threads[i], NULL) == 0);
        STOP(round ? "second-joined" : "first-joined");
    }
    return 0;
}

static void *touch_own(void *area)
{
    pthread_barrier_wait(&arrived);
    write_pages(area, 8 * MIB);
    pthread_barrier_wait(&leave);
    return NULL;
}

long threads_at_once(void)
{
    pthread_t threads[4];
    char *area = small_pages(32 * MIB);
    pthread_barrier_init(&arrived, NULL, 5);
    pthread_barrier_init(&leave, NULL, 5);
    for (int i = 0; i < 4; i++)
        MUST(pthread_create(&threads[i], NULL, touch_own, area + i * 8 * MIB) == 0);
    pthread_barrier_wait(&arrived);
    pthread_barrier_wait(&leave);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    STOP("touched");
    unmap(area, 32 * MIB);
    STOP("unmapped");
    return 0;
}

static void *churn(void *unused)
{
    pthread_barrier_wait(&arrived);
    for (int i = 0; i < 200; i++) {
        /* The kernel hands the addresses of one thread's area to the other one. */
        char *area = map(256 * KIB, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        write_pages(area, 256 * KIB);
        if (i % 3 == 0)
            MUST(madvise(area, 128 * KIB, MADV_DONTNEED) == 0);
        unmap(area, i % 50 == 49 ? 128 * KIB : 256 * KIB);
    }
    return unused;
}

long threads_reuse_addresses(void)
{
    pthread_t threads[4];
    pthread_barrier_init(&arrived, NULL, 4);
    for (int i = 0; i < 4; i++)
        MUST(pthread_create(&threads[i], NULL, churn, NULL) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    STOP("churned");
    return 0;
}

static char *fought_over;

static void *touch_same(void *seed)
{
    pthread_barrier_wait(&arrived);
    long pages = 8 * MIB / PAGE, next = (long)seed;
    for (long i = 0; i < pages; i++, next = (next * 5 + 3) % pages)
        ((volatile char *)fought_over)[next * PAGE] = 1;
    return NULL;
}

/* Every page is wanted by four threads: of two faults on one page only one counts. */
long threads_on_same_pages(void)
{
    pthread_t threads[4];
    fought_over = small_pages(8 * MIB);
    pthread_barrier_init(&arrived, NULL, 4);
    for (long i = 0; i < 4; i++)
        MUST(pthread_create(&threads[i], NULL, touch_same, (void *)(i % 2)) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    STOP("touched");
    unmap(fought_over, 8 * MIB);
    STOP("unmapped");
    return 0;
}

static volatile int run;

static void *take_away(void *area)
{
    pthread_barrier_wait(&arrived);
    while (run)
        MUST(madvise(area, 4 * MIB, MADV_DONTNEED) == 0);
    return NULL;
}

/* Pages are taken away while they are touched: who comes last decides. */
long threads_take_away(void)
{
    pthread_t thread;
    char *area = small_pages(4 * MIB);
    run = 1;
    pthread_barrier_init(&arrived, NULL, 2);
    MUST(pthread_create(&thread, NULL, take_away, area) == 0);
    pthread_barrier_wait(&arrived);
    for (int i = 0; i < 20; i++)
        write_pages(area, 4 * MIB);
    run = 0;
    pthread_join(thread, NULL);
    STOP("raced");
    unmap(area, 4 * MIB);
    STOP("unmapped");
    return 0;
}
