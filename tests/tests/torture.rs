//! Every way in which pages come and go: at each of several hundred stops, what the tracer
//! believes is held against the kernel's counts and page tables. Amounts by kind and places equal
//! the kernel's, to the page; copies after fork are within 2 %.
//!
//! `TORTURE_CASES=name,…` runs these cases of the program alone. The table is printed:
//! `cargo test -p memprof-tests --test torture -- --nocapture`.

use std::collections::BTreeMap;

use memprof_tests::machine::require;
use memprof_tests::session::Session;
use memprof_tests::torture::{self, Walk};
use memprof_tests::truth::{self, KIB, Tolerance};
use serde::Deserialize;

#[test]
fn cases_of_c_on_3_10() {
    c("3.10");
}

#[test]
fn cases_of_c_on_3_12() {
    c("3.12");
}

#[test]
fn cases_of_c_on_3_13() {
    c("3.13");
}

#[test]
fn cases_of_c_on_debians_static_3_11() {
    c("debian");
}

#[test]
fn cases_of_python_on_3_10() {
    python("3.10");
}

#[test]
fn cases_of_python_on_3_11() {
    python("3.11");
}

#[test]
fn cases_of_python_on_3_12() {
    python("3.12");
}

#[test]
fn cases_of_python_on_3_13() {
    python("3.13");
}

/// What Python programs do, of which the C library knows nothing.
fn python(version: &str) {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(torture::python(version)) else {
        return;
    };
    let scratch = session.dir().to_string_lossy();
    let mut words = vec!["--scratch", &scratch];
    let chosen = std::env::var("TORTURE_CASES");
    if let Ok(chosen) = &chosen {
        words.extend(["--cases", chosen]);
    }
    let compared = Walk::start(&session, &python, "torture_python.py", &words).compare();
    let done = truth::parse::<Done>(&compared.ended.stdout).remove(0);
    for (case, errno) in done.cases.iter().filter(|&(_, &bytes)| bytes < 0) {
        require::<()>(Err(format!("{case}: errno {}", -errno)));
    }
    compared.assert_exact();
    let report = session.report();
    // The recursion is deeper than a stack is kept.
    let loss = &report.loss;
    let lost = [loss.events_lost, loss.stacks_failed, loss.unknown_threads];
    assert!(lost == [0; 3] && loss.other.is_empty(), "{loss:?}");
    // What is known of it is what the kernel said when the program stood still.
    let process = report.process(compared.pid);
    assert_eq!(process.reconciled.corrected, 0, "{:?}", process.reconciled);
}

/// What torture.py prints.
#[derive(Deserialize)]
struct Done {
    pid: u32,
    cases: BTreeMap<String, i64>,
}

fn c(version: &str) {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(torture::python(version)) else {
        return;
    };
    let Some(library) = require(torture::library(session.dir())) else {
        return;
    };
    let (library, scratch) = (library.to_string_lossy(), session.dir().to_string_lossy());
    let mut words = vec!["--library", &library, "--scratch", &scratch];
    let chosen = std::env::var("TORTURE_CASES");
    if let Ok(chosen) = &chosen {
        words.extend(["--cases", chosen]);
    }
    let compared = Walk::start(&session, &python, "torture.py", &words).compare();
    let done = truth::parse::<Done>(&compared.ended.stdout).remove(0);
    for (case, errno) in done.cases.iter().filter(|&(_, &bytes)| bytes < 0) {
        require::<()>(Err(format!("{case}: errno {}", -errno)));
    }
    compared.assert_exact();
    check_owners(&session, &done);
}

/// The growth of each case stands under the Python function that called it.
#[track_caller]
fn check_owners(session: &Session, done: &Done) {
    let report = session.report_of(done.pid);
    report.assert_nothing_lost();
    // A case's own stack and its first look into its library: a few windows of 16 file pages.
    let near = Tolerance {
        percent: 2.0,
        floor: 256 * KIB,
    };
    for (case, &bytes) in done.cases.iter().filter(|&(_, &bytes)| bytes > 0) {
        let gross = report.gross(case, "torture.py");
        near.check(&format!("gross of {case}"), gross, bytes.unsigned_abs());
    }
    let process = report.process(done.pid);
    assert_eq!(process.gross - process.freed, process.net, "{process:?}");
}
