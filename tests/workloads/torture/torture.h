/* What the cases share. A case is a function `long NAME(void)` that a Python function of the same
 * name calls: it returns the bytes that it made resident itself, or minus an errno when this
 * machine cannot do it. STOP() is a hand-shake: nothing happens in the process until it is let go. */
#ifndef TORTURE_H
#define TORTURE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/types.h>

#define KIB 1024L
#define MIB (1024L * KIB)
#define PAGE (4 * KIB)
#define HUGE (2 * MIB)

/* From <linux/mman.h> and <asm-generic/mman-common.h>, which older libcs lack. */
#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

/* Ends the process with a message unless the condition holds. */
#define MUST(condition) torture_must((condition), #condition, __FILE__, __LINE__)
#define STOP(step) torture_stop(__func__, (step))

void torture_must(int holds, const char *condition, const char *file, int line);
void torture_stop(const char *name, const char *step);

/* Private anonymous memory; with small pages, or aligned and asked to be huge. */
char *small_pages(long bytes);
char *huge_pages(long bytes);
char *map(long bytes, int flags, int fd);
void unmap(char *start, long bytes);
/* A cached file of the scratch folder, already unlinked. */
int cached_file(long bytes);

/* One byte a page. */
void write_pages(char *start, long bytes);
void write_every(char *start, long bytes, long stride);
long read_pages(char *start, long bytes);
long read_every(char *start, long bytes, long stride);

/* Waits for a child, which must have ended well. */
void reap(pid_t child);

extern const char *torture_scratch, *torture_python, *torture_script, *torture_ready, *torture_go;
#endif
