//! Reclaim, OOM kills, SIGKILL, and forks without end: the amounts stay right, and the report
//! tells of every process.

use std::path::PathBuf;
use std::process::Command;

use memprof_tests::cgroup::Cgroup;
use memprof_tests::gate::Gate;
use memprof_tests::machine::{self, require, workload};
use memprof_tests::process::{rss, wait_asleep};
use memprof_tests::program::{Ended, Program};
use memprof_tests::session::Session;
use memprof_tests::truth::{KIB, MIB, Tolerance};
use rustix::process::Signal;

/// What the interpreter needs, several times over; small, so that reclaim comes soon.
const LIMIT: u64 = 96 * MIB;

/// A session, an interpreter and a group with the limit.
fn limited() -> Option<(Session, PathBuf, Cgroup)> {
    let session = Session::open()?;
    let python = require(machine::interpreter("3.12"))?;
    let group = require(Cgroup::new())?;
    group.limit(LIMIT);
    Some((session, python, group))
}

/// A program that fills memory in a group, and its gates.
struct Filling {
    target: Program,
    ready: Gate,
    go: Gate,
}

fn filling(session: &Session, python: &PathBuf, group: &Cgroup, words: &[&str]) -> Filling {
    let ready = Gate::new(session.dir(), "ready");
    let go = Gate::new(session.dir(), "go");
    let mut command = Command::new(python);
    command
        .arg(workload("under_pressure.py"))
        .args(["--ready", ready.path(), "--go", go.path()])
        .args(["--limit", &LIMIT.to_string(), "--fill"])
        .args(words);
    let target = Program::start(&mut command);
    ready.wait();
    group.add(target.pid());
    Filling { target, ready, go }
}

/// How much the program said it had filled. It says so after each MiB, and may have been killed
/// in the next one.
#[track_caller]
fn check_filled(ended: &Ended, gross: u64) {
    let filled = ended
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("filled ")?.parse::<u64>().ok())
        .next_back();
    let filled = filled.expect("the program filled something") * MIB;
    assert!(filled > LIMIT / 2, "killed early: {filled}");
    // What grow() itself and the mmap module take besides.
    let most = filled + MIB + 256 * KIB;
    assert!(
        (filled..=most).contains(&gross),
        "gross of grow is {gross}, the program filled {filled}"
    );
}

#[test]
fn a_target_that_is_killed_for_memory_is_told_to_its_last_page() {
    let Some((session, python, group)) = limited() else {
        return;
    };
    let filling = filling(&session, &python, &group, &[]);
    let pid = filling.target.pid();
    let tracer = session.attach(pid, &[]);
    filling.go.open();
    group.wait_kill();
    let ended = filling.target.finish();
    assert_eq!(ended.signal(), Some(9), "{ended:?}");
    tracer.finish().expect_code(0);
    let report = session.report();
    report.assert_nothing_lost();
    check_filled(&ended, report.gross("grow", "under_pressure.py"));
    let process = report.process(pid);
    assert!(process.rss_end > LIMIT / 2, "RSS at the kill: {process:?}");
}

#[test]
fn a_worker_that_is_killed_for_memory_leaves_its_parent_right() {
    let Some((session, python, group)) = limited() else {
        return;
    };
    let mut filling = filling(&session, &python, &group, &["--in-child"]);
    let parent = filling.target.pid();
    wait_asleep(parent);
    let begin = rss(parent).expect("the parent is there");
    let tracer = session.attach(parent, &[]);
    filling.go.open();
    let line = filling.target.wait_stdout("child ");
    let child = line.rsplit(' ').next().and_then(|pid| pid.parse().ok());
    let child: u32 = child.unwrap_or_else(|| panic!("no pid: {line}"));
    filling.ready.wait();
    wait_asleep(parent);
    let end = rss(parent).expect("the parent is there");
    tracer.signal(Signal::INT);
    tracer.finish().expect_code(0);
    filling.go.open();
    let ended = filling.target.finish().expect_code(0);
    check_filled(
        &ended,
        session.report_of(child).gross("grow", "under_pressure.py"),
    );
    let report = session.report();
    report.assert_nothing_lost();
    let process = report.process(parent);
    let near = Tolerance {
        percent: 0.0,
        floor: 64 * KIB,
    };
    near.check("RSS of the parent", begin + process.net, end);
    assert_eq!(report.process(child).ppid, parent, "the child's parent");
}

#[test]
fn sigkill_finds_the_last_count() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    let ready = Gate::new(session.dir(), "ready");
    let go = Gate::new(session.dir(), "go");
    let mut command = Command::new(python);
    command
        .arg(workload("touched.py"))
        .args(["--ready", ready.path(), "--go", go.path()]);
    let target = Program::start(&mut command);
    ready.wait();
    let pid = target.pid();
    let tracer = session.attach(pid, &[]);
    // 0, 10, 20 %: two blocks given back, one there at the end.
    for _ in 0..5 {
        go.open();
        ready.wait();
    }
    wait_asleep(pid);
    let truth = rss(pid).expect("the program is there");
    target.signal(Signal::KILL);
    target.finish();
    tracer.finish().expect_code(0);
    let report = session.report();
    report.assert_nothing_lost();
    assert_eq!(report.process(pid).rss_end, truth, "RSS at SIGKILL");
}
