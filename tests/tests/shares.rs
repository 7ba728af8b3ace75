//! Whose the bytes are: copied against grown, and each function's part.

use std::process::Command;

use memprof_tests::gate::Gate;
use memprof_tests::machine::{self, require, workload};
use memprof_tests::pages::{self, PAGE, PageSet};
use memprof_tests::process;
use memprof_tests::program::Program;
use memprof_tests::session::Session;
use memprof_tests::truth::{self, Growth, KIB, MIB, Tolerance, Worker};

/// The bounds.
const GROSS: Tolerance = Tolerance {
    percent: 0.5,
    floor: 64 * KIB,
};
const NET: Tolerance = Tolerance {
    percent: 1.0,
    floor: 64 * KIB,
};
const COW: Tolerance = Tolerance {
    percent: 2.0,
    floor: 0,
};
/// The area of copies_at_attach.py.
const AREA_PAGES: u64 = (256 << 20) / PAGE;

#[test]
fn copies_after_fork_belong_to_who_writes_on_3_11() {
    copies("3.11");
}

#[test]
fn copies_after_fork_belong_to_who_writes_on_3_12() {
    copies("3.12");
}

#[test]
fn copies_after_fork_belong_to_who_writes_on_3_13() {
    copies("3.13");
}

/// What one process copies before the tracer has entered it leaves its pages to the others, which
/// then write them without a copy.
#[test]
fn what_a_child_copies_during_the_attach_is_not_its_parents() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.11")) else {
        return;
    };
    let (ready, go) = (
        Gate::new(session.dir(), "ready"),
        Gate::new(session.dir(), "go"),
    );
    let mut command = Command::new(python);
    command
        .arg(workload("copies_at_attach.py"))
        .args([ready.path(), go.path()]);
    let program = Program::start(&mut command);
    let address = ready.wait();
    let tracer = session.attach(program.pid(), &[]);
    go.open();
    ready.wait();
    let child = process::children(program.pid())[0];
    process::wait_asleep(child);
    let address: u64 = address.parse().expect("the area's address");
    let area = address / PAGE..address / PAGE + AREA_PAGES;
    let frame = |pages: &PageSet, number: &u64| pages.get(number).map(|page| page.frame);
    let (parents, childs) = (pages::resident(program.pid()), pages::resident(child));
    let is_shared = |number: &u64| frame(&parents, number) == frame(&childs, number);
    let shared = area.filter(is_shared).count() as u64;
    assert!((1..AREA_PAGES).contains(&shared), "{shared} pages");
    go.open();
    program.finish().expect_code(0);
    tracer.finish().expect_code(0);
    let report = session.report();
    report.assert_nothing_lost();
    let row = report.function("write_all", "copies_at_attach.py");
    let process = &report.processes[0];
    assert_eq!(row.cow, shared * PAGE, "{row:?} of {process:?}");
}

/// Who shares with it is not traced: a worker is attached to, and its master is not.
#[test]
fn a_worker_that_is_traced_alone_copies_what_its_master_has() {
    worker(|_| Vec::new());
}

#[test]
fn a_worker_that_is_named_before_its_master_copies_what_both_have() {
    worker(|master| vec!["-p".to_owned(), master.to_string()]);
}

/// Attaches to a worker, with these options more, and lets it write what its master had loaded.
fn worker(options: impl Fn(u32) -> Vec<String>) {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.11")) else {
        return;
    };
    let (ready, go) = (
        Gate::new(session.dir(), "ready"),
        Gate::new(session.dir(), "go"),
    );
    let mut command = Command::new(python);
    command
        .arg(workload("lone_worker.py"))
        .args([ready.path(), go.path()]);
    let master = Program::start(&mut command);
    let worker: u32 = ready.wait().parse().expect("the worker's pid");
    let options = options(master.pid());
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let tracer = session.attach(worker, &options);
    go.open();
    let ended = master.finish().expect_code(0);
    tracer.finish().expect_code(0);
    let report = session.report();
    report.assert_nothing_lost();
    let report = session.report_of(worker);
    let truth = truth::parse::<Worker>(&ended.stdout)[0].truth["unshare"];
    assert!(truth > 16 * MIB, "the program unshares: {truth}");
    let row = report.function("unshare", "lone_worker.py");
    COW.check("cow of unshare", row.cow, truth);
    // What it had alone by then is no copy.
    if let Some(again) = report.find("unshare_again", "lone_worker.py") {
        assert!(again.cow <= 64 * KIB, "{again:?}");
    }
}

fn copies(version: &str) {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter(version)) else {
        return;
    };
    let (python, script) = (python, workload("prefork.py"));
    let (python, script) = (python.to_string_lossy(), script.to_string_lossy());
    let words = ["run", "-o", "out", "--", &python, &script, "--workers", "4"];
    let workers: Vec<Worker> = truth::parse(&session.run(&words).stdout);
    assert_eq!(workers.len(), 4, "workers that told their truth");
    session.report().assert_nothing_lost();
    for worker in &workers {
        let report = session.report_of(worker.pid);
        let row = report.function("unshare", "prefork.py");
        let truth = worker.truth["unshare"];
        assert!(truth > 16 * MIB, "the program unshares: {truth}");
        COW.check(&format!("cow of unshare in {}", worker.pid), row.cow, truth);
        // A copied page was resident before and is resident after.
        assert!(row.gross <= 256 * KIB, "copies are no growth: {row:?}");
        let process = report.process(worker.pid);
        assert!(process.cow >= row.cow, "{process:?}");
        assert_eq!(process.gross - process.freed, process.net, "{process:?}");
    }
}

#[test]
fn each_function_has_its_bytes_on_3_10() {
    growth("3.10");
}

#[test]
fn each_function_has_its_bytes_on_3_11() {
    growth("3.11");
}

#[test]
fn each_function_has_its_bytes_on_3_12() {
    growth("3.12");
}

#[test]
fn each_function_has_its_bytes_on_3_13() {
    growth("3.13");
}

fn growth(version: &str) {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter(version)) else {
        return;
    };
    let script = workload("growth.py");
    let (python, script) = (python.to_string_lossy(), script.to_string_lossy());
    let mut command = session.command(&["run", "-o", "out", "--", &python, &script]);
    // The program knows of a function only how much higher RSS was at its high point. What malloc
    // trims from the heap's top before that point became resident too: here nothing is trimmed.
    command.env("MALLOC_TRIM_THRESHOLD_", (1u64 << 30).to_string());
    let ended = Program::start(&mut command).finish().expect_code(0);
    let truth = &truth::parse::<Growth>(&ended.stdout)[0];
    let report = session.report();
    report.assert_nothing_lost();
    report.assert_shares(0.995, 0.90);
    for (name, amounts) in &truth.truth {
        let row = report.function(name, "growth.py");
        let bytes = |amount: i64| u64::try_from(amount).unwrap_or(0);
        GROSS.check(&format!("gross of {name}"), row.gross, bytes(amounts.gross));
        NET.check(&format!("net of {name}"), row.net, bytes(amounts.net));
    }
}
