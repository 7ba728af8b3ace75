//! `report --json` as the contract has it: a key that is missing or of another type fails.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The whole report.
#[derive(Debug, Deserialize)]
pub struct Report {
    /// Version of this format.
    pub schema: u32,
    /// The traced command.
    pub command: String,
    /// Length of the run in seconds.
    pub duration_s: f64,
    /// Always "bytes" here.
    pub metric: String,
    /// One row a process.
    pub processes: Vec<Process>,
    /// One row a function.
    pub functions: Vec<Function>,
    /// One row a line.
    pub lines: Vec<Line>,
    /// Where the growth went.
    pub accounting: Accounting,
    /// The growth by named kinds.
    pub kinds: Vec<Kind>,
    /// The rows `file` and `shmem` of `kinds`, by file.
    pub files: Vec<MappedFile>,
    /// Native code, where it was asked for.
    pub native: Vec<Native>,
    /// What was resident before the trace.
    pub before_attach: BeforeAttach,
    /// PSS and USS over time.
    pub shares: Vec<Share>,
    /// Marked functions.
    pub marks: Vec<Mark>,
    /// What was lost.
    pub loss: Loss,
}

/// One process.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the contract's words say what they are")]
pub struct Process {
    pub pid: u32,
    pub ppid: u32,
    pub role: String,
    pub python: Option<String>,
    pub rss_start: u64,
    pub rss_end: u64,
    pub rss_peak: u64,
    pub gross: u64,
    pub freed: u64,
    pub net: u64,
    pub cow: u64,
    pub inherited: u64,
    pub unattributed: u64,
    pub mapped: u64,
    pub mapped_gross: u64,
    pub pss_start: Option<u64>,
    pub pss_end: Option<u64>,
    pub pss_peak: Option<u64>,
    pub uss_start: Option<u64>,
    pub uss_end: Option<u64>,
    pub uss_peak: Option<u64>,
    pub reconciled: Reconciled,
    pub before_attach_by_kind: BTreeMap<String, u64>,
    pub before_attach_end_by_kind: BTreeMap<String, u64>,
}

/// How the sums were held against /proc, in times and bytes.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the contract's words say what they are")]
pub struct Reconciled {
    pub checks: u64,
    pub looks: u64,
    pub largest_drift: u64,
    pub corrected: u64,
    pub last_drift: u64,
}

/// The growth of one kind.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the contract's words say what they are")]
pub struct Kind {
    pub kind: String,
    pub gross: u64,
    pub freed: u64,
    pub net: u64,
    pub peak: u64,
    pub cow: u64,
    pub events: u64,
    /// Of its gross, owned by a Python stack.
    pub python: u64,
}

/// One file, or one piece of shared memory.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the contract's words say what they are")]
pub struct MappedFile {
    pub file: String,
    /// `file` or `shmem`.
    pub kind: String,
    pub gross: u64,
    pub freed: u64,
    pub net: u64,
}

/// One function of a library.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the contract's words say what they are")]
pub struct Native {
    pub library: String,
    pub symbol: Option<String>,
    pub net: u64,
    pub gross: u64,
    pub freed: u64,
    pub peak: u64,
    pub cow: u64,
}

/// What was resident before the trace, then and at the end.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the contract's words say what they are")]
pub struct BeforeAttach {
    pub start: u64,
    pub end: u64,
    pub start_by_kind: BTreeMap<String, u64>,
    pub end_by_kind: BTreeMap<String, u64>,
}

/// PSS and USS of a process at one time.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the contract's words say what they are")]
pub struct Share {
    pub pid: u32,
    pub time: f64,
    pub pss: u64,
    pub uss: u64,
}

/// One function; `line` is its first line.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the contract's words say what they are")]
pub struct Function {
    pub function: String,
    pub file: String,
    pub line: u32,
    pub net: u64,
    pub gross: u64,
    pub freed: u64,
    pub peak: u64,
    pub cow: u64,
    pub self_net: u64,
    pub self_gross: u64,
    pub self_cow: u64,
    pub mapped: u64,
    pub mapped_gross: u64,
    pub mapped_reserved: u64,
    pub self_mapped: u64,
    pub self_mapped_gross: u64,
}

/// One line.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the contract's words say what they are")]
pub struct Line {
    pub file: String,
    pub line: u32,
    pub function: String,
    pub net: u64,
    pub gross: u64,
    pub freed: u64,
    pub peak: u64,
    pub cow: u64,
    pub self_net: u64,
    pub self_gross: u64,
    pub mapped: u64,
    pub mapped_gross: u64,
    pub self_mapped: u64,
    pub self_mapped_gross: u64,
}

/// Where the growth went.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the contract's words say what they are")]
pub struct Accounting {
    pub rss_growth: u64,
    pub python: u64,
    pub attributed: u64,
    pub unattributed: u64,
    pub by_kind: BTreeMap<String, u64>,
}

/// One marked function of one process.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the contract's words say what they are")]
pub struct Mark {
    pub pid: u32,
    pub function: String,
    pub calls: u64,
    pub cut: u64,
    pub first_begin: f64,
    pub last_end: f64,
    pub running_s: f64,
    pub rss_delta: i64,
    pub rss_peak: u64,
    pub approximate: bool,
    pub levels: Vec<MarkLevel>,
}

/// Its calls on one level.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the contract's words say what they are")]
pub struct MarkLevel {
    pub level: u32,
    pub calls: u64,
    pub total_s: f64,
    pub rss_delta: i64,
}

/// What was lost.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the contract's words say what they are")]
pub struct Loss {
    pub events_lost: u64,
    pub stacks_truncated: u64,
    pub stacks_failed: u64,
    pub unknown_threads: u64,
    /// Counters beyond the contract's four.
    #[serde(default)]
    pub other: BTreeMap<String, u64>,
}

impl Report {
    /// Reads the output of `report --json`.
    #[track_caller]
    pub fn parse(json: &str) -> Report {
        let report: Report = serde_json::from_str(json)
            .unwrap_or_else(|e| panic!("not the report's JSON ({e}):\n{json}"));
        assert_eq!(report.schema, 1, "schema");
        assert_eq!(report.metric, "bytes", "metric");
        report
    }

    /// The only function of this name that a given source file has.
    #[track_caller]
    pub fn function(&self, name: &str, file: &str) -> &Function {
        self.find(name, file).unwrap_or_else(|| {
            let names: Vec<_> = self
                .functions
                .iter()
                .map(|f| (&f.function, &f.file))
                .collect();
            panic!("no function {name} of {file} in the report; it has {names:?}")
        })
    }

    /// The same, when it may be missing.
    #[track_caller]
    pub fn find(&self, name: &str, file: &str) -> Option<&Function> {
        let mut rows = self
            .functions
            .iter()
            .filter(|row| row.function == name && row.file.ends_with(&format!("/{file}")));
        let first = rows.next();
        assert!(rows.next().is_none(), "two rows for {name} of {file}");
        first
    }

    /// Bytes that a function made resident; 0 when the report does not have it.
    #[track_caller]
    pub fn gross(&self, name: &str, file: &str) -> u64 {
        self.find(name, file).map_or(0, |row| row.gross)
    }

    /// The process with this pid.
    #[track_caller]
    pub fn process(&self, pid: u32) -> &Process {
        self.processes
            .iter()
            .find(|process| process.pid == pid)
            .unwrap_or_else(|| panic!("no pid {pid} in {:?}", self.processes))
    }

    /// The row of one kind.
    #[track_caller]
    pub fn kind(&self, kind: &str) -> &Kind {
        let row = self.kinds.iter().find(|row| row.kind == kind);
        row.unwrap_or_else(|| panic!("no kind {kind} in {:?}", self.kinds))
    }

    /// The row of one file.
    #[track_caller]
    pub fn mapped_file(&self, file: &str) -> &MappedFile {
        let row = self.files.iter().find(|row| row.file == file);
        row.unwrap_or_else(|| panic!("no file {file} in {:?}", self.files))
    }

    /// A marked function of a process.
    #[track_caller]
    pub fn mark(&self, pid: u32, function: &str) -> &Mark {
        let mut rows = self.marks.iter();
        rows.find(|mark| mark.pid == pid && mark.function == function)
            .unwrap_or_else(|| panic!("no mark {function} of {pid} in {:?}", self.marks))
    }

    /// The only row of this function of a library whose file has this name.
    #[track_caller]
    pub fn native(&self, library: &str, symbol: Option<&str>) -> &Native {
        let mut rows = self.native.iter().filter(|row| {
            row.library.rsplit('/').next() == Some(library) && row.symbol.as_deref() == symbol
        });
        let row = rows.next();
        assert!(
            rows.next().is_none(),
            "two rows for {symbol:?} of {library}"
        );
        row.unwrap_or_else(|| panic!("no {symbol:?} of {library} in {:?}", self.native))
    }

    /// Sum of the processes' net.
    pub fn net(&self) -> u64 {
        self.processes.iter().map(|process| process.net).sum()
    }

    /// Panics when anything was lost.
    #[track_caller]
    pub fn assert_nothing_lost(&self) {
        let loss = &self.loss;
        let contract = [
            loss.events_lost,
            loss.stacks_truncated,
            loss.stacks_failed,
            loss.unknown_threads,
        ];
        let other = loss.other.values().copied();
        assert!(
            contract.into_iter().chain(other).all(|n| n == 0),
            "lost: {loss:?}"
        );
    }

    /// Panics when less than these shares (of 1) of the growth are attributed and owned by Python.
    #[track_caller]
    pub fn assert_shares(&self, attributed: f64, python: f64) {
        let sums = &self.accounting;
        assert!(sums.rss_growth > 0, "no growth at all: {sums:?}");
        assert_eq!(
            sums.attributed + sums.unattributed,
            sums.rss_growth,
            "{sums:?}"
        );
        assert_eq!(
            sums.by_kind.values().sum::<u64>(),
            sums.rss_growth,
            "{sums:?}"
        );
        let by_kind: u64 = self.kinds.iter().map(|row| row.gross).sum();
        assert_eq!(by_kind, sums.rss_growth, "{:?}", self.kinds);
        let share = |part: u64| part as f64 / sums.rss_growth as f64;
        assert!(
            share(sums.attributed) >= attributed,
            "attributed < {attributed}: {sums:?}"
        );
        assert!(share(sums.python) >= python, "python < {python}: {sums:?}");
    }
}
