//! The finished result of a run: an immutable value from which every view is made.
//!
//! Amounts are bytes. Its size grows with the number of distinct stacks and the length of the
//! run, never with the number of events.

use serde::{Deserialize, Serialize};

/// Everything that a run learned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The traced command line, or those of the processes attached to.
    pub command: String,
    /// Unix time of the start, in seconds.
    pub started_epoch_s: f64,
    /// Length of the run in seconds.
    pub duration_s: f64,
    /// Every traced process, in order of appearance. Two entries may have one pid (reuse).
    pub processes: Vec<Process>,
    /// Distinct Python functions.
    pub functions: Vec<Function>,
    /// Distinct (function, line).
    pub frames: Vec<Frame>,
    /// Distinct stacks of frames.
    pub stacks: Vec<Stack>,
    /// Who made what resident: one row a (process, stack, cause, page kind).
    pub owners: Vec<Owner>,
    /// RSS over time.
    pub samples: Vec<Sample>,
    /// Begin and end of marked functions.
    pub marks: Vec<Mark>,
    /// What was lost.
    pub loss: LossTotals,
}

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// Its parent's pid.
    pub ppid: u32,
    /// Process title or argv in short.
    pub role: String,
    /// CPython version ("3.11.7"), None when it is not Python.
    pub python: Option<String>,
    /// Unix time at which it was first seen and last seen, in seconds.
    pub first_epoch_s: f64,
    /// See `first_epoch_s`.
    pub last_epoch_s: f64,
    /// RSS when it was first seen (for a forked child: at fork).
    pub rss_start: u64,
    /// RSS when it ended (just before its exit) or at the end of the run.
    pub rss_end: u64,
    /// Highest RSS seen.
    pub rss_peak: u64,
    /// PSS at the end, where it could be read.
    pub pss_end: Option<u64>,
    /// What it had resident at fork with its parent's owners (0 when not forked in the run).
    pub inherited: u64,
    /// What it had resident before the attach, by the page tables just after (0 when it was
    /// traced from its start).
    #[serde(default)]
    pub before_attach: u64,
    /// Of this, what was left at the end.
    #[serde(default)]
    pub before_attach_end: u64,
    /// True when it has gone before the run ended.
    pub exited: bool,
    /// How the sums were held against the kernel's.
    #[serde(default)]
    pub reconciled: Reconciled,
}

/// How what records add up to was held against the kernel's own numbers. Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciled {
    /// Times that the sums were compared with /proc while the process stood still.
    pub checks: u64,
    /// Looks at page tables, for places that no record tells.
    pub looks: u64,
    /// The largest difference to /proc that a check found. Each one was corrected by the page
    /// tables.
    pub largest_drift: u64,
    /// Σ of these differences.
    pub corrected: u64,
    /// The difference at the last check.
    pub last_drift: u64,
}

/// One Python function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Function {
    /// Qualified name (3.11+) or plain name, as in the code object. Not escaped.
    pub name: String,
    /// Path of the source file as in the code object. Not escaped.
    pub file: String,
    /// First line of the function (`co_firstlineno`).
    pub first_line: u32,
}

/// One line of one function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// Index into [`Profile::functions`].
    pub function: u32,
    /// Line in its file; 0 when it is not known.
    pub line: u32,
}

/// One stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stack {
    /// Indexes into [`Profile::frames`], root first (outermost call first). May be empty.
    pub frames: Vec<u32>,
    /// The stack was cut at the root side.
    pub truncated: bool,
}

/// Why pages became resident, apart from the Python stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Cause {
    /// A Python stack did it (the stack is not empty).
    Python,
    /// The interpreter itself, before its first Python frame or between frames.
    Interpreter,
    /// A thread without a Python thread state in a Python process.
    NoPythonFrame,
    /// A process that is not Python (or not a supported one).
    NotPython,
    /// Another process did it (process_vm_writev, ptrace), or a thread of the kernel's
    /// (khugepaged).
    OtherProcess,
    /// The page tables show it, and no record has told of it.
    Found,
    /// The stack could not be read.
    Unknown,
}

/// What kind of page it is, as the kernel counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PageKind {
    /// Anonymous memory (heap, stacks, private written pages).
    Anon,
    /// Pages of files, shared with the page cache.
    File,
    /// Shared memory.
    Shmem,
}

/// What one stack of one process made resident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Index into [`Profile::processes`].
    pub process: u32,
    /// Index into [`Profile::stacks`].
    pub stack: u32,
    /// Why.
    pub cause: Cause,
    /// Of which kind.
    pub kind: PageKind,
    /// The kernel took the pages for the program, inside a system call (read() into fresh
    /// memory, populate).
    pub in_kernel: bool,
    /// All bytes that became resident.
    pub gross: u64,
    /// Of these, given back.
    pub freed: u64,
    /// Resident when the process's RSS was highest.
    pub peak: u64,
    /// Bytes that stopped being shared after fork.
    pub cow: u64,
    /// Growth events.
    pub events: u64,
}

impl Owner {
    /// Still resident at the end.
    pub fn net(&self) -> u64 {
        self.gross.saturating_sub(self.freed)
    }
}

/// RSS (or PSS, USS) of one process at one time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Unix time in seconds.
    pub epoch_s: f64,
    /// Index into [`Profile::processes`].
    pub process: u32,
    /// Bytes.
    pub bytes: u64,
    /// True for the process that MEM lines show (the first target); others are its CHLD lines.
    pub main: bool,
}

/// Begin and end of one call of a marked function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Index into [`Profile::processes`].
    pub process: u32,
    /// `module.qualname`.
    pub function: String,
    /// Unix times in seconds.
    pub begin_epoch_s: f64,
    /// See `begin_epoch_s`.
    pub end_epoch_s: f64,
    /// RSS at the begin and at the end, bytes.
    pub rss_begin: u64,
    /// See `rss_begin`.
    pub rss_end: u64,
    /// Depth among marked calls of its thread.
    pub level: u32,
}

/// What was lost, by cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossTotals {
    /// Records dropped because the ring buffer was full, or that could not be decoded.
    pub events_lost: u64,
    /// Stacks cut at the root side.
    pub stacks_truncated: u64,
    /// Stacks that could not be read.
    pub stacks_failed: u64,
    /// Threads of traced processes that were not known.
    pub unknown_threads: u64,
    /// Other counters that are not zero, by name.
    pub other: Vec<(String, u64)>,
}
