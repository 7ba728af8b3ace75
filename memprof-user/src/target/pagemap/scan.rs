//! The PAGEMAP_SCAN ioctl (Linux 6.7): ranges of pages by category, with what is not wanted left
//! out by the kernel.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd as _;

use super::{PageKind, Run};

/// Categories (PAGE_IS_*, include/uapi/linux/fs.h).
const FILE: u64 = 1 << 2;
const PRESENT: u64 = 1 << 3;
const SWAPPED: u64 = 1 << 4;
const PFNZERO: u64 = 1 << 5;
const HUGE: u64 = 1 << 6;
/// Since 6.15; an older kernel refuses it.
const GUARD: u64 = 1 << 8;

/// Regions taken in one call. The kernel takes no more at a time (PAGEMAP_WALK_SIZE, 2 MiB of
/// small pages: fs/proc/task_mmu.c).
const REGIONS: usize = 512;

/// Limits of one call, for the time of which the process cannot map or unmap: pages found (40 to
/// 70 ns each, 0.3 ms in all) and address space passed over (0.6 ms where tables are and pages are
/// not).
const CALL_PAGES: u64 = 4096;
const CALL_BYTES: u64 = 1 << 30;

/// struct pm_scan_arg (include/uapi/linux/fs.h, Linux 6.7, commit 52526ca7fdb9).
#[repr(C)]
#[derive(Debug, Default)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const _: () = assert!(size_of::<ScanArg>() == 96);

/// struct page_region (the same file).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

const _: () = assert!(size_of::<Region>() == 24);

/// `_IOWR(PROCFS_IOCTL_MAGIC, 16, struct pm_scan_arg)`: direction 3 (read and write) from bit 30,
/// size from bit 16, 'f' from bit 8.
const PAGEMAP_SCAN: libc::Ioctl =
    3 << 30 | (size_of::<ScanArg>() as libc::Ioctl) << 16 | (b'f' as libc::Ioctl) << 8 | 16;

/// An open pagemap that is asked by the ioctl.
#[derive(Debug)]
pub(super) struct Scanner {
    pagemap: File,
    regions: Box<[Region]>,
    /// The kernel tells guard pages, which are neither there nor swapped.
    knows_guard: bool,
}

impl Scanner {
    /// Asks the kernel whether it has the ioctl; the file back when it has not.
    pub(super) fn probe(pagemap: File) -> io::Result<Result<Self, File>> {
        let mut scanner = Scanner {
            pagemap,
            regions: vec![Region::default(); REGIONS].into_boxed_slice(),
            knows_guard: true,
        };
        for knows_guard in [true, false] {
            scanner.knows_guard = knows_guard;
            match scanner.call(0..0) {
                Ok(_) => return Ok(Ok(scanner)),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINVAL) if knows_guard => {}
                    Some(libc::ENOTTY) => return Ok(Err(scanner.pagemap)),
                    _ => return Err(error),
                },
            }
        }
        Ok(Err(scanner.pagemap))
    }

    pub(super) fn pages(
        &mut self,
        range: Range<u64>,
        each: &mut impl FnMut(Run),
    ) -> io::Result<()> {
        let mut from = range.start;
        while from < range.end {
            let call = self.call(from..range.end.min(from.saturating_add(CALL_BYTES)));
            let (count, walked) = match call {
                // Its last thread is just giving the address space back.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
                call => call?,
            };
            for region in self.regions.iter().take(count) {
                if let Some(run) = run(region) {
                    each(run);
                }
            }
            // The kernel walks at least a page, or this would not end.
            if walked <= from {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            from = walked;
        }
        Ok(())
    }

    /// One call: how many regions were filled in, and up to which address.
    fn call(&mut self, range: Range<u64>) -> io::Result<(usize, u64)> {
        let guard = if self.knows_guard { GUARD } else { 0 };
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            start: range.start,
            end: range.end,
            vec: self.regions.as_mut_ptr() as u64,
            vec_len: self.regions.len() as u64,
            max_pages: CALL_PAGES,
            // Any of these, and no guard page.
            category_anyof_mask: PRESENT | SWAPPED,
            category_mask: guard,
            category_inverted: guard,
            return_mask: FILE | PRESENT | SWAPPED | PFNZERO | HUGE,
            ..ScanArg::default()
        };
        // SAFETY: `arg` has the layout and the size that the ioctl expects and lives through the
        // call; `vec` and `vec_len` describe `regions`, which is writable and exclusively
        // borrowed, and any bits are a valid Region.
        let filled = unsafe { libc::ioctl(self.pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut arg) };
        match usize::try_from(filled) {
            Ok(filled) => Ok((filled, arg.walk_end)),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

/// None for what is neither there nor swapped.
fn run(region: &Region) -> Option<Run> {
    let has = |category: u64| region.categories & category != 0;
    let kind = match () {
        () if has(PRESENT) && has(PFNZERO) => PageKind::Zero,
        () if has(PRESENT) && has(FILE) => PageKind::File,
        () if has(PRESENT) => PageKind::Anon,
        () if has(SWAPPED) => PageKind::Swapped,
        () => return None,
    };
    Some(Run {
        start: region.start,
        end: region.end,
        kind,
        huge: has(HUGE),
    })
}
