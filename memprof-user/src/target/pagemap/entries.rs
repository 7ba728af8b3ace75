//! The entries of /proc/PID/pagemap, eight bytes a page: the way of kernels before 6.7.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use memprof_common::PAGE_BYTES;

use super::{PageKind, Run};

/// Bits of an entry (Documentation/admin-guide/mm/pagemap.rst).
pub(super) const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const FILE: u64 = 1 << 61;
const GUARD: u64 = 1 << 58;
/// One process maps it, once. Never set for the zero page, which nobody owns.
pub(super) const EXCLUSIVE: u64 = 1 << 56;
/// The number of the page frame; zeros without CAP_SYS_ADMIN.
const FRAME: u64 = (1 << 55) - 1;

/// KPF_ZERO_PAGE (include/uapi/linux/kernel-page-flags.h): the small and the huge one.
const ZERO_PAGE: u64 = 1 << 24;

/// Small pages in a huge one, 2 MiB.
const HUGE_PAGES: u64 = 512;

/// Entries read at a time.
pub(super) const ENTRIES: usize = 4096;
/// Bytes of an entry of both files.
pub(super) const ENTRY_BYTES: usize = 8;
/// Frames remembered at most: the small zero page and the 512 of the huge one are all there are,
/// but the huge one may be freed and made again.
const ZERO_FRAMES: usize = 4096;

/// An open pagemap that is read.
#[derive(Debug)]
pub(super) struct Entries {
    pagemap: File,
    frame_flags: Option<File>,
    zero_frames: HashSet<u64>,
    bytes: Box<[u8]>,
}

impl Entries {
    pub(super) fn new(pagemap: File) -> Self {
        Entries {
            pagemap,
            frame_flags: File::open("/proc/kpageflags").ok(),
            zero_frames: HashSet::new(),
            bytes: vec![0; ENTRIES * ENTRY_BYTES].into_boxed_slice(),
        }
    }

    pub(super) fn pages(
        &mut self,
        range: Range<u64>,
        each: &mut impl FnMut(Run),
    ) -> io::Result<()> {
        let mut from = range.start;
        while from < range.end {
            let pages = (range.end - from).div_ceil(PAGE_BYTES).min(ENTRIES as u64);
            let wanted = pages as usize * ENTRY_BYTES;
            let offset = from / PAGE_BYTES * ENTRY_BYTES as u64;
            let read = match self.pagemap.read_at(&mut self.bytes[..wanted], offset) {
                Ok(read) => read / ENTRY_BYTES,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            // The end of the address space, or of the process.
            if read == 0 {
                return Ok(());
            }
            for index in 0..read {
                let mut entry = [0; ENTRY_BYTES];
                entry.copy_from_slice(&self.bytes[index * ENTRY_BYTES..][..ENTRY_BYTES]);
                let start = from + index as u64 * PAGE_BYTES;
                if let Some(kind) = self.kind(start / PAGE_BYTES, u64::from_ne_bytes(entry)) {
                    each(Run {
                        start,
                        end: start + PAGE_BYTES,
                        kind,
                        huge: false,
                    });
                }
            }
            from += read as u64 * PAGE_BYTES;
        }
        Ok(())
    }

    /// Of the page with this number in the address space.
    fn kind(&mut self, page: u64, entry: u64) -> Option<PageKind> {
        let has = |bit: u64| entry & bit != 0;
        let frame = entry & FRAME;
        // The huge zero page passes for one of a file; huge pages lie as in the address space.
        let may_be_zero = !has(FILE) || (page ^ frame) & (HUGE_PAGES - 1) == 0;
        match () {
            () if has(GUARD) => None,
            () if has(PRESENT) && !has(EXCLUSIVE) && may_be_zero && self.is_zero(frame) => {
                Some(PageKind::Zero)
            }
            () if has(PRESENT) && has(FILE) => Some(PageKind::File),
            () if has(PRESENT) => Some(PageKind::Anon),
            () if has(SWAPPED) => Some(PageKind::Swapped),
            () => None,
        }
    }

    /// Frame 0 stands for a number that was withheld.
    fn is_zero(&mut self, frame: u64) -> bool {
        if frame == 0 {
            return false;
        }
        if self.zero_frames.contains(&frame) {
            return true;
        }
        let mut flags = [0; ENTRY_BYTES];
        let read = self.frame_flags.as_ref().is_some_and(|file| {
            file.read_exact_at(&mut flags, frame * ENTRY_BYTES as u64)
                .is_ok()
        });
        let is_zero = read && u64::from_ne_bytes(flags) & ZERO_PAGE != 0;
        if is_zero && self.zero_frames.len() < ZERO_FRAMES {
            self.zero_frames.insert(frame);
        }
        is_zero
    }
}
