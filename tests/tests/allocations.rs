//! Statements that allocate, by the dozen, on every CPython: each one's growth stands at its own
//! line, as the program itself reads it from /proc before and after.

use std::path::PathBuf;

use memprof_tests::machine::{self, require, workload};
use memprof_tests::program::Program;
use memprof_tests::report::Report;
use memprof_tests::session::Session;
use memprof_tests::truth::{self, KIB};
use serde::Deserialize;

/// What the program says.
#[derive(Debug, Deserialize)]
struct Truth {
    /// Kind of the statement, its line, RSS after it.
    lines: Vec<(String, u32, u64)>,
}

/// The noise of a reading of RSS and of what note() itself allocates.
const NOISE: u64 = 256 * KIB;

/// A test for each of these interpreters.
macro_rules! allocations {
    ($($name:ident: $python:expr;)*) => {$(
        #[test]
        fn $name() {
            each_line_has_its_growth($python);
        }
    )*};
}

allocations! {
    allocating_lines_on_3_6: machine::interpreter("3.6");
    allocating_lines_on_3_7: machine::interpreter("3.7");
    allocating_lines_on_3_8: machine::interpreter("3.8");
    allocating_lines_on_3_9: machine::interpreter("3.9");
    allocating_lines_on_3_10: machine::interpreter("3.10");
    allocating_lines_on_3_11: machine::interpreter("3.11");
    allocating_lines_on_debians_static_3_11: machine::debian_interpreter();
    allocating_lines_on_3_12: machine::interpreter("3.12");
    allocating_lines_on_3_13: machine::interpreter("3.13");
    allocating_lines_on_debians_static_3_13: machine::packaged_interpreter("3.13");
    allocating_lines_on_3_14: machine::interpreter("3.14");
    allocating_lines_on_3_15: machine::interpreter("3.15");
}

/// What the program with the hot loop says.
#[derive(Debug, Deserialize)]
struct Compiled {
    /// Kind of the statement, its line, what it has kept.
    lines: Vec<(String, u32, u64)>,
    /// Bytes of executable memory without a file: what the JIT has made.
    compiled: u64,
}

#[test]
fn allocating_lines_of_compiled_code_on_3_14() {
    lines_of_a_hot_loop("3.14", true);
}

#[test]
fn allocating_lines_of_compiled_code_on_3_15() {
    lines_of_a_hot_loop("3.15", true);
}

#[test]
fn allocating_lines_of_a_hot_loop_on_3_15() {
    lines_of_a_hot_loop("3.15", false);
}

/// With the JIT a statement that calls nothing leaves the frame's instruction where it was: its
/// growth stands at the last line before it that called.
fn lines_of_a_hot_loop(version: &str, jit: bool) {
    let Some(session) = Session::open() else {
        return;
    };
    // Debian builds these with the JIT, which is off unless asked for.
    let Some(python) = require(machine::packaged_interpreter(version)) else {
        return;
    };
    let script = workload("compiled.py");
    let (python, script) = (python.to_string_lossy(), script.to_string_lossy());
    let mut command = session.command(&["run", "-o", "out", "--", &python, &script]);
    command.env("PYTHON_JIT", u8::from(jit).to_string());
    let ended = Program::start(&mut command).finish().expect_code(0);
    let truth = truth::parse::<Compiled>(&ended.stdout).remove(0);
    assert_eq!(truth.compiled > 0, jit, "{truth:?}");
    let report = session.report();
    report.assert_nothing_lost();
    let kept = |kind| truth.lines.iter().find(|line| line.0 == kind).unwrap();
    let gross = |line| {
        let rows = report.lines.iter();
        let row = rows.filter(|row| row.function == "work" && row.file.ends_with("compiled.py"));
        row.filter(|row| row.line == line)
            .map(|row| row.gross)
            .sum()
    };
    let [short, tuple, long] = ["short", "tuple", "long"].map(kept);
    let near = |found: u64, bytes: u64| {
        // What the interpreter has in its free lists is reused, and a pool has a head.
        let tolerance = bytes / 50 + NOISE;
        assert!(
            found.abs_diff(bytes) <= tolerance,
            "{found} of {bytes}: {truth:?}"
        );
    };
    near(gross(long.1), long.2);
    near(gross(short.1) + gross(tuple.1), short.2 + tuple.2);
    if !jit {
        near(gross(tuple.1), tuple.2);
    }
}

fn each_line_has_its_growth(python: Result<PathBuf, String>) {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(python) else {
        return;
    };
    let script = workload("allocations.py");
    let (python, script) = (python.to_string_lossy(), script.to_string_lossy());
    let ended = session.run(&["run", "-o", "out", "--", &python, &script]);
    let truth = truth::parse::<Truth>(&ended.stdout).remove(0);
    let report = session.report();
    report.assert_nothing_lost();
    let mut wrong = Vec::new();
    let mut grown = 0;
    for pair in truth.lines.windows(2) {
        let (before, (kind, line, after)) = (pair[0].2, &pair[1]);
        let growth = after.saturating_sub(before);
        let (gross, net) = amounts(&report, *line);
        grown += usize::from(growth >= 1024 * KIB);
        // What a line gave back again is in its gross, but not in the difference.
        if gross + NOISE < growth || net > growth + NOISE {
            wrong.push(format!(
                "{kind} (line {line}): grown {growth}, gross {gross}, net {net}"
            ));
        }
    }
    assert!(grown >= 40, "only {grown} of the statements allocated");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Gross and net of a line of main().
fn amounts(report: &Report, line: u32) -> (u64, u64) {
    let row = report
        .lines
        .iter()
        .find(|row| row.function == "main" && row.line == line && row.file.ends_with(SOURCE));
    row.map_or((0, 0), |row| (row.gross, row.net))
}

/// The program.
const SOURCE: &str = "allocations.py";
