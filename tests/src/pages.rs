//! The kernel's truth about one address space: how much is resident of each kind, and where.
//!
//! A page is resident when /proc/PID/pagemap says present and it is not the zero page, which no
//! count includes; the kernel's own mappings (vvar) stand in the table of pages and in no count.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use serde::Deserialize;

use crate::process;

/// Bytes of a page: the tracer supports x86-64.
pub const PAGE: u64 = 4096;

// Documentation/admin-guide/mm/pagemap.rst
const PRESENT: u64 = 1 << 63;
const FILE_OR_SHARED: u64 = 1 << 61;
const FRAME: u64 = (1 << 55) - 1;
const KPF_SWAPBACKED: u64 = 1 << 14;
const KPF_ZERO_PAGE: u64 = 1 << 24;
/// Entries of pagemap that are read at once.
const CHUNK: u64 = 1 << 16;

/// What a page counts as.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the kernel's words")]
pub enum Kind {
    Anon,
    File,
    Shmem,
}

/// RSS by kind, in bytes.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kernel's words")]
pub struct Rss {
    pub anon: u64,
    pub file: u64,
    pub shmem: u64,
}

impl Rss {
    /// All of it.
    pub fn total(self) -> u64 {
        self.anon + self.file + self.shmem
    }

    /// Of a process that stands still: the two files that tell must agree.
    #[track_caller]
    pub fn of(pid: u32) -> Rss {
        let field = |name| {
            process::status_bytes(pid, name).unwrap_or_else(|| panic!("pid {pid}: no {name}"))
        };
        let rss = Rss {
            anon: field("RssAnon"),
            file: field("RssFile"),
            shmem: field("RssShmem"),
        };
        assert_eq!(process::rss(pid), Some(rss.total()), "statm of pid {pid}");
        rss
    }
}

/// One resident page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// What it counts as.
    pub kind: Kind,
    /// The page frame: two processes that share a page have the same.
    pub frame: u64,
}

/// Page number → page.
pub type PageSet = BTreeMap<u64, Page>;

/// The resident pages of a process that stands still. Needs root: frames are shown to nobody else.
#[track_caller]
pub fn resident(pid: u32) -> PageSet {
    let open = |path: String| File::open(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let pagemap = open(format!("/proc/{pid}/pagemap"));
    let flags = open("/proc/kpageflags".into());
    let mut pages = PageSet::new();
    for (first, end) in mappings(pid) {
        for chunk in (first..end).step_by(CHUNK as usize) {
            let entries = (end - chunk).min(CHUNK);
            let mut bytes = vec![0; entries as usize * 8];
            pagemap
                .read_exact_at(&mut bytes, chunk * 8)
                .unwrap_or_else(|e| panic!("pagemap of {pid} at page {chunk:#x}: {e}"));
            for (page, entry) in (chunk..).zip(bytes.chunks_exact(8).map(word)) {
                if entry & PRESENT != 0
                    && let Some(found) = page_of(&flags, entry)
                {
                    pages.insert(page, found);
                }
            }
        }
    }
    check(pid, &pages);
    pages
}

fn page_of(kpageflags: &File, entry: u64) -> Option<Page> {
    let frame = entry & FRAME;
    assert!(frame != 0, "pagemap hides its frames: not root");
    let mut bytes = [0; 8];
    kpageflags
        .read_exact_at(&mut bytes, frame * 8)
        .unwrap_or_else(|e| panic!("kpageflags of frame {frame:#x}: {e}"));
    let flags = u64::from_ne_bytes(bytes);
    if flags & KPF_ZERO_PAGE != 0 {
        return None;
    }
    let kind = match (entry & FILE_OR_SHARED != 0, flags & KPF_SWAPBACKED != 0) {
        (false, _) => Kind::Anon,
        (true, true) => Kind::Shmem,
        (true, false) => Kind::File,
    };
    Some(Page { kind, frame })
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes.try_into().expect("chunks of 8"))
}

/// First page and one past the last of each mapping whose pages count.
fn mappings(pid: u32) -> Vec<(u64, u64)> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))
        .unwrap_or_else(|e| panic!("maps of {pid}: {e}"));
    maps.lines()
        .filter(|line| !line.contains("[vvar") && !line.contains("[vsyscall]"))
        .filter_map(|line| {
            let (start, end) = line.split_whitespace().next()?.split_once('-')?;
            let page = |hex| Some(u64::from_str_radix(hex, 16).ok()? / PAGE);
            Some((page(start)?, page(end)?))
        })
        .collect()
}

/// The two truths must be one, or the judge is wrong.
#[track_caller]
fn check(pid: u32, pages: &PageSet) {
    let bytes = |kind| pages.values().filter(|page| page.kind == kind).count() as u64 * PAGE;
    let sums = Rss {
        anon: bytes(Kind::Anon),
        file: bytes(Kind::File),
        shmem: bytes(Kind::Shmem),
    };
    assert_eq!(sums, Rss::of(pid), "pagemap and status of pid {pid}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_spelled_as_the_contract_has_it() {
        let kinds: Vec<Kind> = serde_json::from_str(r#"["anon","file","shmem"]"#).expect("kinds");
        assert_eq!(kinds, [Kind::Anon, Kind::File, Kind::Shmem]);
    }
}
