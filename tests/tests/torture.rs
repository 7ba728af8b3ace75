//! Every way in which pages come and go: at each of several hundred stops, what the tracer
//! believes is held against the kernel's page tables. In the cases of [`EXACT`] the amount and the
//! places of anonymous memory equal the kernel's, to the page. (Which file pages the kernel maps
//! around a fault is guessed; the table says how well. It also does for the other cases of
//! torture.py, where more is not followed yet.)
//!
//! `TORTURE_CASES=name,…` runs these cases of torture.py instead. The table is printed:
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

/// Cases that are exact: what the kernel announces, by a fault or by a call on the address space.
const EXACT: [&str; 30] = [
    "anon_backwards",
    "anon_random",
    "zero_page_read_then_written",
    "populated_by_mmap",
    "populated_by_advice",
    "unmapped_in_part",
    "mapped_over",
    "heap_moved",
    "protected_and_back",
    "huge_written",
    "huge_zero_then_written",
    "huge_split_by_munmap",
    "huge_split_by_mprotect",
    "huge_split_by_advice",
    "huge_by_collapse",
    "huge_moved",
    "file_private_written",
    "file_populated",
    "written_from_fresh",
    "vm_read_into_fresh",
    "received_into_fresh",
    "random_into_fresh",
    "signal_frame_on_fresh",
    "mremap_in_place",
    "mremap_moved",
    "mremap_onto_another",
    "mremap_left_mapped",
    "advised_not_needed",
    "advised_removed",
    "stack_grown",
];

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
    let chosen = std::env::var("TORTURE_CASES").unwrap_or_else(|_| EXACT.join(","));
    words.extend(["--cases", &chosen]);
    let compared = Walk::start(&session, &python, "torture.py", &words).compare();
    let done = truth::parse::<Done>(&compared.ended.stdout).remove(0);
    for (case, errno) in done.cases.iter().filter(|&(_, &bytes)| bytes < 0) {
        require::<()>(Err(format!("{case}: errno {}", -errno)));
    }
    compared.assert_anon_exact(&EXACT);
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
    let exact = |case: &str| EXACT.contains(&case);
    for (case, &bytes) in done
        .cases
        .iter()
        .filter(|&(case, &bytes)| bytes > 0 && exact(case))
    {
        let gross = report.gross(case, "torture.py");
        near.check(&format!("gross of {case}"), gross, bytes.unsigned_abs());
    }
    let process = report.process(done.pid);
    assert_eq!(process.gross - process.freed, process.net, "{process:?}");
}
