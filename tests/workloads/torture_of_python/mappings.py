"""The mmap module, in all its forms."""
import mmap
import os

from .common import (
    MADV_COLLAPSE, MADV_POPULATE_WRITE, PAGE, PRIVATE, MiB,
    in_child, read, reap, stop, temporary, touch,
)


def mmap_anonymous():
    area = mmap.mmap(-1, 8 * MiB, PRIVATE)
    touch(area, 0, 2 * MiB)
    read(area, 2 * MiB, 4 * MiB)
    stop("mmap_anonymous", "touched-and-read")
    touch(area, 8 * MiB - PAGE, 8 * MiB)
    area[3 * MiB:4 * MiB] = bytes(MiB)
    stop("mmap_anonymous", "zero-pages-written")
    area.resize(16 * MiB)
    touch(area, 8 * MiB, 16 * MiB, 3 * PAGE)
    stop("mmap_anonymous", "larger")
    area.resize(MiB)
    stop("mmap_anonymous", "smaller")
    area.close()
    stop("mmap_anonymous", "closed")


def mmap_advised():
    area = mmap.mmap(-1, 8 * MiB, PRIVATE)
    touch(area)
    area.madvise(mmap.MADV_DONTNEED, MiB, 2 * MiB)
    stop("mmap_advised", "not-needed")
    area.madvise(MADV_POPULATE_WRITE, 0, 2 * MiB)
    stop("mmap_advised", "populated")
    area.madvise(mmap.MADV_FREE, 4 * MiB, MiB)
    stop("mmap_advised", "free")
    touch(area, 4 * MiB, 5 * MiB)
    area.madvise(mmap.MADV_HUGEPAGE)
    area.madvise(mmap.MADV_DONTNEED)
    touch(area)
    stop("mmap_advised", "huge")
    area.madvise(mmap.MADV_DONTNEED, 3 * MiB + PAGE, 2 * MiB)
    stop("mmap_advised", "huge-in-part")
    try:
        area.madvise(MADV_COLLAPSE)
    except OSError:
        pass  # not everywhere; whatever it did must be seen
    stop("mmap_advised", "collapsed")
    area.close()
    stop("mmap_advised", "closed")


def mmap_shared():
    area = mmap.mmap(-1, 8 * MiB)
    touch(area, 0, 4 * MiB)
    stop("mmap_shared", "touched")

    def child():
        read(area, 0, 2 * MiB)
        touch(area, 4 * MiB, 6 * MiB)
        stop("mmap_shared", "child-touched")

    reap(in_child(child))
    read(area, 4 * MiB, 6 * MiB)
    stop("mmap_shared", "read-what-the-child-made")
    area.madvise(mmap.MADV_REMOVE, 0, MiB)
    stop("mmap_shared", "removed")
    area.close()
    stop("mmap_shared", "closed")


def mmap_of_file():
    with temporary(4 * MiB) as file:
        area = mmap.mmap(file.fileno(), 0)
        read(area, 0, MiB)
        stop("mmap_of_file", "read")
        touch(area, MiB, 2 * MiB, 5 * PAGE)
        area.flush()
        stop("mmap_of_file", "written")
        area.resize(8 * MiB)
        touch(area, 7 * MiB, 8 * MiB)
        stop("mmap_of_file", "larger")
        area.resize(2 * MiB)
        stop("mmap_of_file", "smaller")
        area.close()
        stop("mmap_of_file", "closed")


def mmap_copied():
    with temporary(4 * MiB) as file:
        area = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        read(area, 0, 2 * MiB)
        stop("mmap_copied", "read")
        touch(area, MiB, 3 * MiB)
        stop("mmap_copied", "written")

        def child():
            touch(area, 0, 4 * MiB)
            stop("mmap_copied", "child-wrote")

        reap(in_child(child))
        area.close()
        stop("mmap_copied", "closed")


def file_cut_and_grown():
    with temporary(4 * MiB) as file:
        shared = mmap.mmap(file.fileno(), 0)
        private = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        touch(shared)
        touch(private, 0, 4 * MiB, 2 * PAGE)
        read(private)
        stop("file_cut_and_grown", "touched")
        os.truncate(file.fileno(), MiB)
        stop("file_cut_and_grown", "cut")
        os.posix_fallocate(file.fileno(), 0, 4 * MiB)
        stop("file_cut_and_grown", "allocated")
        read(shared)
        touch(private)
        stop("file_cut_and_grown", "read")

        def child():
            os.ftruncate(file.fileno(), 2 * MiB)
            stop("file_cut_and_grown", "cut-by-child")

        reap(in_child(child))
        # Its tail is beyond the end of the file, and stays mapped.
        shared.close()
        private.close()
        stop("file_cut_and_grown", "closed")


def memfd():
    fd = os.memfd_create("torture")
    os.ftruncate(fd, 4 * MiB)
    area = mmap.mmap(fd, 4 * MiB)
    os.pwrite(fd, b"w" * MiB, MiB)
    stop("memfd", "written-by-call")
    read(area)
    stop("memfd", "read")
    os.ftruncate(fd, MiB)
    stop("memfd", "cut")
    os.posix_fallocate(fd, 0, 4 * MiB)
    touch(area, 2 * MiB, 4 * MiB)
    stop("memfd", "grown")
    area.close()
    os.close(fd)
    stop("memfd", "closed")
