/* Pages that the kernel touches on the program's behalf, or that another process does. */
#include "torture.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

long read_into_fresh(void)
{
    char *area = small_pages(5 * MIB);
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    MUST(read(zero, area, 2 * MIB) == 2 * MIB);
    STOP("zero");
    int fd = cached_file(2 * MIB);
    MUST(pread(fd, area + 2 * MIB + 100, 2 * MIB - 100, 0) == 2 * MIB - 100);
    STOP("file");
    struct iovec parts[2] = {{area, MIB}, {area + 4 * MIB, MIB}};
    MUST(readv(zero, parts, 2) == 2 * MIB);
    STOP("half-there");
    close(zero);
    close(fd);
    unmap(area, 5 * MIB);
    STOP("unmapped");
    return 5 * MIB;
}

long read_directly(void)
{
    int fd = cached_file(2 * MIB);
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int direct = open(link, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (direct < 0) {
        close(fd);
        return -errno;
    }
    char *area = small_pages(2 * MIB);
    ssize_t got = pread(direct, area, 2 * MIB, 0);
    if (got < 0)
        return -errno;
    STOP("read");
    close(fd);
    close(direct);
    unmap(area, 2 * MIB);
    STOP("unmapped");
    return got;
}

long written_from_fresh(void)
{
    char *area = small_pages(MIB);
    int pair[2];
    MUST(pipe(pair) == 0);
    /* The kernel reads memory that was never touched: zero pages. */
    MUST(write(pair[1], area, 32 * KIB) == 32 * KIB);
    STOP("zero-pages");
    MUST(read(pair[0], area, 32 * KIB) == 32 * KIB);
    STOP("read-back");
    close(pair[0]);
    close(pair[1]);
    unmap(area, MIB);
    STOP("unmapped");
    return 32 * KIB;
}

long vm_read_into_fresh(void)
{
    char *from = small_pages(2 * MIB), *to = small_pages(2 * MIB);
    write_pages(from, MIB);
    struct iovec local = {to, 2 * MIB}, remote = {from, 2 * MIB};
    if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) != 2 * MIB)
        return -errno;
    STOP("read");
    unmap(from, 2 * MIB);
    unmap(to, 2 * MIB);
    STOP("unmapped");
    return 3 * MIB;
}

/* Another process makes this one grow: neither fault nor system call of its own. */
long written_by_another(void)
{
    char *area = small_pages(4 * MIB), *there = area;
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        static char block[MIB];
        struct iovec local = {block, MIB}, remote = {there, MIB};
        MUST(process_vm_writev(parent, &local, 1, &remote, 1, 0) == MIB);
        torture_stop("written_by_another", "by-vm-writev");
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/mem", (int)parent);
        int mem = open(path, O_RDWR | O_CLOEXEC);
        MUST(mem >= 0 && pwrite(mem, block, MIB, (off_t)(uintptr_t)(there + 2 * MIB)) == MIB);
        close(mem);
        torture_stop("written_by_another", "by-proc-mem");
        _exit(0);
    }
    reap(child);
    STOP("alone");
    unmap(area, 4 * MIB);
    STOP("unmapped");
    return 0;
}

long received_into_fresh(void)
{
    char *area = small_pages(MIB);
    static char block[64 * KIB];
    int pair[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    for (long at = 0; at < MIB; at += sizeof block) {
        MUST(write(pair[0], block, sizeof block) == sizeof block);
        struct iovec part = {area + at, sizeof block};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        MUST(recvmsg(pair[1], &message, MSG_WAITALL) == sizeof block);
    }
    STOP("received");
    close(pair[0]);
    close(pair[1]);
    unmap(area, MIB);
    STOP("unmapped");
    return MIB;
}

long random_into_fresh(void)
{
    char *area = small_pages(MIB);
    MUST(getrandom(area, MIB, 0) == MIB);
    STOP("filled");
    unmap(area, MIB);
    STOP("unmapped");
    return MIB;
}

static void on_signal(int number)
{
    (void)number;
    torture_stop("signal_frame_on_fresh", "in-handler");
}

long signal_frame_on_fresh(void)
{
    char *area = small_pages(256 * KIB);
    stack_t stack = {.ss_sp = area, .ss_size = 256 * KIB}, before;
    struct sigaction action, old;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_ONSTACK;
    MUST(sigaltstack(&stack, &before) == 0 && sigaction(SIGUSR2, &action, &old) == 0);
    raise(SIGUSR2);
    MUST(sigaction(SIGUSR2, &old, NULL) == 0 && sigaltstack(&before, NULL) == 0);
    STOP("after");
    unmap(area, 256 * KIB);
    STOP("unmapped");
    return 0;
}

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

/* Another process takes pages away, and gathers some into a huge one. */
long advised_by_another(void)
{
    int fd = cached_file(2 * MIB);
    char *file = map(2 * MIB, MAP_SHARED, fd);
    read_pages(file, 2 * MIB);
    char *area = huge_pages(2 * MIB);
    MUST(madvise(area, 2 * MIB, MADV_NOHUGEPAGE) == 0);
    write_every(area, 2 * MIB, 3 * PAGE);
    MUST(madvise(area, 2 * MIB, MADV_HUGEPAGE) == 0);
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        /* Not shared with anybody, or the advice leaves the pages alone. */
        unmap(file, 2 * MIB);
        unmap(area, 2 * MIB);
        torture_stop("advised_by_another", "touched");
        int pidfd = syscall(SYS_pidfd_open, parent, 0);
        struct iovec out = {file, MIB}, gather = {area, 2 * MIB};
        MUST(pidfd >= 0);
        if (syscall(SYS_process_madvise, pidfd, &out, 1, MADV_PAGEOUT, 0) == MIB)
            torture_stop("advised_by_another", "paged-out");
        if (syscall(SYS_process_madvise, pidfd, &gather, 1, MADV_COLLAPSE, 0) == 2 * MIB)
            torture_stop("advised_by_another", "collapsed");
        _exit(0);
    }
    reap(child);
    STOP("alone");
    unmap(file, 2 * MIB);
    unmap(area, 2 * MIB);
    close(fd);
    STOP("unmapped");
    return 0;
}
