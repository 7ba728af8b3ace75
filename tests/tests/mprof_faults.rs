//! Where the real mprof fails, run beside ours on the same program.

use std::path::Path;
use std::process::Command;

use memprof_tests::dat;
use memprof_tests::machine::{self, require, workload};
use memprof_tests::process::{PATIENCE, wait_until};
use memprof_tests::program::Program;
use memprof_tests::session::Session;
use memprof_tests::truth::{self, MIB, Tolerance};

/// What of a process's memory other processes of the machine share (libraries) comes and goes
/// with them, and the children exit one by one.
const SUM: Tolerance = Tolerance {
    percent: 8.0,
    floor: 0,
};

/// mprof on `args`, in the session's folder.
fn mprof(mprof: &Path, session: &Session, args: &[&str]) -> Program {
    Program::start(Command::new(mprof).args(args).current_dir(session.dir()))
}

#[test]
fn attach_ends_well_with_its_target_where_mprof_falls() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(theirs) = require(machine::venv("mprof")) else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    let mut target = Program::start(Command::new(python).arg(workload("on_command.py")));
    target.wait_stdout("ready");
    let pid = target.pid().to_string();
    let mut ours = session.start(&["attach", &pid, "-o", "ours"]);
    ours.wait_stderr("attached");
    // Written out every 50 samples: the first tell that it is at work.
    let theirs = mprof(
        &theirs,
        &session,
        &["attach", "-T", "0.01", "-o", "theirs.dat", &pid],
    );
    let path = session.file("theirs.dat");
    wait_until("samples of mprof", PATIENCE, || {
        let text = std::fs::read_to_string(&path).ok()?;
        text.contains("MEM ").then_some(())
    });
    target.close_stdin();
    target.finish().expect_code(0);
    let theirs = theirs.finish();
    assert_eq!(theirs.code(), Some(1), "{theirs:?}");
    assert!(theirs.stderr.contains("NoSuchProcess"), "{}", theirs.stderr);
    let ours = ours.finish().expect_code(0);
    assert!(!ours.stderr.contains("error:"), "{}", ours.stderr);
    assert!(!dat::parse(&session.read("ours.dat")).mem.is_empty());
}

#[derive(serde::Deserialize)]
struct Sums {
    rss: u64,
    pss: u64,
}

#[test]
fn include_children_can_count_shared_pages_once() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(theirs) = require(machine::venv("mprof")) else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    let script = workload("shared_block.py");
    let words = [&*python.to_string_lossy(), &*script.to_string_lossy()];
    let peak = |name: &str| (dat::parse(&session.read(name)).peak() * MIB as f64) as u64;
    let sums = |stdout: &str| truth::parse::<Sums>(stdout).remove(0);

    let run = ["run", "--nopython", "-C", "-o", "theirs.dat"];
    let ended = mprof(&theirs, &session, &[&run[..], &words].concat());
    let truth = sums(&ended.finish().expect_code(0).stdout);
    SUM.check("mprof -C: the sum of RSS", peak("theirs.dat"), truth.rss);
    // A master and three children have 100 MiB between them, and mprof counts 400.
    assert!(truth.rss > truth.pss * 3, "{} {}", truth.rss, truth.pss);

    for (metric, name) in [("rss", "rss.dat"), ("pss", "pss.dat")] {
        let run = ["run", "-C", "--metric", metric, "-o", name, "--"];
        let truth = sums(&session.run(&[&run[..], &words].concat()).stdout);
        let sum = if metric == "rss" {
            truth.rss
        } else {
            truth.pss
        };
        SUM.check(&format!("-C --metric {metric}"), peak(name), sum);
    }
}
