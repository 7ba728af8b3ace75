/* A library whose functions make pages resident, each in a way of its own. FILL is the name of one of
   them, so that two builds have different names at the same addresses. */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef FILL
#define FILL named_fill
#endif
enum { PAGE = 4096 };

void FILL(volatile char *area, size_t length) {
    for (size_t at = 0; at < length; at += PAGE) area[at] = 1;
}

/* Not exported: stripping takes its name. */
__attribute__((noinline)) static void hidden_fill(volatile char *area, size_t length) {
    for (size_t at = 0; at < length; at += PAGE) area[at] = 2;
}

void call_hidden(volatile char *area, size_t length) { hidden_fill(area, length); }

struct part {
    volatile char *area;
    size_t length;
};

void *thread_fill(void *argument) {
    struct part *part = argument;
    for (size_t at = 0; at < part->length; at += PAGE) part->area[at] = 3;
    return 0;
}

/* A thread that Python knows nothing of. */
int in_bare_thread(volatile char *area, size_t length) {
    struct part part = {area, length};
    pthread_t thread;
    int failed = pthread_create(&thread, 0, thread_fill, &part);
    return failed ? failed : pthread_join(thread, 0);
}

/* Code in no file, kept: loop: movb $1, (%rdi); add $4096, %rdi; sub $4096, %rsi; ja loop; ret */
int in_made_code(volatile char *area, size_t length) {
    static const unsigned char code[] = {
        0xc6, 0x07, 0x01, 0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00,
        0x48, 0x81, 0xee, 0x00, 0x10, 0x00, 0x00, 0x77, 0xed, 0xc3,
    };
    void *made = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED) return 1;
    memcpy(made, code, sizeof code);
    if (mprotect(made, PAGE, PROT_READ | PROT_EXEC)) return 1;
    ((void (*)(volatile char *, size_t))made)(area, length);
    return 0;
}

/* The kernel fills the pages. */
int by_read(volatile char *area, size_t length, int descriptor) {
    return read(descriptor, (void *)area, length) != (ssize_t)length;
}

/* Unshares pages that the process has from its parent. */
void unshare_fill(volatile char *area, size_t length) {
    for (size_t at = 0; at < length; at += PAGE) area[at] = 4;
}
