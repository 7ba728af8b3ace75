/* Transparent huge pages: one event for 512 pages, and every way to take one apart. */
#include "torture.h"

#include <unistd.h>

long huge_written(void)
{
    char *area = huge_pages(8 * MIB);
    write_every(area, 4 * MIB, HUGE);
    STOP("half");
    write_pages(area, 8 * MIB);
    STOP("whole");
    unmap(area, 8 * MIB);
    STOP("unmapped");
    return 8 * MIB;
}

long huge_zero_then_written(void)
{
    char *area = huge_pages(8 * MIB);
    read_every(area, 8 * MIB, HUGE);
    STOP("zero");
    write_every(area + PAGE, 4 * MIB, HUGE);
    STOP("half-written");
    /* The huge zero page is taken apart into a table of zero pages. */
    unmap(area + 4 * MIB, 64 * KIB);
    STOP("zero-split");
    write_pages(area + 4 * MIB + 64 * KIB, 256 * KIB);
    STOP("split-written");
    unmap(area, 8 * MIB);
    STOP("unmapped");
    return 4 * MIB + 256 * KIB;
}

long huge_split_by_munmap(void)
{
    char *area = huge_pages(4 * MIB);
    write_pages(area, 4 * MIB);
    STOP("written");
    unmap(area + MIB, 300 * KIB);
    STOP("hole");
    unmap(area + HUGE - 64 * KIB, 128 * KIB);
    STOP("over-the-border");
    unmap(area, 4 * MIB);
    STOP("unmapped");
    return 4 * MIB;
}

long huge_split_by_mprotect(void)
{
    char *area = huge_pages(4 * MIB);
    write_pages(area, 4 * MIB);
    MUST(mprotect(area + MIB, 64 * KIB, PROT_READ) == 0);
    STOP("read-only-part");
    MUST(mprotect(area + MIB, 64 * KIB, PROT_READ | PROT_WRITE) == 0);
    write_pages(area, 4 * MIB);
    STOP("written-again");
    unmap(area, 4 * MIB);
    STOP("unmapped");
    return 4 * MIB;
}

long huge_split_by_advice(void)
{
    char *area = huge_pages(8 * MIB);
    write_pages(area, 8 * MIB);
    MUST(madvise(area + MIB, 512 * KIB, MADV_DONTNEED) == 0);
    STOP("part-not-needed");
    write_pages(area + MIB, 128 * KIB);
    STOP("part-touched");
    MUST(madvise(area + 2 * MIB, 2 * MIB, MADV_DONTNEED) == 0);
    STOP("one-not-needed");
    write_every(area + 2 * MIB, PAGE, PAGE);
    STOP("one-back");
    MUST(madvise(area + 4 * MIB, MIB, MADV_FREE) == 0);
    STOP("part-free");
    unmap(area, 8 * MIB);
    STOP("unmapped");
    return 8 * MIB + 128 * KIB + 2 * MIB;
}

/* Small pages gathered into a huge one: the holes become resident without a fault. */
long huge_by_collapse(void)
{
    char *area = huge_pages(4 * MIB);
    MUST(madvise(area, 4 * MIB, MADV_NOHUGEPAGE) == 0);
    write_pages(area, 1200 * KIB);
    write_every(area + 2 * MIB, 2 * MIB, 7 * PAGE);
    STOP("small");
    MUST(madvise(area, 4 * MIB, MADV_HUGEPAGE) == 0);
    if (madvise(area, 2 * MIB, MADV_COLLAPSE) != 0)
        return -errno;
    STOP("one-collapsed");
    MUST(madvise(area + 2 * MIB, 2 * MIB, MADV_COLLAPSE) == 0);
    STOP("two-collapsed");
    unmap(area, 4 * MIB);
    STOP("unmapped");
    return 4 * MIB;
}

long huge_moved(void)
{
    char *area = huge_pages(4 * MIB), *room = huge_pages(8 * MIB);
    int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    write_pages(area, 4 * MIB);
    MUST(mremap(area, 2 * MIB, 2 * MIB, flags, room) == room);
    STOP("whole");
    MUST(mremap(area + HUGE, 2 * MIB, 2 * MIB, flags, room + HUGE + 64 * KIB) != MAP_FAILED);
    STOP("taken-apart");
    unmap(room, 8 * MIB);
    STOP("unmapped");
    return 4 * MIB;
}

/* Folios between a page and a huge page, where the machine makes them: one event for several. */
long folios_written(void)
{
    char *area = small_pages(MIB);
    MUST(madvise(area, MIB, MADV_HUGEPAGE) == 0);
    write_every(area + 5 * PAGE, 512 * KIB, 64 * KIB);
    STOP("one-byte-each");
    write_pages(area, MIB);
    STOP("whole");
    MUST(madvise(area + 3 * PAGE, 2 * PAGE, MADV_DONTNEED) == 0);
    STOP("hole");
    write_pages(area, MIB);
    STOP("filled");
    pid_t child = fork();
    if (child == 0) {
        torture_stop("folios_written", "forked");
        write_every(area, MIB, 32 * KIB);
        torture_stop("folios_written", "child-wrote");
        _exit(0);
    }
    reap(child);
    unmap(area, MIB);
    STOP("unmapped");
    return MIB + 2 * PAGE;
}
