//! Which pages of a live process are there, and of what kind: the page tables seen from outside.
//!
//! The kernel does not announce the place of every page (fault-around, populate, reclaim,
//! khugepaged, a child right after fork); this asks. By the PAGEMAP_SCAN ioctl where the kernel
//! has it (6.7), which passes over what is not there; else by /proc/PID/pagemap, eight bytes a
//! page. Neither stops the process; its address space is locked against changes for the time of
//! one call, so the calls are short.
//!
//! The sum of what is resident is the kernel's own: anonymous pages are `RssAnon`, all others
//! `RssFile` + `RssShmem`. Not in it are the zero page, which belongs to nobody, and memory that
//! is mapped without a page (`[vvar]`, devices).

mod entries;
mod scan;
mod sole;

use std::fs::File;
use std::io;
use std::ops::Range;

use memprof_common::PAGE_BYTES;

use super::{Mapping, Mappings};
use entries::Entries;
use scan::Scanner;
pub use sole::Sole;

/// Every whole page that an address space can have.
pub const EVERYWHERE: Range<u64> = 0..!(PAGE_BYTES - 1);

/// What is at a place of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageKind {
    /// Anonymous memory: the process's own, or shared with relatives until somebody writes.
    Anon,
    /// A page of a file or of shared memory.
    File,
    /// The zero page: read and never written. Not part of RSS.
    Zero,
    /// Swapped out, or being moved by the kernel just now. Not resident.
    Swapped,
}

impl PageKind {
    /// True for what RSS counts.
    pub fn is_resident(self) -> bool {
        matches!(self, PageKind::Anon | PageKind::File)
    }
}

/// Neighbouring pages of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Address of the first byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// What they are.
    pub kind: PageKind,
    /// Mapped by huge pages (2 MiB). Always false by [`Method::Entries`].
    pub huge: bool,
}

impl Run {
    /// Bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Never true for a run that was reported; for completeness.
    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    /// True when `next` only continues it.
    fn continues(&self, next: &Run) -> bool {
        self.end == next.start && self.kind == next.kind && self.huge == next.huge
    }
}

/// How the page tables are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By the PAGEMAP_SCAN ioctl.
    Scan,
    /// By the entries of /proc/PID/pagemap. The zero page is told by /proc/kpageflags, which
    /// takes CAP_SYS_ADMIN; without it, it passes for anonymous memory.
    Entries,
}

/// Bytes by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageBytes {
    /// Of [`PageKind::Anon`].
    pub anon: u64,
    /// Of [`PageKind::File`].
    pub file: u64,
    /// Of [`PageKind::Zero`].
    pub zero: u64,
    /// Of [`PageKind::Swapped`].
    pub swapped: u64,
    /// Of `anon` and `file`, mapped by huge pages.
    pub huge: u64,
}

impl PageBytes {
    /// What RSS counts.
    pub fn resident(&self) -> u64 {
        self.anon + self.file
    }

    /// Adds a run.
    pub fn add(&mut self, run: &Run) {
        let sum = match run.kind {
            PageKind::Anon => &mut self.anon,
            PageKind::File => &mut self.file,
            PageKind::Zero => &mut self.zero,
            PageKind::Swapped => &mut self.swapped,
        };
        *sum += run.len();
        if run.huge && run.kind.is_resident() {
            self.huge += run.len();
        }
    }
}

/// The page tables of one address space, open: that of the process at the time of opening, even
/// when the process executes another program later. Of one that has gone it shows nothing.
#[derive(Debug)]
pub struct Pagemap {
    reader: Reader,
}

#[derive(Debug)]
enum Reader {
    Scan(Scanner),
    Entries(Entries),
}

impl Pagemap {
    /// That of a live process, by the better method that this kernel has. Takes the same
    /// privilege as reading its memory.
    pub fn open(pid: u32) -> io::Result<Self> {
        let file = open(pid)?;
        let reader = match Scanner::probe(file)? {
            Ok(scanner) => Reader::Scan(scanner),
            Err(file) => Reader::Entries(Entries::new(file)),
        };
        Ok(Pagemap { reader })
    }

    /// The same by a chosen method; an error where the kernel does not have it.
    pub fn open_by(pid: u32, method: Method) -> io::Result<Self> {
        let file = open(pid)?;
        let reader = match method {
            Method::Entries => Reader::Entries(Entries::new(file)),
            Method::Scan => match Scanner::probe(file)? {
                Ok(scanner) => Reader::Scan(scanner),
                Err(_) => return Err(io::ErrorKind::Unsupported.into()),
            },
        };
        Ok(Pagemap { reader })
    }

    /// How it asks.
    pub fn method(&self) -> Method {
        match self.reader {
            Reader::Scan(_) => Method::Scan,
            Reader::Entries(_) => Method::Entries,
        }
    }

    /// Reports everything that is in a range, in order of address; what is not there is left
    /// out. The range is widened to whole pages.
    ///
    /// The pages of a process that runs change meanwhile: each run was true when its part of the
    /// range was read.
    pub fn pages(&mut self, range: Range<u64>, mut each: impl FnMut(Run)) -> io::Result<()> {
        let start = range.start & !(PAGE_BYTES - 1);
        let end = range.end.div_ceil(PAGE_BYTES).saturating_mul(PAGE_BYTES);
        let mut pending: Option<Run> = None;
        let mut join = |run: Run| match &mut pending {
            Some(last) if last.continues(&run) => last.end = run.end,
            _ => {
                if let Some(last) = pending.replace(run) {
                    each(last);
                }
            }
        };
        match &mut self.reader {
            Reader::Scan(scanner) => scanner.pages(start..end, &mut join)?,
            Reader::Entries(entries) => entries.pages(start..end, &mut join)?,
        }
        if let Some(last) = pending {
            each(last);
        }
        Ok(())
    }

    /// Of these, what RSS counts.
    pub fn resident(&mut self, range: Range<u64>, mut each: impl FnMut(Run)) -> io::Result<()> {
        self.pages(range, |run| {
            if run.kind.is_resident() {
                each(run);
            }
        })
    }

    /// Everything in these mappings that lies in `ranges` (whole pages, in order of address,
    /// without overlap), each run with its mapping, and the sums. What RSS does not count although
    /// it is mapped is left out.
    pub fn address_space<'a>(
        &mut self,
        mappings: &'a Mappings,
        ranges: &[Range<u64>],
        mut each: impl FnMut(&'a Mapping, Run),
    ) -> io::Result<PageBytes> {
        let mut sums = PageBytes::default();
        for mapping in mappings.iter().filter(|mapping| may_count(mapping)) {
            let first = ranges.partition_point(|range| range.end <= mapping.start);
            let inside = ranges[first..].iter();
            for range in inside.take_while(|range| range.start < mapping.end) {
                let part = range.start.max(mapping.start)..range.end.min(mapping.end);
                self.pages(part, |run| {
                    // A shared mapping has no anonymous memory: these are a device's own
                    // addresses.
                    if mapping.shared && run.kind == PageKind::Anon {
                        return;
                    }
                    sums.add(&run);
                    each(mapping, run);
                })?;
            }
        }
        Ok(sums)
    }
}

/// False for mappings in which nothing is ever counted: the kernel's clock pages and the old
/// system call page (no pages of any file or process), and huge pages taken from hugetlbfs, which
/// have an account of their own (HugetlbPages in /proc/PID/status).
fn may_count(mapping: &Mapping) -> bool {
    let name = mapping.path.as_os_str().as_encoded_bytes();
    !name.starts_with(b"[vvar") && name != b"[vsyscall]" && name != b"/anon_hugepage"
}

fn open(pid: u32) -> io::Result<File> {
    File::open(format!("/proc/{pid}/pagemap"))
}
