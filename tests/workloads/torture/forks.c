/* Forks: pages that are shared until somebody writes, children that outlive, executed programs. */
#include "torture.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

/* Ends a child without running what Python registered. */
static void gone(void) { _exit(0); }

long fork_child_writes(void)
{
    char *area = small_pages(8 * MIB);
    write_pages(area, 8 * MIB);
    pid_t child = fork();
    if (child == 0) {
        torture_stop("fork_child_writes", "forked");
        write_pages(area, 2 * MIB);
        torture_stop("fork_child_writes", "child-wrote");
        int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
        MUST(read(zero, area + 2 * MIB, 2 * MIB) == 2 * MIB);
        close(zero);
        torture_stop("fork_child_writes", "kernel-wrote-for-child");
        read_pages(area, 8 * MIB);
        torture_stop("fork_child_writes", "child-read");
        write_pages(area, 2 * MIB);
        torture_stop("fork_child_writes", "child-wrote-again");
        char *own = small_pages(2 * MIB);
        write_pages(own, 2 * MIB);
        torture_stop("fork_child_writes", "child-grew");
        gone();
    }
    reap(child);
    STOP("alone");
    /* Nobody shares them any more: faults, but neither growth nor a copy. */
    write_pages(area, 8 * MIB);
    STOP("written-alone");
    unmap(area, 8 * MIB);
    STOP("unmapped");
    return 8 * MIB;
}

long fork_parent_writes(void)
{
    char *area = small_pages(4 * MIB);
    int up[2], down[2];
    char byte;
    write_pages(area, 4 * MIB);
    MUST(pipe(up) == 0 && pipe(down) == 0);
    pid_t child = fork();
    if (child == 0) {
        MUST(write(up[1], "f", 1) == 1 && read(down[0], &byte, 1) == 1);
        /* The parent has copied: these are the child's alone now. */
        write_pages(area, 2 * MIB);
        MUST(write(up[1], "w", 1) == 1 && read(down[0], &byte, 1) == 1);
        gone();
    }
    MUST(read(up[0], &byte, 1) == 1);
    STOP("forked");
    write_pages(area, 2 * MIB);
    STOP("parent-wrote");
    MUST(write(down[1], "g", 1) == 1 && read(up[0], &byte, 1) == 1);
    STOP("child-wrote-what-it-had-alone");
    MUST(write(down[1], "g", 1) == 1);
    reap(child);
    STOP("alone");
    close(up[0]), close(up[1]), close(down[0]), close(down[1]);
    unmap(area, 4 * MIB);
    STOP("unmapped");
    return 4 * MIB;
}

long fork_huge(void)
{
    char *area = huge_pages(8 * MIB);
    write_pages(area, 8 * MIB);
    pid_t child = fork();
    if (child == 0) {
        torture_stop("fork_huge", "forked");
        write_pages(area + PAGE, PAGE);
        torture_stop("fork_huge", "one-page-written");
        write_pages(area, 4 * MIB);
        torture_stop("fork_huge", "two-huge-written");
        unmap(area + 4 * MIB, MIB);
        torture_stop("fork_huge", "part-unmapped");
        gone();
    }
    reap(child);
    STOP("alone");
    write_pages(area, 8 * MIB);
    STOP("written-alone");
    unmap(area, 8 * MIB);
    STOP("unmapped");
    return 8 * MIB;
}

long fork_child_unmaps(void)
{
    char *area = small_pages(8 * MIB), *wiped = small_pages(MIB), *kept = small_pages(MIB);
    write_pages(area, 8 * MIB);
    write_pages(wiped, MIB);
    write_pages(kept, MIB);
    MUST(madvise(wiped, MIB, MADV_WIPEONFORK) == 0 && madvise(kept, MIB, MADV_DONTFORK) == 0);
    pid_t child = fork();
    if (child == 0) {
        torture_stop("fork_child_unmaps", "forked");
        unmap(area, 2 * MIB);
        torture_stop("fork_child_unmaps", "unmapped");
        MUST(madvise(area + 2 * MIB, 2 * MIB, MADV_DONTNEED) == 0);
        torture_stop("fork_child_unmaps", "not-needed");
        char *moved = mremap(area + 4 * MIB, 2 * MIB, 2 * MIB, MREMAP_MAYMOVE | MREMAP_FIXED, area);
        MUST(moved == area);
        torture_stop("fork_child_unmaps", "moved");
        write_every(area, 2 * MIB, 2 * PAGE);
        torture_stop("fork_child_unmaps", "moved-written");
        gone();
    }
    reap(child);
    STOP("alone");
    unmap(area, 8 * MIB), unmap(wiped, MIB), unmap(kept, MIB);
    STOP("unmapped");
    return 10 * MIB;
}

/* Parent, child, grandchild; the one in the middle dies. */
long fork_chain(void)
{
    char *area = small_pages(6 * MIB);
    int told[2];
    char byte;
    write_pages(area, 2 * MIB);
    MUST(pipe(told) == 0);
    pid_t child = fork();
    if (child == 0) {
        write_pages(area + 2 * MIB, 2 * MIB);
        write_pages(area, MIB);
        pid_t middle = getpid();
        if (fork() == 0) {
            torture_stop("fork_chain", "three");
            write_pages(area + MIB, 2 * MIB);
            torture_stop("fork_chain", "youngest-wrote");
            MUST(write(told[1], "d", 1) == 1);
            while (getppid() == middle)
                usleep(1000);
            torture_stop("fork_chain", "middle-gone");
            write_pages(area, 6 * MIB);
            torture_stop("fork_chain", "orphan-wrote");
            MUST(write(told[1], "e", 1) == 1);
            gone();
        }
        MUST(read(told[0], &byte, 1) == 1);
        gone();
    }
    reap(child);
    MUST(read(told[0], &byte, 1) == 1);
    close(told[0]), close(told[1]);
    STOP("alone");
    unmap(area, 6 * MIB);
    STOP("unmapped");
    return 2 * MIB;
}

static void run_python(const char *name)
{
    char *words[] = {(char *)torture_python, (char *)torture_script, "--ready",
                     (char *)torture_ready,  "--go",                 (char *)torture_go,
                     "--only-stop",          (char *)name,           NULL};
    execv(torture_python, words);
}

long fork_and_exec(void)
{
    char *area = small_pages(4 * MIB);
    write_pages(area, 4 * MIB);
    pid_t child = fork();
    if (child == 0) {
        write_pages(area, 2 * MIB);
        torture_stop("fork_and_exec", "forked");
        run_python("fork_and_exec");
        _exit(71);
    }
    reap(child);
    STOP("alone");
    unmap(area, 4 * MIB);
    STOP("unmapped");
    return 4 * MIB;
}

long vfork_and_exec(void)
{
    char *area = small_pages(4 * MIB);
    write_pages(area, 2 * MIB);
    pid_t child = vfork();
    if (child == 0) {
        /* In the parent's memory, and so the parent's growth. */
        write_pages(area + 2 * MIB, MIB);
        torture_stop("vfork_and_exec", "borrowed");
        run_python("vfork_and_exec");
        _exit(71);
    }
    reap(child);
    STOP("alone");
    unmap(area, 4 * MIB);
    STOP("unmapped");
    return 3 * MIB;
}

static char *of_thread;

static void *forks(void *unused)
{
    pid_t child = fork();
    if (child == 0) {
        torture_stop("fork_in_thread", "forked");
        write_pages(of_thread, MIB);
        torture_stop("fork_in_thread", "child-wrote");
        gone();
    }
    reap(child);
    return unused;
}

long fork_in_thread(void)
{
    pthread_t thread;
    of_thread = small_pages(2 * MIB);
    write_pages(of_thread, 2 * MIB);
    MUST(pthread_create(&thread, NULL, forks, NULL) == 0);
    pthread_join(thread, NULL);
    STOP("alone");
    unmap(of_thread, 2 * MIB);
    STOP("unmapped");
    return 2 * MIB;
}

/* Eight children in a row, each with its own part of what was there. */
long fork_often(void)
{
    char *area = small_pages(4 * MIB);
    write_pages(area, 4 * MIB);
    for (int i = 0; i < 8; i++) {
        pid_t child = fork();
        if (child == 0) {
            write_pages(area + i * 512 * KIB, 512 * KIB);
            torture_stop("fork_often", "child");
            gone();
        }
        write_pages(area + (7 - i) * 512 * KIB, 512 * KIB);
        reap(child);
        STOP("between");
    }
    unmap(area, 4 * MIB);
    STOP("unmapped");
    return 4 * MIB;
}
