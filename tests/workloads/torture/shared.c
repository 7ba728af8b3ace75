/* Shared memory: the pages belong to a file without a name, and outlive their mappings. */
#include "torture.h"

#include <fcntl.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <unistd.h>

long shared_anonymous(void)
{
    char *area = map(4 * MIB, MAP_SHARED | MAP_ANONYMOUS, -1);
    write_every(area, 4 * MIB, 2 * PAGE);
    STOP("half-written");
    read_pages(area, 4 * MIB);
    STOP("whole-read");
    MUST(madvise(area, 2 * MIB, MADV_DONTNEED) == 0);
    STOP("unmapped-yet-kept");
    read_every(area + 8 * PAGE, 2 * MIB, 64 * KIB);
    STOP("mapped-around");
    unmap(area, 4 * MIB);
    STOP("unmapped");
    return 0;
}

long memfd_resized(void)
{
    int fd = memfd_create("torture", MFD_CLOEXEC);
    MUST(fd >= 0 && ftruncate(fd, 4 * MIB) == 0);
    char *shared = map(4 * MIB, MAP_SHARED, fd), *private = map(4 * MIB, MAP_PRIVATE, fd);
    write_pages(shared, 4 * MIB);
    STOP("written");
    read_pages(private, 2 * MIB);
    STOP("private-read");
    write_every(private, 4 * MIB, 4 * PAGE);
    STOP("private-written");
    MUST(ftruncate(fd, MIB) == 0);
    STOP("shrunk");
    MUST(ftruncate(fd, 3 * MIB) == 0);
    write_every(shared + MIB, 2 * MIB, 2 * PAGE);
    STOP("grown-again");
    MUST(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 256 * KIB, MIB) == 0);
    STOP("hole-punched");
    unmap(shared, 4 * MIB);
    unmap(private, 4 * MIB);
    close(fd);
    STOP("unmapped");
    return 0;
}

long sysv_attached(void)
{
    int id = shmget(IPC_PRIVATE, 2 * MIB, IPC_CREAT | 0600);
    if (id < 0)
        return -errno;
    char *first = shmat(id, NULL, 0), *second = shmat(id, NULL, SHM_RDONLY);
    MUST(shmctl(id, IPC_RMID, NULL) == 0);
    MUST(first != (void *)-1 && second != (void *)-1);
    write_pages(first, 2 * MIB);
    STOP("written");
    read_every(second, MIB, 64 * KIB);
    STOP("second-read");
    /* Not munmap. */
    MUST(shmdt(first) == 0);
    STOP("first-detached");
    /* SHM_REMAP replaces what is there. */
    char *area = small_pages(2 * MIB);
    write_pages(area, 2 * MIB);
    STOP("private-beside");
    id = shmget(IPC_PRIVATE, 2 * MIB, IPC_CREAT | 0600);
    MUST(id >= 0 && shmat(id, area, SHM_REMAP) == area && shmctl(id, IPC_RMID, NULL) == 0);
    STOP("remapped-over");
    write_pages(area, MIB);
    STOP("written-there");
    MUST(shmdt(area) == 0 && shmdt(second) == 0);
    STOP("detached");
    /* There is no fault-around here: a page for each of the 16 reads. */
    return 2 * MIB + 64 * KIB + 2 * MIB + MIB;
}

long shared_with_child(void)
{
    char *area = map(4 * MIB, MAP_SHARED | MAP_ANONYMOUS, -1);
    write_pages(area, 2 * MIB);
    pid_t child = fork();
    if (child == 0) {
        torture_stop("shared_with_child", "forked");
        read_pages(area, MIB);
        torture_stop("shared_with_child", "child-read");
        write_pages(area + MIB, 2 * MIB);
        torture_stop("shared_with_child", "child-wrote");
        MUST(madvise(area, MIB, MADV_REMOVE) == 0);
        torture_stop("shared_with_child", "child-removed");
        _exit(0);
    }
    reap(child);
    read_pages(area + 2 * MIB, MIB);
    STOP("alone");
    unmap(area, 4 * MIB);
    STOP("unmapped");
    return 0;
}
