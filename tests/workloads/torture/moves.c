/* mremap in all its forms: the pages travel with their owners. */
#include "torture.h"

#include <sys/syscall.h>
#include <unistd.h>

long mremap_in_place(void)
{
    char *area = small_pages(8 * MIB);
    unmap(area + 2 * MIB, 6 * MIB);
    write_pages(area, 2 * MIB);
    MUST(mremap(area, 2 * MIB, 6 * MIB, 0) == area);
    STOP("grown");
    write_pages(area + 2 * MIB, 4 * MIB);
    STOP("written");
    MUST(mremap(area, 6 * MIB, MIB + 5 * PAGE, 0) == area);
    STOP("shrunk");
    unmap(area, MIB + 5 * PAGE);
    STOP("unmapped");
    return 6 * MIB;
}

long mremap_moved(void)
{
    char *area = small_pages(4 * MIB);
    write_every(area, 2 * MIB, 2 * PAGE);
    /* The neighbour leaves no room. */
    write_pages(area + 2 * MIB, PAGE);
    MUST(mprotect(area + 2 * MIB, 2 * MIB, PROT_READ) == 0);
    char *moved = mremap(area, 2 * MIB, 5 * MIB, MREMAP_MAYMOVE);
    MUST(moved != MAP_FAILED && moved != area);
    STOP("moved");
    write_pages(moved, 5 * MIB);
    STOP("written");
    char *fresh = small_pages(MIB);
    write_pages(fresh, MIB);
    STOP("address-reused");
    unmap(fresh, MIB);
    unmap(moved, 5 * MIB);
    unmap(area + 2 * MIB, 2 * MIB);
    STOP("unmapped");
    return 6 * MIB + PAGE;
}

long mremap_onto_another(void)
{
    char *from = small_pages(4 * MIB), *onto = small_pages(4 * MIB);
    write_pages(from, 4 * MIB);
    write_pages(onto, 4 * MIB);
    int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    MUST(mremap(from + MIB, MIB, MIB, flags, onto + MIB) == onto + MIB);
    STOP("same-size");
    MUST(mremap(from + 2 * MIB, 2 * MIB, MIB, flags, onto + 2 * MIB) == onto + 2 * MIB);
    STOP("shrunk-on-the-way");
    MUST(mremap(from, MIB, 2 * MIB, flags, onto) == onto);
    STOP("grown-on-the-way");
    unmap(onto, 4 * MIB);
    STOP("unmapped");
    return 8 * MIB;
}

long mremap_left_mapped(void)
{
    char *area = small_pages(2 * MIB);
    write_pages(area, 2 * MIB);
    /* glibc's mremap leaves the fifth word as it finds it, and the kernel looks at it here. */
    int flags = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;
    char *moved = (char *)syscall(SYS_mremap, area, 2 * MIB, 2 * MIB, flags, NULL);
    if (moved == MAP_FAILED)
        return -errno;
    STOP("moved");
    write_every(area, MIB, 2 * PAGE);
    STOP("old-written");
    unmap(area, 2 * MIB);
    unmap(moved, 2 * MIB);
    STOP("unmapped");
    return 2 * MIB + 512 * KIB;
}

/* An old size of 0 makes a second mapping of shared pages; the first one stays. */
long mremap_doubled(void)
{
    char *area = map(2 * MIB, MAP_SHARED | MAP_ANONYMOUS, -1);
    write_pages(area, 2 * MIB);
    char *twin = mremap(area, 0, 2 * MIB, MREMAP_MAYMOVE);
    MUST(twin != MAP_FAILED);
    STOP("doubled");
    read_pages(twin, MIB);
    STOP("twin-read");
    unmap(area, 2 * MIB);
    STOP("first-unmapped");
    unmap(twin, 2 * MIB);
    STOP("unmapped");
    return 3 * MIB;
}

long mremap_of_file(void)
{
    int fd = cached_file(2 * MIB);
    char *area = map(2 * MIB, MAP_PRIVATE, fd);
    read_pages(area, MIB);
    write_every(area, 2 * MIB, 3 * PAGE);
    char *moved = mremap(area, 2 * MIB, 2 * MIB, MREMAP_MAYMOVE | MREMAP_FIXED, small_pages(2 * MIB));
    MUST(moved != MAP_FAILED);
    STOP("moved");
    unmap(moved, 2 * MIB);
    STOP("unmapped");
    return 0;
}
