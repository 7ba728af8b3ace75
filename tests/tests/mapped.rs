//! Address space beside resident memory: a block of which a part is touched shows both, and each
//! way of asking for addresses and of giving them back is counted as the kernel counts it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use memprof_tests::gate::Gate;
use memprof_tests::machine::{self, require, workload};
use memprof_tests::process::{status_bytes, wait_asleep};
use memprof_tests::program::Program;
use memprof_tests::report::Report;
use memprof_tests::session::Session;
use memprof_tests::truth::{self, KIB, MIB, Tolerance};
use rustix::process::Signal;
use serde::Deserialize;

/// touched.py's block.
const BLOCK: u64 = 512 * MIB;

const NEAR: Tolerance = Tolerance {
    percent: 1.0,
    floor: 64 * KIB,
};
const SAME: Tolerance = Tolerance {
    percent: 0.0,
    floor: 64 * KIB,
};

#[test]
fn a_block_shows_what_is_asked_for_and_what_is_touched() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    let ready = Gate::new(session.dir(), "ready");
    let go = Gate::new(session.dir(), "go");
    let target = Program::start(Command::new(python).arg(workload("touched.py")).args([
        "--ready",
        ready.path(),
        "--go",
        go.path(),
    ]));
    let pid = target.pid();
    let size = || status_bytes(pid, "VmSize").expect("the target lives");
    for percent in (0..=100).step_by(10) {
        assert!(ready.wait().starts_with("begin"));
        wait_asleep(pid);
        let before = size();
        let tracer = session.attach(pid, &["--force"]);
        go.open();
        let stop = ready.wait();
        assert!(stop.starts_with(&format!("{percent} touched")), "{stop}");
        wait_asleep(pid);
        let grown = size() - before;
        tracer.signal(Signal::INT);
        tracer.finish().expect_code(0);
        let report = session.report();
        report.assert_nothing_lost();
        let row = report.function("block", "touched.py");
        println!(
            "{percent:3} %: net {} mapped {} of VmSize {grown}",
            row.net, row.mapped
        );
        NEAR.check("net of block", row.net, BLOCK / 100 * percent);
        SAME.check("mapped by block", row.mapped, BLOCK);
        SAME.check("mapped_gross of block", row.mapped_gross, BLOCK);
        SAME.check("VmSize", grown, BLOCK);
        SAME.check("self_mapped of block", row.self_mapped, BLOCK);
        let of_process = report.process(pid);
        assert_eq!(of_process.mapped, grown, "mapped by the process: VmSize");
        check_text(&session, percent);
        go.open();
    }
    target.finish().expect_code(0);
}

/// What a person reads of it.
#[track_caller]
fn check_text(session: &Session, percent: u64) {
    let text = session.run(&["report", "out.memprof"]).stdout;
    assert!(text.contains("MAPPED"), "{text}");
    let said = text.contains("asked for 512.0 MiB of address space");
    assert_eq!(said, percent < 50, "at {percent} %:\n{text}");
}

/// What mapped.py prints.
#[derive(Deserialize)]
struct Mapped {
    pid: u32,
    child: u32,
    truth: BTreeMap<String, Asked>,
}

/// What one function of mapped.py does.
#[derive(Deserialize)]
struct Asked {
    /// Still mapped of what it asks for.
    mapped: u64,
    /// All that it asks for.
    gross: u64,
    /// By how much the kernel says that the address space grew.
    grown: u64,
}

#[test]
fn every_way_of_asking_on_3_10() {
    every_way(machine::interpreter("3.10"));
}

#[test]
fn every_way_of_asking_on_3_13() {
    every_way(machine::interpreter("3.13"));
}

#[test]
fn every_way_of_asking_on_debians_static_3_11() {
    every_way(machine::debian_interpreter());
}

fn every_way(python: Result<PathBuf, String>) {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(python) else {
        return;
    };
    let script = workload("mapped.py");
    let dir = session.dir().to_string_lossy().into_owned();
    let (python, script) = (python.to_string_lossy(), script.to_string_lossy());
    let ended = session.run(&["run", "-o", "out", "--", &python, &script, &dir]);
    let truth = truth::parse::<Mapped>(&ended.stdout).remove(0);
    let report = session.report_of(truth.pid);
    assert_eq!(truth.truth.len(), 13, "functions of mapped.py");
    for (name, asked) in &truth.truth {
        let row = report.function(name, "mapped.py");
        // To the page: what Python itself asks for meanwhile is in both.
        assert_eq!(row.mapped, asked.grown, "{name} mapped, by VmSize: {row:?}");
        NEAR.check(&format!("{name} mapped"), row.mapped, asked.mapped);
        let others = row.mapped.saturating_sub(asked.mapped);
        let gross = row.mapped_gross.saturating_sub(others);
        SAME.check(&format!("{name} asked for"), gross, asked.gross);
    }
    let reserved = report.function("reserved", "mapped.py");
    SAME.check("reserve", reserved.mapped_reserved, 128 * MIB);
    check_fork(&session, &report, truth.child);
}

/// The child gave back half of what its parent had asked for, and asked for 8 MiB itself.
#[track_caller]
fn check_fork(session: &Session, parent: &Report, child: u32) {
    let before_fork = parent.function("before_fork", "mapped.py");
    SAME.check("before the fork", before_fork.mapped, 32 * MIB);
    let report = session.report_of(child);
    let row = report.function("in_the_child", "mapped.py");
    SAME.check("in the child", row.mapped, 8 * MIB);
    SAME.check("in the child, gross", row.mapped_gross, 8 * MIB);
    let inherited = report.find("before_fork", "mapped.py");
    assert_eq!(inherited.map_or(0, |row| row.mapped_gross), 0);
}
