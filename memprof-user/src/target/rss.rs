//! How much memory a process has resident, in the kernel's own words.
//!
//! `statm` and `status` cost microseconds; `smaps_rollup` walks the page tables (milliseconds a
//! GiB) and alone knows what is shared.

use std::io;

use memprof_common::PAGE_BYTES;

use super::{gone, read_bounded};

/// These files hold a screen of text.
const FILE_BYTES: u64 = 64 * 1024;

/// Resident bytes by kind; RSS is their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rss {
    /// Anonymous pages.
    pub anon: u64,
    /// Pages of files.
    pub file: u64,
    /// Shared memory.
    pub shmem: u64,
    /// Swapped out: not part of RSS.
    pub swap: u64,
}

impl Rss {
    /// RSS in bytes.
    pub fn total(&self) -> u64 {
        self.anon + self.file + self.shmem
    }

    /// Of a live process.
    pub fn read(pid: u32) -> io::Result<Self> {
        let text = read_bounded(&format!("/proc/{pid}/status"), FILE_BYTES)?;
        Self::parse(&text).ok_or_else(|| gone(pid))
    }

    /// None for the status of a zombie or a kernel thread, which has no memory.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(text);
        Some(Rss {
            anon: bytes_of(&text, "RssAnon:")?,
            file: bytes_of(&text, "RssFile:")?,
            shmem: bytes_of(&text, "RssShmem:")?,
            swap: bytes_of(&text, "VmSwap:").unwrap_or(0),
        })
    }
}

/// RSS by what /proc/PID/statm tells apart, in bytes: exact sums over all CPUs, for 0.4 µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statm {
    /// Anonymous pages.
    pub anon: u64,
    /// Pages of files, and shared memory.
    pub other: u64,
}

impl Statm {
    /// Of a live process. An error: it has gone or is a zombie.
    pub fn read(pid: u32) -> io::Result<Self> {
        let text = read_bounded(&format!("/proc/{pid}/statm"), FILE_BYTES)?;
        Self::parse(&text).ok_or_else(|| gone(pid))
    }

    /// `size resident shared …` in pages (Documentation/filesystems/proc.rst).
    fn parse(text: &[u8]) -> Option<Self> {
        let resident = parse_statm(text)?;
        let text = std::str::from_utf8(text).ok()?;
        let shared: u64 = text.split_ascii_whitespace().nth(2)?.parse().ok()?;
        let other = shared.checked_mul(PAGE_BYTES)?;
        Some(Statm {
            anon: resident.checked_sub(other)?,
            other,
        })
    }
}

/// RSS in bytes by the cheapest way. An error: the process has gone or is a zombie.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    let text = read_bounded(&format!("/proc/{pid}/statm"), FILE_BYTES)?;
    parse_statm(&text).ok_or_else(|| gone(pid))
}

fn parse_statm(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let mut fields = text
        .split_ascii_whitespace()
        .map_while(|field| field.parse::<u64>().ok());
    // A process without an address space has size 0.
    let size = fields.next().filter(|&pages| pages > 0);
    size.and(fields.next())?.checked_mul(PAGE_BYTES)
}

/// What `smaps_rollup` adds up over all mappings, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rollup {
    /// Resident.
    pub rss: u64,
    /// Resident, each page divided by how many map it.
    pub pss: u64,
    /// Resident and mapped by nobody else: Private_Clean + Private_Dirty (+ Private_Hugetlb).
    pub uss: u64,
}

impl Rollup {
    /// Of a live process.
    pub fn read(pid: u32) -> io::Result<Self> {
        let text = read_bounded(&format!("/proc/{pid}/smaps_rollup"), FILE_BYTES)?;
        Self::parse(&text).ok_or_else(|| gone(pid))
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(text);
        Some(Rollup {
            rss: bytes_of(&text, "Rss:")?,
            pss: bytes_of(&text, "Pss:")?,
            uss: ["Private_Clean:", "Private_Dirty:", "Private_Hugetlb:"]
                .iter()
                .filter_map(|name| bytes_of(&text, name))
                .fold(0, u64::saturating_add),
        })
    }
}

/// `Name:   123 kB`
fn bytes_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_kernel_s_forms() {
        let status = b"Name:\tx\nVmRSS:\t  12 kB\nRssAnon:\t       8 kB\nRssFile:\t 3 kB\nRssShmem:\t 1 kB\nVmSwap:\t 2 kB\n";
        let rss = Rss::parse(status).unwrap();
        assert_eq!((rss.anon, rss.file, rss.shmem), (8192, 3072, 1024));
        assert_eq!((rss.total(), rss.swap), (12288, 2048));
        let rollup = b"5-7 ---p 0 00:00 0 [rollup]\nRss: 40 kB\nPss: 20 kB\nPss_Anon: 1 kB\nPrivate_Clean: 4 kB\nPrivate_Dirty: 8 kB\n";
        let rollup = Rollup::parse(rollup).unwrap();
        assert_eq!((rollup.rss, rollup.pss, rollup.uss), (40960, 20480, 12288));
        assert_eq!(parse_statm(b"100 25 3 4 0 5 0\n"), Some(25 * 4096));
        let statm = Statm::parse(b"100 25 3 4 0 5 0\n").unwrap();
        assert_eq!((statm.anon, statm.other), (22 * 4096, 3 * 4096));
    }

    #[test]
    fn a_process_without_memory_is_gone() {
        assert_eq!(Rss::parse(b"Name:\tzombie\nState:\tZ (zombie)\n"), None);
        assert_eq!(Rollup::parse(b""), None);
        assert_eq!(parse_statm(b"0 0 0 0 0 0 0\n"), None);
        assert_eq!(parse_statm(b""), None);
    }

    #[test]
    fn the_three_ways_agree_on_this_process() {
        let pid = std::process::id();
        let rollup = Rollup::read(pid).unwrap();
        assert!(rollup.uss <= rollup.pss && rollup.pss <= rollup.rss);
        // Other tests of this process allocate meanwhile: agreement within 64 MiB.
        let near = |bytes: u64| bytes.abs_diff(rollup.rss) < 64 << 20;
        assert!(near(resident_bytes(pid).unwrap()));
        assert!(near(Rss::read(pid).unwrap().total()));
    }
}
