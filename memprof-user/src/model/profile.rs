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
    /// Distinct pieces of native code on top of stacks. Empty unless it was asked for.
    #[serde(default)]
    pub natives: Vec<Native>,
    /// Distinct stacks of frames.
    pub stacks: Vec<Stack>,
    /// Files and shared memory that pages belong to. Bounded in number.
    #[serde(default)]
    pub files: Vec<MappedFile>,
    /// Who made what resident: one row a (process, stack, cause, page kind, file).
    pub owners: Vec<Owner>,
    /// RSS over time, or what `metric` says.
    pub samples: Vec<Sample>,
    /// What the samples are; None in captures that do not tell.
    #[serde(default)]
    pub metric: Option<Metric>,
    /// PSS and USS over time: rarely read, as they cost a walk over the page tables.
    #[serde(default)]
    pub shares: Vec<Share>,
    /// Calls of marked functions, for drawing: bounded in number, see [`Mark::calls`].
    pub marks: Vec<Mark>,
    /// What all calls of marked functions add up to: one row a process and function.
    #[serde(default)]
    pub marked: Vec<MarkedFunction>,
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
    /// PSS when it was first read; None when the process went before that.
    #[serde(default)]
    pub pss_start: Option<u64>,
    /// PSS as last read: at the end of the run, or some time before its own.
    pub pss_end: Option<u64>,
    /// Highest PSS read.
    #[serde(default)]
    pub pss_peak: Option<u64>,
    /// USS when `pss_start` was read.
    #[serde(default)]
    pub uss_start: Option<u64>,
    /// USS when `pss_end` was read.
    #[serde(default)]
    pub uss_end: Option<u64>,
    /// Highest USS read.
    #[serde(default)]
    pub uss_peak: Option<u64>,
    /// What it had resident at fork with its parent's owners (0 when not forked in the run).
    pub inherited: u64,
    /// What it had resident before the attach, by the page tables just after (0 when it was
    /// traced from its start).
    #[serde(default)]
    pub before_attach: u64,
    /// Of this, what was left at the end.
    #[serde(default)]
    pub before_attach_end: u64,
    /// `before_attach` by the kind of page.
    #[serde(default)]
    pub before_attach_by_kind: ByPageKind,
    /// `before_attach_end` by the kind of page.
    #[serde(default)]
    pub before_attach_end_by_kind: ByPageKind,
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
    /// Index into [`Profile::natives`]: the code that the innermost frame had called, or that ran
    /// without Python. None where that was the interpreter's own loop, or nobody asked.
    #[serde(default)]
    pub native: Option<u32>,
    /// The outermost frame is a greenlet's first, and not called by the thread's own.
    #[serde(default)]
    pub greenlet: bool,
}

/// Native code: what ran when pages became resident, or what called into the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Native {
    /// Path of the library or program as the target's mappings have it, or a name in brackets for
    /// code that is in no file. Not escaped.
    pub library: String,
    /// Name of the function as the library's symbols have it; None where none covers the place.
    /// Not escaped.
    pub symbol: Option<String>,
}

/// What pages of kind [`PageKind::File`] or [`PageKind::Shmem`] belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MappedFile {
    /// Path as the target's mappings have it (`/memfd:x (deleted)`), or a name in brackets for
    /// what has no path. Not escaped.
    pub path: String,
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
    /// Another process did it from outside: it wrote to the memory (process_vm_writev, ptrace), or
    /// the kernel put pages there unasked (khugepaged).
    OtherProcess,
    /// No record announced the pages: a look at the page tables found them.
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

/// Bytes by kind of page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByPageKind {
    /// [`PageKind::Anon`]
    pub anon: u64,
    /// [`PageKind::File`]
    pub file: u64,
    /// [`PageKind::Shmem`]
    pub shmem: u64,
}

impl ByPageKind {
    /// Adds bytes of one kind.
    pub fn add(&mut self, kind: PageKind, bytes: u64) {
        let sum = self.of(kind);
        *sum = sum.saturating_add(bytes);
    }

    /// Takes bytes of one kind away.
    pub fn take(&mut self, kind: PageKind, bytes: u64) {
        let sum = self.of(kind);
        *sum = sum.saturating_sub(bytes);
    }

    fn of(&mut self, kind: PageKind) -> &mut u64 {
        match kind {
            PageKind::Anon => &mut self.anon,
            PageKind::File => &mut self.file,
            PageKind::Shmem => &mut self.shmem,
        }
    }

    /// What is left of this when `gone` has gone.
    pub fn without(self, gone: ByPageKind) -> ByPageKind {
        ByPageKind {
            anon: self.anon.saturating_sub(gone.anon),
            file: self.file.saturating_sub(gone.file),
            shmem: self.shmem.saturating_sub(gone.shmem),
        }
    }

    /// All kinds.
    pub fn sum(self) -> u64 {
        let file = self.anon.saturating_add(self.file);
        file.saturating_add(self.shmem)
    }
}

impl std::ops::AddAssign for ByPageKind {
    fn add_assign(&mut self, other: ByPageKind) {
        self.add(PageKind::Anon, other.anon);
        self.add(PageKind::File, other.file);
        self.add(PageKind::Shmem, other.shmem);
    }
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
    /// Index into [`Profile::files`]; None for anonymous memory, and where the file is not known.
    #[serde(default)]
    pub file: Option<u32>,
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
    /// Address space that it asked for and that was still mapped at the end of the trace, or just
    /// before its process ended.
    #[serde(default)]
    pub mapped: u64,
    /// All address space that it asked for during the trace.
    #[serde(default)]
    pub mapped_gross: u64,
    /// Of `mapped`, asked for without access (PROT_NONE) and not touched since: an allocator's
    /// reserve.
    #[serde(default)]
    pub mapped_reserved: u64,
    /// Of `mapped`, resident, whoever made it so.
    #[serde(default)]
    pub mapped_touched: u64,
}

impl Owner {
    /// Still resident at the end.
    pub fn net(&self) -> u64 {
        self.gross.saturating_sub(self.freed)
    }
}

/// What samples are, and MEM and CHLD lines show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Resident set size.
    #[default]
    Rss,
    /// Proportional set size.
    Pss,
    /// Unique set size.
    Uss,
}

impl Metric {
    /// `rss`, `pss`, `uss`.
    pub const fn name(self) -> &'static str {
        match self {
            Metric::Rss => "rss",
            Metric::Pss => "pss",
            Metric::Uss => "uss",
        }
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

/// PSS and USS of one process at one time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Unix time in seconds.
    pub epoch_s: f64,
    /// Index into [`Profile::processes`].
    pub process: u32,
    /// Resident, each page divided by how many map it, bytes.
    pub pss: u64,
    /// Resident and mapped by nobody else, bytes.
    pub uss: u64,
}

/// Begin and end of one call of a marked function, or of short neighbouring ones on one level.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Index into [`Profile::processes`].
    pub process: u32,
    /// `module.qualname`. Not escaped.
    pub function: String,
    /// Unix times in seconds.
    pub begin_epoch_s: f64,
    /// See `begin_epoch_s`.
    pub end_epoch_s: f64,
    /// RSS at the begin and at the end, bytes.
    pub rss_begin: u64,
    /// See `rss_begin`.
    pub rss_end: u64,
    /// Depth among marked calls of its thread or greenlet.
    pub level: u32,
    /// Calls that began in it: 0 when a suspended one went on.
    #[serde(default = "one")]
    pub calls: u64,
    /// Its end was not seen: the process ended, or the trace, or the record was lost.
    #[serde(default)]
    pub cut: bool,
    /// Begin and end are guessed from stacks.
    #[serde(default)]
    pub approximate: bool,
}

fn one() -> u64 {
    1
}

/// All calls of one marked function in one process. Exact, whatever their number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MarkedFunction {
    /// Index into [`Profile::processes`].
    pub process: u32,
    /// `module.qualname`. Not escaped.
    pub function: String,
    /// Calls, nested ones too. A generator or coroutine that goes on is no other call.
    pub calls: u64,
    /// Of these, those whose end was not seen: see [`Mark::cut`].
    pub cut: u64,
    /// Begin of the first call, Unix time in seconds.
    pub first_begin_epoch_s: f64,
    /// End of the last, Unix time in seconds.
    pub last_end_epoch_s: f64,
    /// Time during which at least one of them ran, in seconds.
    pub running_s: f64,
    /// Change of RSS during this time, bytes: nested and concurrent calls count once.
    pub rss_delta: i64,
    /// Highest RSS known of during this time, bytes.
    pub rss_peak: u64,
    /// Begin and end are guessed from stacks.
    pub approximate: bool,
    /// The same by level, from 0 on; deeper calls than are told apart are in the last one.
    pub levels: Vec<MarkedLevel>,
}

/// The calls of one marked function on one level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MarkedLevel {
    /// Calls.
    pub calls: u64,
    /// Σ of their time, in seconds.
    pub total_s: f64,
    /// Σ of the changes of RSS from begin to end, bytes.
    pub rss_delta: i64,
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
