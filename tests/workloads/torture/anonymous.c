/* Private anonymous memory in small pages: order of touch, zero pages, population, part by part. */
#include "torture.h"

#include <unistd.h>
#include <sys/syscall.h>

long anon_forwards(void)
{
    char *area = small_pages(8 * MIB);
    write_pages(area, 4 * MIB);
    STOP("half");
    write_pages(area + 4 * MIB, 4 * MIB);
    STOP("whole");
    unmap(area, 8 * MIB);
    STOP("unmapped");
    return 8 * MIB;
}

long anon_backwards(void)
{
    char *area = small_pages(4 * MIB);
    for (long at = 4 * MIB - PAGE; at >= 0; at -= PAGE)
        ((volatile char *)area)[at] = 1;
    STOP("written");
    unmap(area, 4 * MIB);
    STOP("unmapped");
    return 4 * MIB;
}

long anon_random(void)
{
    long pages = 4 * MIB / PAGE, next = 7;
    char *area = small_pages(4 * MIB);
    /* A full cycle of a linear congruential generator modulo a power of two (Hull and Dobell). */
    for (long i = 0; i < pages / 2; i++, next = (next * 5 + 3) % pages)
        ((volatile char *)area)[next * PAGE] = 1;
    STOP("half");
    for (long i = pages / 2; i < pages; i++, next = (next * 5 + 3) % pages)
        ((volatile char *)area)[next * PAGE] = 1;
    STOP("whole");
    unmap(area, 4 * MIB);
    STOP("unmapped");
    return 4 * MIB;
}

long zero_page_read_then_written(void)
{
    char *area = small_pages(4 * MIB);
    read_pages(area, 4 * MIB);
    STOP("read");
    write_every(area, 4 * MIB, 2 * PAGE);
    STOP("half-written");
    write_pages(area, 4 * MIB);
    STOP("written");
    MUST(madvise(area, 2 * MIB, MADV_DONTNEED) == 0);
    read_pages(area, 2 * MIB);
    STOP("zero-again");
    unmap(area, 4 * MIB);
    STOP("unmapped");
    return 4 * MIB;
}

long populated_by_mmap(void)
{
    char *area = map(4 * MIB, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1);
    STOP("populated");
    unmap(area, 4 * MIB);
    STOP("unmapped");
    return 4 * MIB;
}

long populated_by_advice(void)
{
    char *area = small_pages(6 * MIB);
    if (madvise(area, 2 * MIB, MADV_POPULATE_READ) != 0)
        return -errno;
    STOP("read-is-zero-page");
    write_every(area + 2 * MIB, 2 * MIB, 3 * PAGE);
    STOP("every-third-page");
    MUST(madvise(area + 2 * MIB, 2 * MIB, MADV_POPULATE_WRITE) == 0);
    STOP("holes-filled");
    MUST(madvise(area, 6 * MIB, MADV_POPULATE_WRITE) == 0);
    STOP("all");
    unmap(area, 6 * MIB);
    STOP("unmapped");
    return 6 * MIB;
}

long locked(void)
{
    char *area = small_pages(4 * MIB);
    write_every(area, 4 * MIB, 5 * PAGE);
    STOP("every-fifth-page");
    MUST(mlock(area + PAGE / 2, 2 * MIB) == 0);
    STOP("half-locked");
    MUST(mlock2(area + 2 * MIB + PAGE, MIB, MLOCK_ONFAULT) == 0);
    STOP("on-fault");
    MUST(munlock(area, 4 * MIB) == 0);
    STOP("unlocked");
    MUST(mlock(area, MIB) == 0 && madvise(area, MIB, MADV_DONTNEED) != 0);
    STOP("advice-refused");
    if (madvise(area, MIB, MADV_DONTNEED_LOCKED) == 0)
        STOP("given-back-locked");
    unmap(area, 4 * MIB);
    STOP("unmapped");
    return 2 * MIB + PAGE + 2 * MIB / 5;
}

long locked_in_future(void)
{
    MUST(mlockall(MCL_FUTURE) == 0);
    char *area = map(2 * MIB, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    STOP("mapped-is-populated");
    area = mremap(area, 2 * MIB, 3 * MIB, MREMAP_MAYMOVE);
    MUST(area != MAP_FAILED);
    STOP("grown-is-populated");
    char *top = sbrk(256 * KIB);
    MUST(top != (void *)-1);
    STOP("heap-is-populated");
    MUST(sbrk(-256 * KIB) != (void *)-1);
    MUST(munlockall() == 0);
    unmap(area, 3 * MIB);
    STOP("given-back");
    return 3 * MIB + 256 * KIB;
}

long unmapped_in_part(void)
{
    char *area = small_pages(8 * MIB);
    write_pages(area, 8 * MIB);
    unmap(area + MIB, PAGE);
    STOP("one-page");
    unmap(area + 2 * MIB, 2 * MIB);
    STOP("middle");
    /* Over the hole and what is left on both sides of it. */
    unmap(area + MIB, 4 * MIB);
    STOP("over-holes");
    unmap(area, 8 * MIB);
    STOP("unmapped");
    return 8 * MIB;
}

long mapped_over(void)
{
    char *area = small_pages(4 * MIB);
    write_pages(area, 4 * MIB);
    STOP("written");
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    MUST(mmap(area + MIB, 2 * MIB, PROT_READ | PROT_WRITE, flags, -1, 0) == area + MIB);
    STOP("covered");
    write_pages(area + MIB, 512 * KIB);
    STOP("touched-again");
    int fd = cached_file(MIB);
    MUST(mmap(area, MIB, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == area);
    STOP("covered-by-file");
    read_pages(area, MIB);
    STOP("file-read");
    close(fd);
    MUST(mmap(area, 4 * MIB, PROT_READ | PROT_WRITE, flags | MAP_POPULATE, -1, 0) == area);
    STOP("covered-and-populated");
    unmap(area, 4 * MIB);
    STOP("unmapped");
    return 4 * MIB + 512 * KIB + MIB + 4 * MIB;
}

/* Calls that fail, wholly or after they have done a part. */
long failing_calls(void)
{
    char *area = small_pages(4 * MIB);
    write_pages(area, 4 * MIB);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    MUST(munmap(area + 1, MIB) != 0);
    STOP("munmap-unaligned");
    MUST(mmap(area, MIB, PROT_READ, flags | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED);
    STOP("no-replace");
    MUST(mmap(area, MIB, PROT_READ, MAP_SHARED | MAP_FIXED, 9999, 0) == MAP_FAILED);
    STOP("fixed-bad-file");
    MUST(mremap(area, 2 * MIB, 2 * MIB, MREMAP_MAYMOVE | MREMAP_FIXED, area + MIB) == MAP_FAILED);
    STOP("mremap-overlap");
    MUST(madvise(area + 1, MIB, MADV_DONTNEED) != 0);
    STOP("advice-unaligned");
    unmap(area + MIB, MIB);
    /* Does what lies on both sides of the hole, and then says ENOMEM. */
    MUST(madvise(area, 3 * MIB, MADV_DONTNEED) != 0 && errno == ENOMEM);
    STOP("advice-over-hole");
    unmap(area, 4 * MIB);
    STOP("unmapped");
    return 4 * MIB;
}

long heap_moved(void)
{
    char *old = sbrk(2 * MIB + 123);
    MUST(old != (void *)-1);
    char *first = (char *)(((uintptr_t)old + PAGE - 1) & ~(PAGE - 1));
    write_pages(first, 2 * MIB);
    STOP("grown");
    MUST(brk(first + MIB + 100) == 0);
    STOP("shrunk");
    MUST(brk(first + 2 * MIB) == 0);
    write_pages(first + MIB + PAGE, MIB - PAGE);
    STOP("grown-again");
    MUST(brk(first + 3 * MIB) == 0 && brk(first + 2 * MIB) == 0);
    STOP("untouched-tail");
    MUST(brk(old) == 0);
    STOP("given-back");
    return 3 * MIB - PAGE;
}

long protected_and_back(void)
{
    char *area = small_pages(2 * MIB);
    write_pages(area, 2 * MIB);
    MUST(mprotect(area + 512 * KIB, MIB, PROT_NONE) == 0);
    STOP("none");
    MUST(mprotect(area + 512 * KIB, MIB, PROT_READ | PROT_WRITE) == 0);
    write_pages(area, 2 * MIB);
    STOP("written-again");
    unmap(area, 2 * MIB);
    STOP("unmapped");
    return 2 * MIB;
}
