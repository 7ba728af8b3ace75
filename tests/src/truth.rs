//! The workloads' own answers, read from /proc by themselves, and how near a report must come.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

/// 2^20.
pub const MIB: u64 = 1 << 20;
/// 2^10.
pub const KIB: u64 = 1 << 10;

/// What growth.py prints.
#[derive(Debug, Deserialize)]
pub struct Growth {
    /// Its pid.
    pub pid: u32,
    /// Bytes by function.
    pub truth: BTreeMap<String, Amounts>,
    /// RSS before the first function.
    pub rss_before: u64,
    /// RSS after the last.
    pub rss_after: u64,
}

/// What one function did to RSS.
#[derive(Debug, Deserialize)]
pub struct Amounts {
    /// Gained at the high point.
    pub gross: i64,
    /// Still held at the end.
    pub net: i64,
}

/// What each worker of prefork.py prints.
#[derive(Debug, Deserialize)]
pub struct Worker {
    /// Its pid.
    pub pid: u32,
    /// Bytes by function.
    pub truth: BTreeMap<String, u64>,
}

/// The values of all lines that are JSON objects: a traced program's standard output is its own,
/// and what the tracer says stands around it.
#[track_caller]
pub fn parse<T: for<'de> Deserialize<'de>>(stdout: &str) -> Vec<T> {
    let values: Vec<T> = stdout
        .lines()
        .filter(|line| line.starts_with('{'))
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert!(
        !values.is_empty(),
        "no truth in the program's output:\n{stdout}"
    );
    values
}

/// How far a value may be from the truth: a share of it, or a floor where the share is small.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Percent of the truth.
    pub percent: f64,
    /// Bytes.
    pub floor: u64,
}

impl Tolerance {
    /// True when `got` is as near to `truth` as allowed.
    pub fn holds(self, got: u64, truth: u64) -> bool {
        got.abs_diff(truth) as f64 <= self.allowed(truth)
    }

    fn allowed(self, truth: u64) -> f64 {
        (truth as f64 * self.percent / 100.0).max(self.floor as f64)
    }

    /// Panics when `got` is further from `truth` than allowed.
    #[track_caller]
    pub fn check(self, what: &str, got: u64, truth: u64) {
        let allowed = self.allowed(truth);
        let off = got.abs_diff(truth);
        assert!(
            self.holds(got, truth),
            "{what}: {got} bytes reported, {truth} are true: {off} off, {allowed:.0} allowed"
        );
    }
}

/// Lines (from 1) of a source file that contain a text.
#[track_caller]
pub fn lines_with(source: &Path, text: &str) -> Vec<u32> {
    let source_text = std::fs::read_to_string(source)
        .unwrap_or_else(|e| panic!("read {}: {e}", source.display()));
    let lines: Vec<u32> = (1..)
        .zip(source_text.lines())
        .filter(|(_, line)| line.contains(text))
        .map(|(number, _)| number)
        .collect();
    assert!(
        !lines.is_empty(),
        "{text:?} does not occur in {}",
        source.display()
    );
    lines
}

/// The line of `def NAME(` in a source file.
#[track_caller]
pub fn first_line(source: &Path, function: &str) -> u32 {
    let lines = lines_with(source, &format!("def {function}("));
    assert_eq!(
        lines.len(),
        1,
        "{function} is defined more than once in {}",
        source.display()
    );
    lines[0]
}

/// The lines inside a function (from the one after its `def`) that contain a text.
#[track_caller]
pub fn lines_of(source: &Path, function: &str, text: &str) -> Vec<u32> {
    let first = first_line(source, function);
    let next = lines_with(source, "def ")
        .into_iter()
        .find(|&line| line > first)
        .unwrap_or(u32::MAX);
    let lines: Vec<u32> = lines_with(source, text)
        .into_iter()
        .filter(|&line| first < line && line < next)
        .collect();
    assert!(!lines.is_empty(), "{text:?} does not occur in {function}");
    lines
}
