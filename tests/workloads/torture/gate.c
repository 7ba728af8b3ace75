/* The hand-shake, and what the cases share. Nothing here allocates. */
#include "torture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

const char *torture_scratch, *torture_python, *torture_script, *torture_ready, *torture_go;

void torture_begin(const char *scratch, const char *python, const char *script,
                   const char *ready, const char *go)
{
    torture_scratch = scratch;
    torture_python = python;
    torture_script = script;
    torture_ready = ready;
    torture_go = go;
}

void torture_must(int holds, const char *condition, const char *file, int line)
{
    if (holds)
        return;
    dprintf(2, "%s:%d: %s does not hold: %s\n", file, line, condition, strerror(errno));
    _exit(70);
}

/* Writes `NAME STEP PID` to the first FIFO, and waits on the second until somebody opens and
 * closes it. */
void torture_stop(const char *name, const char *step)
{
    char text[128];
    int length = snprintf(text, sizeof text, "%s %s %d", name, step, (int)getpid());
    int fd = open(torture_ready, O_WRONLY | O_CLOEXEC);
    MUST(fd >= 0 && write(fd, text, length) == length);
    close(fd);
    fd = open(torture_go, O_RDONLY | O_CLOEXEC);
    MUST(fd >= 0);
    while (read(fd, text, sizeof text) > 0)
        ;
    close(fd);
}

char *map(long bytes, int flags, int fd)
{
    char *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    MUST(start != MAP_FAILED);
    return start;
}

char *small_pages(long bytes)
{
    char *start = map(bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    MUST(madvise(start, bytes, MADV_NOHUGEPAGE) == 0);
    return start;
}

char *huge_pages(long bytes)
{
    char *start = map(bytes + HUGE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    char *aligned = (char *)(((uintptr_t)start + HUGE - 1) & ~(HUGE - 1));
    if (aligned > start)
        unmap(start, aligned - start);
    if (aligned < start + HUGE)
        unmap(aligned + bytes, start + HUGE - aligned);
    MUST(madvise(aligned, bytes, MADV_HUGEPAGE) == 0);
    return aligned;
}

void unmap(char *start, long bytes)
{
    MUST(munmap(start, bytes) == 0);
}

int cached_file(long bytes)
{
    static const char block[64 * KIB] = "cached";
    char path[512];
    snprintf(path, sizeof path, "%s/torture.XXXXXX", torture_scratch);
    int fd = mkostemp(path, O_CLOEXEC);
    MUST(fd >= 0 && unlink(path) == 0);
    for (long at = 0; at < bytes; at += sizeof block)
        MUST(write(fd, block, sizeof block) == sizeof block);
    /* Clean pages can be reclaimed at once. */
    MUST(fsync(fd) == 0);
    return fd;
}

void write_every(char *start, long bytes, long stride)
{
    for (long at = 0; at < bytes; at += stride)
        ((volatile char *)start)[at] = 1;
}

void write_pages(char *start, long bytes)
{
    write_every(start, bytes, PAGE);
}

long read_every(char *start, long bytes, long stride)
{
    long sum = 0;
    for (long at = 0; at < bytes; at += stride)
        sum += ((volatile char *)start)[at];
    return sum;
}

long read_pages(char *start, long bytes)
{
    return read_every(start, bytes, PAGE);
}

void reap(pid_t child)
{
    int status;
    MUST(waitpid(child, &status, 0) == child);
    MUST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
