//! The tracer's own view of its targets, asked for while it runs.
//!
//! The contract: on `SIGUSR1` memprof-ebpf takes what the ring holds, with the ranges that still
//! grow in the kernel side, asks the page tables where a record left the place open, and writes
//! `BASE.checkpoint-N.json`, N from 1, under a temporary name that is then renamed. No count in it
//! comes from /proc: it is what the records added up to.
//! ```text
//! {"processes":[{
//!   "pid": 1234,
//!   "rss": {"anon": BYTES, "file": BYTES, "shmem": BYTES},
//!   "ranges": [[START, END, KIND, OWNED], …],
//!   "cow_bytes": BYTES,
//!   "reconciled": {"checks": N, "looks": N, "largest_drift": BYTES, "corrected": BYTES, "last_drift": BYTES}
//! }, …]}
//! ```
//! One row a live process. `ranges`: the pages believed resident, by address, without overlap, in
//! whole pages; KIND is `anon`, `file` or `shmem`, OWNED is `before attach`, `inherited` (resident
//! at fork, with its parent's owner) or `grown`. `cow_bytes`: the pages that this process copied
//! because it wrote to them while another one had them too, since it began to be traced.
//! `reconciled`: how the sums were held against /proc while the process stood still. A process that
//! borrows its parent's memory (vfork) may be left out until it executes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde::Deserialize;

use crate::pages::{Kind, PAGE, Rss};
use crate::process::within;
use crate::program::Program;
use crate::report::Reconciled;

/// What the tracer believes at one moment.
#[derive(Debug, Deserialize)]
pub struct Checkpoint {
    /// One row a live process.
    pub processes: Vec<Believed>,
}

/// What it believes of one process.
#[derive(Debug, Deserialize)]
pub struct Believed {
    /// Which.
    pub pid: u32,
    /// How much is resident.
    pub rss: Rss,
    /// Where it is.
    pub ranges: Vec<(u64, u64, Kind, Owned)>,
    /// How much it has copied.
    pub cow_bytes: u64,
    /// How it was held against /proc.
    pub reconciled: Reconciled,
}

/// How a page came to be resident.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Owned {
    /// It was there when the trace began.
    #[serde(rename = "before attach")]
    BeforeAttach,
    /// It was there at fork.
    #[serde(rename = "inherited")]
    Inherited,
    /// It came during the trace.
    #[serde(rename = "grown")]
    Grown,
}

impl Checkpoint {
    /// The row of a process.
    pub fn process(&self, pid: u32) -> Option<&Believed> {
        self.processes.iter().find(|row| row.pid == pid)
    }
}

impl Believed {
    /// Page number → kind; panics when ranges overlap, are out of order or no whole pages.
    #[track_caller]
    pub fn pages(&self) -> BTreeMap<u64, Kind> {
        let mut pages = BTreeMap::new();
        let mut last = 0;
        for &(start, end, kind, _) in &self.ranges {
            assert!(
                last <= start && start < end && start % PAGE == 0 && end % PAGE == 0,
                "pid {}: range {start:#x}-{end:#x} after {last:#x}",
                self.pid
            );
            last = end;
            pages.extend((start / PAGE..end / PAGE).map(|page| (page, kind)));
        }
        pages
    }
}

/// Asks one tracer again and again.
pub struct Checkpoints {
    base: PathBuf,
    asked: u32,
}

impl Checkpoints {
    /// For a tracer that runs with `-o base`.
    pub fn new(base: &Path) -> Checkpoints {
        Checkpoints {
            base: base.to_path_buf(),
            asked: 0,
        }
    }

    /// Has the tracer write the next one and reads it. Its targets must stand still.
    #[track_caller]
    pub fn ask(&mut self, tracer: &mut Program) -> Checkpoint {
        self.asked += 1;
        let mut name = self.base.clone().into_os_string();
        name.push(format!(".checkpoint-{}.json", self.asked));
        let path = PathBuf::from(name);
        tracer.signal(Signal::USR1);
        let mut ended = false;
        let text = within(crate::process::PATIENCE, || {
            ended = tracer.has_ended();
            let text = std::fs::read_to_string(&path).ok();
            (ended || text.is_some()).then_some(text)
        })
        .flatten();
        let text = text.unwrap_or_else(|| {
            let why = if ended {
                "ended at SIGUSR1"
            } else {
                "wrote nothing after SIGUSR1"
            };
            panic!(
                "the tracer {why} instead of writing {}; its stderr:\n{}",
                path.display(),
                tracer.stderr_so_far()
            )
        });
        // Hundreds of them, each with the whole page map.
        let _ = std::fs::remove_file(&path);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}
