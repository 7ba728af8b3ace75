//! A recording looked at afterwards: memory over time and the calls of marked functions, from a
//! `.dat` (mprof's or ours) or from a capture. What `plot`, `peak` and `list` work from.
//!
//! [`dat`] and [`profile`] make a [`Recording`] and do no I/O; [`open()`] knows files, [`Folder`]
//! which there are, and [`Removal`] what goes with them.

mod dat;
mod folder;
mod open;
mod peak;
mod profile;
mod removal;

pub use dat::{is_dat, read as read_dat};
pub use folder::{Folder, stamp};
pub use open::open;
pub use peak::Peaks;
pub use removal::Removal;

use std::fmt;

/// Memory over time of one run, and the calls that were marked in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// The command that ran, when the file tells it. Not escaped.
    pub command: Option<String>,
    /// What the values are (`rss`, `pss`, `uss`), when the file tells it: mprof's do not. Not
    /// escaped.
    pub metric: Option<String>,
    /// [`Recording::main`] is the sum over all processes (`-C`). Only our own files tell it.
    pub includes_children: bool,
    /// The main process, or the sum over all. Without points in a file that has no sample.
    pub main: Series,
    /// The other processes, in their order of appearance.
    pub children: Vec<Series>,
    /// Calls of marked functions, by their begin.
    pub calls: Vec<Call>,
    /// Loss counters of the run that are not zero, by name; empty in mprof's files. Not escaped.
    pub loss: Vec<(String, u64)>,
    /// What of the file could not be used.
    pub skipped: Skipped,
}

/// Memory of one process over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// What the file calls it: a pid, in mprof's files. Empty for the main process when its pid is
    /// not told. Not escaped.
    pub label: String,
    /// The process, when the label tells it.
    pub pid: Option<u32>,
    /// Process title or argv in short, when the file tells it. Not escaped.
    pub role: Option<String>,
    /// Values by time, at a bounded number: of very long recordings, the highest of neighbours.
    pub points: Vec<Point>,
}

/// A value at a time. All numbers are finite, and `bytes` is not negative.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Unix time in seconds.
    pub epoch_s: f64,
    /// Bytes. Not an integer: files have MiB, and scaled by 2^20 these stay what they were.
    pub bytes: f64,
}

/// One call of a marked function, or several short ones of one function in a row. All numbers are
/// finite, and the end is not before the begin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call {
    /// `module.qualname`. Not escaped.
    pub function: String,
    /// The process that ran it; None for the main process.
    pub pid: Option<u32>,
    /// Memory by the main series at the begin.
    pub begin: Point,
    /// Memory by the main series at the end.
    pub end: Point,
    /// Memory of the process that ran it at the begin and at the end, in bytes, when it is told.
    pub own_bytes: Option<[f64; 2]>,
    /// Depth among marked calls of its process, from 0.
    pub level: u32,
    /// How many calls began in it: 0 when a suspended one (a generator, a coroutine) went on.
    pub calls: u64,
    /// Begin and end are guessed from stacks.
    pub approximate: bool,
}

/// Lines of a file that were passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Lines that are not what their keyword promises, or begin with no known one.
    pub lines: u64,
    /// The first of them, from 1.
    pub first_line: u64,
    /// The last line ends in the middle.
    pub cut: bool,
    /// Calls and processes beyond what is kept.
    pub beyond_limits: u64,
}

impl Recording {
    /// All series, the main one first.
    pub fn series(&self) -> impl Iterator<Item = &Series> {
        std::iter::once(&self.main).chain(&self.children)
    }

    /// The series of the process that ran a call; None when the file has none.
    pub fn series_of(&self, call: &Call) -> Option<&Series> {
        match call.pid {
            None => Some(&self.main),
            pid => self.children.iter().find(|child| child.pid == pid),
        }
    }
}

impl Series {
    /// The highest value; the first of equal ones.
    pub fn peak(&self) -> Option<Point> {
        let higher = |a: Point, b: &Point| if b.bytes > a.bytes { *b } else { a };
        let (first, rest) = self.points.split_first()?;
        Some(rest.iter().fold(*first, higher))
    }

    /// The value at a time, on the line between its neighbours; 0 without any point.
    pub fn at(&self, epoch_s: f64) -> f64 {
        let after = self.points.partition_point(|p| p.epoch_s < epoch_s);
        let before = after.checked_sub(1).and_then(|at| self.points.get(at));
        match (before, self.points.get(after)) {
            (Some(a), Some(b)) => {
                let share = (epoch_s - a.epoch_s) / (b.epoch_s - a.epoch_s);
                a.bytes + (b.bytes - a.bytes) * share
            }
            (_, Some(only)) | (Some(only), None) => only.bytes,
            (None, None) => 0.0,
        }
    }

    /// The values from one time to another, both included.
    pub fn between(&self, begin_epoch_s: f64, end_epoch_s: f64) -> &[Point] {
        let from = self.points.partition_point(|p| p.epoch_s < begin_epoch_s);
        let to = self.points.partition_point(|p| p.epoch_s <= end_epoch_s);
        self.points.get(from..to).unwrap_or(&[])
    }
}

impl Call {
    /// Its length in seconds.
    pub fn duration_s(&self) -> f64 {
        self.end.epoch_s - self.begin.epoch_s
    }

    /// What memory grew by from its begin to its end, in bytes, below zero when it shrank: of the
    /// process that ran it when that is told, else by the main series.
    pub fn growth_bytes(&self) -> f64 {
        match self.own_bytes {
            Some([begin, end]) => end - begin,
            None => self.end.bytes - self.begin.bytes,
        }
    }

    /// Whether a user means this function by `name`: its whole name, its end from a dot on, or
    /// either after `PID/`, as the .dat has it.
    pub fn is_named(&self, name: &str) -> bool {
        let (pid, name) = dat::split_pid(name);
        if pid.is_some() && pid != self.pid {
            return false;
        }
        let before = self.function.strip_suffix(name);
        !name.is_empty() && before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
    }
}

impl Skipped {
    /// Nothing was.
    pub fn is_empty(&self) -> bool {
        *self == Skipped::default()
    }
}

/// A sentence for a warning.
impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match self.lines {
            0 => {}
            1 => parts.push(format!("line {} is not understood", self.first_line)),
            lines => parts.push(format!(
                "{lines} lines are not understood, the first is line {}",
                self.first_line
            )),
        }
        if self.cut {
            parts.push("the last line is cut".to_owned());
        }
        if self.beyond_limits > 0 {
            parts.push(format!(
                "{} lines are of more processes or calls than are kept",
                self.beyond_limits
            ));
        }
        write!(f, "{}; the rest is used", parts.join("; "))
    }
}

/// Brings calls into order: by begin, outer before inner; and levels begin at 0 in each process,
/// wherever the file's own band of a process begins.
fn settle(calls: &mut [Call]) {
    let mut lowest = std::collections::HashMap::new();
    for call in calls.iter() {
        let level: &mut u32 = lowest.entry(call.pid).or_insert(call.level);
        *level = (*level).min(call.level);
    }
    for call in calls.iter_mut() {
        call.level -= lowest.get(&call.pid).copied().unwrap_or(0);
    }
    calls.sort_by(|a, b| {
        let order = a.begin.epoch_s.total_cmp(&b.begin.epoch_s);
        order.then(a.level.cmp(&b.level))
    });
}
