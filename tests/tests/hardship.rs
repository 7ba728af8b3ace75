//! What goes wrong on busy and odd machines: the amounts stay right, the places are found again, and
//! the report says what was lost.

use std::process::Command;

use memprof_tests::cgroup::Cgroup;
use memprof_tests::checkpoint::Checkpoints;
use memprof_tests::machine::{self, require, workload};
use memprof_tests::off::Off;
use memprof_tests::pages::{self, Rss};
use memprof_tests::process::wait_asleep;
use memprof_tests::program::Program;
use memprof_tests::session::Session;
use memprof_tests::torture::{self, Walk};
use memprof_tests::truth::MIB;

#[test]
fn a_ring_that_is_too_small_loses_records_and_no_pages() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(torture::python("3.12")) else {
        return;
    };
    let Some(library) = require(torture::library(session.dir())) else {
        return;
    };
    let (library, scratch) = (library.to_string_lossy(), session.dir().to_string_lossy());
    // Pages in no order are a record each.
    let cases = "anon_random,unmapped_in_part,heap_moved,file_private_written,mremap_moved,\
                 threads_at_once,threads_on_same_pages,fork_chain,fork_and_exec,fork_often,\
                 shared_with_child";
    let words = [
        "--library",
        &library,
        "--scratch",
        &scratch,
        "--cases",
        cases,
    ];
    let walk = Walk::start(&session, &python, "torture.py", &words);
    let compared = walk.compare_with(&["--ring-size", "4K"]);
    compared.assert_amounts_and_places();
    let report = session.report();
    println!("{:?}", report.loss);
    assert!(report.loss.events_lost > 0, "{:?}", report.loss);
    let text = session.run(&["report", "out.memprof"]).stdout;
    assert!(text.contains("events lost"), "{text}");
}

#[test]
fn reclaim_and_pages_that_come_back_are_followed() {
    const LIMIT: u64 = 96 * MIB;
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    let Some(group) = require(Cgroup::new()) else {
        return;
    };
    group.limit(LIMIT);
    let words = ["--limit", &LIMIT.to_string()];
    let walk = Walk::start(&session, &python, "under_pressure.py", &words);
    group.add(walk.pid());
    let compared = walk.compare();
    compared.assert_exact();
    session.report().assert_nothing_lost();
}

#[test]
fn ten_thousand_forks_in_a_row() {
    const FORKS: u64 = 10_000;
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    let mut command = Command::new(python);
    command.arg(workload("forks.py")).arg(FORKS.to_string());
    let mut target = Program::start(&mut command);
    target.wait_stdout("ready ");
    let pid = target.pid();
    let mut tracer = session.attach(pid, &["-T", "1"]);
    target.say("go");
    target.wait_stdout("forked ");
    let peak = memprof_tests::process::status_bytes(tracer.pid(), "VmHWM").unwrap_or(0);
    target.close_stdin();
    target.finish().expect_code(0);
    tracer.wait_end();
    tracer.finish().expect_code(0);
    let report = session.report();
    report.assert_nothing_lost();
    let children = report
        .processes
        .iter()
        .filter(|process| process.ppid == pid);
    assert_eq!(children.count() as u64, FORKS, "children in the report");
    // Some KiB a process are kept for the report; their maps of pages are not.
    assert!(peak < 512 * MIB, "the tracer's peak: {peak}");
}

#[test]
fn children_whose_begin_or_end_was_lost_leave_nothing_behind() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    let mut target = Program::start(Command::new(python).arg(workload("forks.py")).arg("2000"));
    target.wait_stdout("ready ");
    let pid = target.pid();
    let mut tracer = session.attach(pid, &["--ring-size", "4K"]);
    target.say("go");
    target.wait_stdout("forked ");
    wait_asleep(pid);
    let view = Checkpoints::new(&session.file("out")).ask(&mut tracer);
    let live: Vec<u32> = view.processes.iter().map(|process| process.pid).collect();
    assert_eq!(live, [pid], "processes that are believed to live");
    let off = Off::of(&view.processes[0], Rss::of(pid), &pages::resident(pid));
    assert_eq!(off, Off::default(), "{off}");
    target.close_stdin();
    target.finish().expect_code(0);
    tracer.finish().expect_code(0);
    let report = session.report();
    println!("{:?}", report.loss);
    assert!(report.loss.events_lost > 0, "{:?}", report.loss);
    // Some were never heard of, and none twice.
    assert!(report.processes.len() <= 2001, "{}", report.processes.len());
}

#[test]
fn a_target_in_a_pid_namespace_is_named_by_our_pids() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(python)
        .arg(workload("on_command.py"));
    let mut target = Program::start(&mut command);
    // It calls itself 1.
    target.wait_stdout("ready 1");
    let outside = memprof_tests::process::descendants(target.pid());
    let &[pid] = outside.as_slice() else {
        panic!("one child of unshare: {outside:?}");
    };
    let tracer = session.attach(pid, &[]);
    target.say("grow 30");
    target.wait_stdout("done grow");
    target.close_stdin();
    target.wait_end();
    tracer.finish().expect_code(0);
    let report = session.report();
    report.assert_nothing_lost();
    let grow = report.function("grow", "on_command.py");
    assert!((30 * MIB..31 * MIB).contains(&grow.gross), "{grow:?}");
    assert_eq!(
        report.process(pid).python.as_deref().map(|v| &v[..4]),
        Some("3.12")
    );
}

#[test]
fn a_pid_that_comes_again_is_another_process() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    let mut target = Program::start(Command::new(python).arg(workload("same_pid.py")));
    target.wait_stdout("ready ");
    let tracer = session.attach(target.pid(), &[]);
    target.say("go");
    let line = target.wait_stdout("pid ");
    let pid: u32 = line[4..]
        .trim()
        .parse()
        .unwrap_or_else(|e| panic!("{line:?}: {e}"));
    target.finish().expect_code(0);
    tracer.finish().expect_code(0);
    let report = session.report();
    report.assert_nothing_lost();
    let both = report.processes.iter().filter(|process| process.pid == pid);
    assert_eq!(both.count(), 2, "processes with the pid {pid}");
    for (name, size) in [("first", 4), ("second", 6)] {
        let gross = report.gross(name, "same_pid.py");
        assert!(
            (size * MIB..(size + 1) * MIB).contains(&gross),
            "{name}: {gross}"
        );
    }
}

/// Seconds of churn; `MEMPROF_CHURN_SECONDS` takes longer.
const CHURN_SECONDS: &str = "15";

#[test]
fn churn_leaves_no_drift() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    let seconds = std::env::var("MEMPROF_CHURN_SECONDS");
    let seconds = seconds.as_deref().unwrap_or(CHURN_SECONDS);
    let mut walk = Walk::start(&session, &python, "churn.py", &["--seconds", seconds]);
    let seconds: u64 = seconds.parse().expect("whole seconds");
    walk.allow(std::time::Duration::from_secs(seconds));
    let compared = walk.compare();
    compared.assert_amounts_and_places();
    let report = session.report();
    report.assert_nothing_lost();
    for process in &report.processes {
        assert_eq!(process.reconciled.last_drift, 0, "{process:?}");
    }
    let checks: u64 = report.processes.iter().map(|p| p.reconciled.checks).sum();
    let drift = report
        .processes
        .iter()
        .map(|p| p.reconciled.largest_drift)
        .max();
    println!(
        "{} processes, {checks} checks, largest drift {drift:?} bytes, {} bytes came and went",
        report.processes.len(),
        report.accounting.rss_growth
    );
}
