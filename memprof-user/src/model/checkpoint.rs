//! What the model believes at one moment, for whoever wants to hold it against the page tables.

use std::ops::Range;

use memprof_common::records::{self, flag};
use serde::Serialize;

use super::accounting::Model;
use super::ledger::{Ledger, OwnerId};
use super::process::Process;
use super::profile::{PageKind, Reconciled};
use super::reading::page_kind;

/// Every live process.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Checkpoint {
    /// One row a process.
    pub processes: Vec<Believed>,
}

/// What is believed of one process. Nothing in it was read from the process: it is what the
/// records added up to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Believed {
    /// Which.
    pub pid: u32,
    /// How much is resident.
    pub rss: Kinds,
    /// Where: first byte, one past the last, `anon`/`file`/`shmem`, and `before attach`,
    /// `inherited` (by fork) or `grown`. By address, without overlap.
    pub ranges: Vec<(u64, u64, &'static str, &'static str)>,
    /// Bytes that stopped being shared when this process wrote them.
    pub cow_bytes: u64,
    /// How the sums were held against /proc so far.
    pub reconciled: Reconciled,
}

/// Bytes by kind of page.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Kinds {
    /// Anonymous memory.
    pub anon: u64,
    /// Pages of files.
    pub file: u64,
    /// Shared memory.
    pub shmem: u64,
}

impl Kinds {
    fn add(&mut self, kind: PageKind, bytes: u64) {
        *match kind {
            PageKind::Anon => &mut self.anon,
            PageKind::File => &mut self.file,
            PageKind::Shmem => &mut self.shmem,
        } += bytes;
    }
}

const fn name(kind: PageKind) -> &'static str {
    match kind {
        PageKind::Anon => "anon",
        PageKind::File => "file",
        PageKind::Shmem => "shmem",
    }
}

impl Model {
    /// What is believed now. `pending` are the ranges that the kernel side has not sent yet.
    pub fn checkpoint(&self, pending: &[records::Growth]) -> Checkpoint {
        let (processes, ledger) = self.parts();
        let mut rows: Vec<Believed> = processes
            .live_indexes()
            .filter_map(|index| processes.all().get(index as usize))
            .map(|process| {
                let shared = |range| processes.shared_bytes(process.pid(), range);
                believed(process, ledger, pending, shared)
            })
            .collect();
        rows.sort_by_key(|row| row.pid);
        Checkpoint { processes: rows }
    }
}

/// `shared` says how much of a range that is being written another process has too.
fn believed(
    process: &Process,
    ledger: &Ledger,
    pending: &[records::Growth],
    shared: impl Fn(Range<u64>) -> u64,
) -> Believed {
    let mut row = Believed {
        pid: process.pid(),
        cow_bytes: ledger.cow(process.index()),
        reconciled: process.info().reconciled,
        ..Believed::default()
    };
    let mut space = process.space();
    // An owner that no ledger has: what is still to come.
    let to_come = |kind: PageKind| OwnerId::new(u32::MAX, kind);
    for growth in pending.iter().filter(|one| one.header.pid == process.pid()) {
        if growth.header.flags & flag::UNSHARED != 0 {
            row.cow_bytes += shared(growth.start..growth.end);
        } else if let Some(kind) = page_kind(growth.member) {
            space.grow(growth.start..growth.end, to_come(kind), |_| {});
        }
    }
    for (range, owner, inherited) in space.iter() {
        let kind = owner.kind();
        let owned = match (inherited, ledger.is_before_attach(owner)) {
            (true, _) => "inherited",
            (false, true) => "before attach",
            (false, false) => "grown",
        };
        row.rss.add(kind, range.end - range.start);
        row.ranges.push((range.start, range.end, name(kind), owned));
    }
    for (owner, bytes) in process.unplaced() {
        row.rss.add(owner.kind(), bytes);
    }
    row
}
