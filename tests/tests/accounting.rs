//! The report's sums against the kernel's own count, by every means that Python has to make RSS
//! go up and down.

use std::path::PathBuf;
use std::process::Command;

use memprof_tests::gate::Gate;
use memprof_tests::machine::{self, require, workload};
use memprof_tests::process::{rss, wait_asleep};
use memprof_tests::program::Program;
use memprof_tests::report::Report;
use memprof_tests::session::Session;
use memprof_tests::truth::{KIB, Tolerance};
use rustix::process::Signal;

/// The program sleeps in open() whenever RSS is read, here and in the tracer, so the two counts
/// are of one moment and the sums could be equal to the page. 16 pages are left for what was
/// resident before the trace and went in it, which is no row of the report: pages of the
/// interpreter's own image that fork makes private (file - 1, anon + 1), a trimmed heap top.
/// 0.1 % is left for two threads that fault at once: the kernel's two events of a fault then come
/// interleaved, and a page may be credited one event late.
const SUMS: Tolerance = Tolerance {
    percent: 0.1,
    floor: 64 * KIB,
};

#[test]
fn sums_equal_the_kernels_on_3_10() {
    check(machine::interpreter("3.10"));
}

#[test]
fn sums_equal_the_kernels_on_3_11() {
    check(machine::interpreter("3.11"));
}

#[test]
fn sums_equal_the_kernels_on_3_12() {
    check(machine::interpreter("3.12"));
}

#[test]
fn sums_equal_the_kernels_on_3_13() {
    check(machine::interpreter("3.13"));
}

#[test]
fn sums_equal_the_kernels_on_debians_static_3_11() {
    check(machine::debian_interpreter());
}

fn check(python: Result<PathBuf, String>) {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(python) else {
        return;
    };
    let ready = Gate::new(session.dir(), "ready");
    let go = Gate::new(session.dir(), "go");
    let mut command = Command::new(python);
    command
        .arg(workload("by_many_means.py"))
        .args(["--ready", ready.path(), "--go", go.path()]);
    let target = Program::start(&mut command);
    let stop = |name: &str| -> (u32, u64) {
        let word = ready.wait();
        let (at, pid) = word
            .split_once(' ')
            .unwrap_or_else(|| panic!("no NAME PID: {word}"));
        assert_eq!(at, name, "the program's stop");
        let pid = pid.parse().unwrap_or_else(|e| panic!("{word}: {e}"));
        wait_asleep(pid);
        (pid, rss(pid).unwrap_or_else(|| panic!("{pid} has gone")))
    };
    let (parent, begin) = stop("begin");
    let tracer = session.attach(parent, &[]);
    go.open();
    // The parent sleeps in waitpid() while the child waits at its own stop.
    let (child, child_rss) = stop("child");
    wait_asleep(parent);
    let middle = rss(parent).expect("the parent is there");
    tracer.signal(Signal::INT);
    tracer.finish().expect_code(0);
    let report = session.report();
    check_process(&report, parent, begin, middle);
    let inherited = report.process(child).inherited;
    check_process(&report, child, inherited, child_rss);
    check_kinds(&report);
    report.assert_nothing_lost();
    session.folded(&report);
    go.open();
    stop("end");
    go.open();
    target.finish().expect_code(0);
}

#[track_caller]
fn check_process(report: &Report, pid: u32, begin: u64, end: u64) {
    let process = report.process(pid);
    SUMS.check("rss_start + net = RSS now", begin + process.net, end);
    SUMS.check("rss_end = RSS now", process.rss_end, end);
    assert_eq!(process.gross - process.freed, process.net, "{process:?}");
    // A share of its own growth, by the bound for all processes.
    let unattributed = process.unattributed as f64 / process.gross.max(1) as f64;
    assert!(unattributed <= 0.03, "unattributed: {process:?}");
}

/// What each means makes, by the workload's own sizes.
#[track_caller]
fn check_kinds(report: &Report) {
    const MIB: u64 = memprof_tests::truth::MIB;
    let near = Tolerance {
        percent: 2.0,
        floor: 256 * KIB,
    };
    for (name, gross, net) in [
        ("mapping_in_part", 12, 8),
        ("grown_and_shrunk", 16, 10),
        ("populated", 6, 6),
        ("huge_pages", 12, 12),
        ("shared", 8, 8),
        ("in_kernel", 7, 7),
    ] {
        let row = report.function(name, "by_many_means.py");
        near.check(&format!("gross of {name}"), row.gross, gross * MIB);
        near.check(&format!("net of {name}"), row.net, net * MIB);
    }
    // The two files of 9 and 5 MiB lie where temporary files do, which may be a tmpfs: then the
    // kernel counts their pages as shared memory.
    let by_kind = &report.accounting.by_kind;
    let bytes = |kind: &str| by_kind.get(kind).copied().unwrap_or_default();
    assert!(bytes("anon") >= 40 * MIB, "{by_kind:?}");
    assert!(bytes("shmem") >= 8 * MIB, "{by_kind:?}");
    assert!(bytes("shmem") + bytes("file") >= 17 * MIB, "{by_kind:?}");
}
