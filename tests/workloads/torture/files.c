/* Mappings of files: fault-around, private copies, truncation, eviction. */
#include "torture.h"

#include <fcntl.h>
#include <unistd.h>

long file_read_shared(void)
{
    int fd = cached_file(4 * MIB);
    char *area = map(4 * MIB, MAP_SHARED, fd);
    read_every(area + 9 * PAGE, MIB, 64 * KIB);
    STOP("a-window-each");
    read_pages(area, 4 * MIB);
    STOP("whole");
    MUST(madvise(area + MIB + PAGE, MIB, MADV_DONTNEED) == 0);
    STOP("not-needed");
    /* Windows of which the edges are there already. */
    read_every(area + MIB, MIB, 64 * KIB);
    STOP("read-again");
    unmap(area, 4 * MIB);
    close(fd);
    STOP("unmapped");
    return 5 * MIB;
}

long file_window_with_holes(void)
{
    int fd = cached_file(MIB);
    char *area = map(MIB, MAP_SHARED, fd);
    /* A write fault maps its page alone: then reads fill the windows around them. */
    write_every(area + 3 * PAGE, MIB, 64 * KIB);
    write_every(area + 12 * PAGE, 512 * KIB, 64 * KIB);
    STOP("written");
    read_every(area + 5 * PAGE, MIB, 128 * KIB);
    STOP("every-second-window");
    read_pages(area, MIB);
    STOP("whole");
    unmap(area, MIB);
    /* The mapping's own borders cut the window. */
    area = mmap(NULL, 5 * PAGE, PROT_READ, MAP_SHARED, fd, 7 * PAGE);
    MUST(area != MAP_FAILED);
    read_pages(area + 2 * PAGE, PAGE);
    STOP("small-mapping");
    unmap(area, 5 * PAGE);
    close(fd);
    STOP("unmapped");
    return MIB + 5 * PAGE;
}

long file_not_cached(void)
{
    int fd = cached_file(2 * MIB);
    MUST(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
    char *area = map(2 * MIB, MAP_PRIVATE, fd);
    MUST(madvise(area, 2 * MIB, MADV_RANDOM) == 0);
    read_every(area, 2 * MIB, 96 * KIB);
    STOP("random");
    MUST(madvise(area, 2 * MIB, MADV_NORMAL) == 0);
    read_pages(area, 2 * MIB);
    STOP("read-ahead");
    unmap(area, 2 * MIB);
    close(fd);
    STOP("unmapped");
    return 2 * MIB;
}

long file_private_written(void)
{
    int fd = cached_file(4 * MIB);
    char *area = map(4 * MIB, MAP_PRIVATE, fd);
    read_pages(area, 2 * MIB);
    STOP("half-read");
    write_every(area, 4 * MIB, 3 * PAGE);
    STOP("every-third-written");
    MUST(madvise(area, MIB, MADV_DONTNEED) == 0);
    STOP("copies-dropped");
    read_pages(area, 4 * MIB);
    STOP("read-again");
    MUST(pread(fd, area + 3 * MIB, MIB, 0) == MIB);
    STOP("written-by-kernel");
    unmap(area, 4 * MIB);
    close(fd);
    STOP("unmapped");
    return 0;
}

long file_populated(void)
{
    int fd = cached_file(4 * MIB);
    char *shared = map(4 * MIB, MAP_SHARED | MAP_POPULATE, fd);
    STOP("shared");
    char *private = mmap(NULL, 4 * MIB, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    MUST(private != MAP_FAILED);
    STOP("private-read-only");
    char *written = map(2 * MIB, MAP_PRIVATE | MAP_POPULATE, fd);
    STOP("private-writable");
    MUST(madvise(shared, 4 * MIB, MADV_DONTNEED) == 0);
    if (madvise(shared + MIB, MIB, MADV_POPULATE_READ) == 0)
        STOP("by-advice-read");
    if (madvise(shared + MIB, 2 * MIB, MADV_POPULATE_WRITE) == 0)
        STOP("by-advice-write");
    MUST(mlock(shared, 4 * MIB) == 0);
    STOP("locked");
    unmap(shared, 4 * MIB);
    unmap(private, 4 * MIB);
    unmap(written, 2 * MIB);
    close(fd);
    STOP("unmapped");
    return 14 * MIB;
}

long file_truncated(void)
{
    int fd = cached_file(2 * MIB);
    char *shared = map(2 * MIB, MAP_SHARED, fd), *private = map(2 * MIB, MAP_PRIVATE, fd);
    write_pages(shared, 2 * MIB);
    read_pages(private, 2 * MIB);
    write_every(private, 2 * MIB, 2 * PAGE);
    STOP("touched");
    /* No call on memory, and yet both mappings lose their pages, the private copies too. */
    MUST(ftruncate(fd, MIB) == 0);
    STOP("truncated");
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 256 * KIB, 256 * KIB) == 0)
        STOP("hole-punched");
    MUST(ftruncate(fd, 2 * MIB) == 0);
    read_pages(shared, 2 * MIB);
    STOP("grown-and-read");
    unmap(shared, 2 * MIB);
    unmap(private, 2 * MIB);
    close(fd);
    STOP("unmapped");
    return 0;
}

long file_paged_out(void)
{
    int fd = cached_file(4 * MIB);
    char *area = map(4 * MIB, MAP_PRIVATE, fd);
    read_pages(area, 4 * MIB);
    STOP("read");
    if (madvise(area, 2 * MIB, MADV_COLD) != 0)
        return -errno;
    STOP("cold");
    MUST(madvise(area, 2 * MIB, MADV_PAGEOUT) == 0);
    STOP("paged-out");
    /* What was evicted comes anew. */
    unsigned char cached[MIB / PAGE];
    long anew = 0;
    MUST(mincore(area, MIB, cached) == 0);
    for (long page = 0; page < MIB / PAGE; page++)
        anew += cached[page] & 1 ? 0 : PAGE;
    read_pages(area, MIB);
    STOP("read-again");
    unmap(area, 4 * MIB);
    close(fd);
    STOP("unmapped");
    return 4 * MIB + anew;
}

/* The page cache may hold huge folios, which are mapped as one. */
long file_huge(void)
{
    int fd = cached_file(8 * MIB);
    MUST(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
    char *area = huge_pages(8 * MIB);
    MUST(mmap(area, 8 * MIB, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, 0) == area);
    MUST(madvise(area, 8 * MIB, MADV_HUGEPAGE) == 0);
    read_pages(area, 4 * MIB);
    STOP("half");
    read_pages(area, 8 * MIB);
    STOP("whole");
    if (madvise(area, 8 * MIB, MADV_COLLAPSE) == 0)
        STOP("collapsed");
    MUST(madvise(area + MIB, 64 * KIB, MADV_DONTNEED) == 0);
    STOP("part-not-needed");
    unmap(area, 8 * MIB);
    close(fd);
    STOP("unmapped");
    return 0;
}
