/* madvise: pages that go without their mapping going. */
#include "torture.h"

long advised_not_needed(void)
{
    char *area = small_pages(4 * MIB);
    write_pages(area, 4 * MIB);
    MUST(madvise(area + MIB, MIB, MADV_DONTNEED) == 0);
    STOP("part");
    write_every(area, 4 * MIB, 2 * PAGE);
    STOP("half-back");
    /* The length is rounded up to whole pages. */
    MUST(madvise(area + 2 * MIB, MIB + 1, MADV_DONTNEED) == 0);
    STOP("rounded-up");
    MUST(madvise(area, 4 * MIB, MADV_DONTNEED) == 0);
    STOP("all");
    unmap(area, 4 * MIB);
    STOP("unmapped");
    return 4 * MIB + 512 * KIB;
}

long advised_free(void)
{
    char *area = small_pages(4 * MIB);
    write_pages(area, 4 * MIB);
    MUST(madvise(area, 3 * MIB, MADV_FREE) == 0);
    STOP("free-is-still-resident");
    write_pages(area, MIB);
    STOP("reused");
    /* What is free and was not written since is dropped without any swap. */
    MUST(madvise(area, 4 * MIB, MADV_PAGEOUT) == 0);
    STOP("reclaimed");
    write_pages(area + MIB, MIB);
    STOP("touched-again");
    unmap(area, 4 * MIB);
    STOP("unmapped");
    return 5 * MIB;
}

long advised_removed(void)
{
    char *area = map(4 * MIB, MAP_SHARED | MAP_ANONYMOUS, -1);
    write_pages(area, 4 * MIB);
    MUST(madvise(area + MIB, MIB, MADV_REMOVE) == 0);
    STOP("removed");
    read_every(area + MIB, 512 * KIB, PAGE);
    STOP("read-again");
    unmap(area, 4 * MIB);
    STOP("unmapped");
    return 4 * MIB + 512 * KIB;
}

long guarded(void)
{
    char *area = small_pages(2 * MIB);
    write_pages(area, 2 * MIB);
    if (madvise(area + MIB, 512 * KIB, MADV_GUARD_INSTALL) != 0)
        return -errno;
    STOP("installed");
    MUST(madvise(area + MIB, 512 * KIB, MADV_GUARD_REMOVE) == 0);
    write_pages(area + MIB, 256 * KIB);
    STOP("removed-and-written");
    unmap(area, 2 * MIB);
    STOP("unmapped");
    return 2 * MIB + 256 * KIB;
}
