//! How a view of one process differs from the truth.

use crate::checkpoint::Believed;
use crate::pages::{PAGE, PageSet, Rss};

/// How far the tracer is off in one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Off {
    /// Its RSS less the kernel's, in pages: anon, file, shmem.
    pub rss: [i64; 3],
    /// Pages believed and not there, there and not believed, of another kind.
    pub places: [u64; 3],
}

impl Off {
    /// Pages of RSS and of places in which this is not what it was.
    pub fn beyond(self, then: Off) -> [u64; 2] {
        let rss = self.rss.iter().zip(then.rss);
        let places = self.places.iter().zip(then.places);
        [
            rss.map(|(now, then)| now.abs_diff(then)).sum(),
            places.map(|(now, then)| now.abs_diff(then)).sum(),
        ]
    }

    /// What is believed, less the truth.
    pub fn of(believed: &Believed, rss: Rss, truth: &PageSet) -> Off {
        let less = |got: u64, want: u64| (got.cast_signed() - want.cast_signed()) / PAGE as i64;
        let pages = believed.pages();
        let gone = pages.keys().filter(|page| !truth.contains_key(page));
        let missing = truth.keys().filter(|page| !pages.contains_key(page));
        let other = |page, kind| truth.get(page).is_some_and(|page| page.kind != kind);
        let kind = pages.iter().filter(|&(page, &kind)| other(page, kind));
        Off {
            rss: [
                less(believed.rss.anon, rss.anon),
                less(believed.rss.file, rss.file),
                less(believed.rss.shmem, rss.shmem),
            ],
            places: [gone.count(), missing.count(), kind.count()].map(|pages| pages as u64),
        }
    }
}

/// The mapping in which the first page differs, and the page.
pub fn places(pid: u32, believed: &Believed, truth: &PageSet) -> String {
    let pages = believed.pages();
    let kind = |page| truth.get(page).map(|page| page.kind);
    let mut all = pages.keys().chain(truth.keys());
    let Some(page) = all.find(|page| pages.get(page).copied() != kind(page)) else {
        return String::from("every page is right");
    };
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let holds = |line: &&str| {
        let mut ends = line.split([' ', '-']);
        let mut end = || u64::from_str_radix(ends.next()?, 16).ok();
        matches!((end(), end()), (Some(start), Some(end)) if (start..end).contains(&(page * PAGE)))
    };
    let mapping = maps.lines().find(holds).unwrap_or("no mapping");
    format!(
        "first {:#x} ({:?}, truly {:?}) in {mapping}",
        page * PAGE,
        pages.get(page),
        kind(page)
    )
}

impl std::fmt::Display for Off {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ([anon, file, shmem], [gone, missing, kind]) = (self.rss, self.places);
        write!(
            f,
            "pages of RSS too many: anon {anon}, file {file}, shmem {shmem}; places: {gone} \
             believed and not there, {missing} there and not believed, {kind} of another kind"
        )
    }
}
