//! One look at running processes, without tracing: their memory by kind, and where each thread
//! of a Python is right now.
//!
//! `collect` asks the kernel, `stacks` walks the threads from outside, `text` and `json` show the
//! finished [`Snapshot`] and do no I/O. Nothing is stopped, so a thread may run while it is
//! walked: what is then not certain is marked.

mod collect;
mod json;
mod stacks;
mod text;

pub use collect::{stacks_of, take};
pub use json::json;
pub use text::text;

use crate::target::{Rollup, Rss};

/// Processes as they were at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// When, in seconds since the epoch.
    pub taken_epoch_s: f64,
    /// Parents before their children.
    pub processes: Vec<Process>,
}

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// Its parent's.
    pub ppid: u32,
    /// How many of its forebears are in the snapshot.
    pub depth: usize,
    /// What people call it.
    pub role: String,
    /// Version of its CPython, if it is one.
    pub python: Option<String>,
    /// Resident bytes by kind.
    pub rss: Rss,
    /// What is shared and what is its own; None when the kernel refuses to tell.
    pub rollup: Option<Rollup>,
    /// Its Python threads, the oldest first; None when there is no Python that can be walked.
    pub threads: Option<Vec<ThreadStack>>,
    /// Its threads that have no Python thread state.
    pub native_threads: usize,
    /// Why something is missing, as a sentence about it.
    pub note: Option<String>,
}

/// The Python stack of one thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadStack {
    /// Its id; None when it could not be told from those of the others.
    pub tid: Option<u32>,
    /// The kernel's name for it. Not escaped.
    pub name: String,
    /// It was not seen asleep from the beginning of the look to its end. Without this mark the
    /// stack is exact; with it, the stack is what was read, and callers may be missing when the
    /// thread lost its CPU in the middle of a call.
    pub running: bool,
    /// It ran, and two walks one after the other differed or got nowhere: this is the second,
    /// whose frames need not belong together.
    pub torn: bool,
    /// Cut at the root side: too deep, or unreadable.
    pub truncated: bool,
    /// It begins where a greenlet does; what called that is not on it.
    pub greenlet: bool,
    /// Leaf first; empty for a thread that runs no Python now.
    pub frames: Vec<StackFrame>,
}

/// One line of one function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StackFrame {
    /// Qualified name (3.11+) or plain name. Not escaped.
    pub function: String,
    /// As in the code object. Not escaped.
    pub file: String,
    /// 0 when it is not known.
    pub line: u32,
}

/// Sums over processes, in bytes. A page that several map is in each one's RSS, and once in PSS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    rss: Rss,
    /// None when one of them is not known.
    pss: Option<u64>,
    uss: Option<u64>,
}

impl Snapshot {
    fn totals(&self) -> Totals {
        let sum = |of: fn(&Rss) -> u64| self.processes.iter().map(|p| of(&p.rss)).sum();
        let known = |of: fn(&Rollup) -> u64| {
            let processes = self.processes.iter();
            processes.map(|p| p.rollup.as_ref().map(of)).sum()
        };
        Totals {
            rss: Rss {
                anon: sum(|rss| rss.anon),
                file: sum(|rss| rss.file),
                shmem: sum(|rss| rss.shmem),
                swap: sum(|rss| rss.swap),
            },
            pss: known(|rollup| rollup.pss),
            uss: known(|rollup| rollup.uss),
        }
    }
}
