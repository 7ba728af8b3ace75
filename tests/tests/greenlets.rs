//! Stacks of greenlets: each begins where its greenlet does, is marked, and no other one is. On
//! every CPython, against what the program says of itself.

use std::path::PathBuf;
use std::process::Command;

use memprof_tests::chains;
use memprof_tests::checkpoint::Checkpoints;
use memprof_tests::machine::{self, require, workload};
use memprof_tests::program::Program;
use memprof_tests::session::Session;

/// A module of tests for each of these interpreters.
macro_rules! on_every_version {
    ($($version:ident: $number:literal, $python:expr;)*) => {$(
        mod $version {
            use super::*;

            #[test]
            fn stacks_of_greenlets_and_no_others_are_marked() {
                traced($python, $number, "greenlets.py");
            }
        }
    )*};
}

on_every_version! {
    on_3_6: "3.6", machine::interpreter("3.6");
    on_3_7: "3.7", machine::interpreter("3.7");
    on_3_8: "3.8", machine::interpreter("3.8");
    on_3_9: "3.9", machine::interpreter("3.9");
    on_3_10: "3.10", machine::interpreter("3.10");
    on_3_11: "3.11", machine::interpreter("3.11");
    on_debians_static_3_11: "3.11", machine::debian_interpreter();
    on_3_12: "3.12", machine::interpreter("3.12");
    on_3_13: "3.13", machine::interpreter("3.13");
    on_debians_static_3_13: "3.13", machine::packaged_interpreter("3.13");
    on_3_14: "3.14", machine::interpreter("3.14");
    on_3_15: "3.15", machine::interpreter("3.15");
}

/// A workload that waits, with greenlet for its version.
fn program(
    python: Result<PathBuf, String>,
    version: &str,
    name: &str,
    arguments: &[&str],
) -> Option<Program> {
    let mut command = Command::new(require(python)?);
    command.arg(workload(name)).args(arguments);
    command.env("PYTHONPATH", require(machine::greenlets(version))?);
    Some(Program::start(&mut command))
}

/// Lets the program do its work, and compares.
fn check(session: &Session, mut target: Program, tracer: Program) {
    target.say("go");
    let ended = target.finish().expect_code(0);
    tracer.finish().expect_code(0);
    let report = session.report();
    let loss = &report.loss;
    let lost = [loss.events_lost, loss.stacks_truncated, loss.stacks_failed];
    assert_eq!((lost, loss.unknown_threads), ([0; 3], 0));
    chains::check(&chains::parse(&ended.stdout), &session.folded(&report));
}

fn traced(python: Result<PathBuf, String>, version: &str, name: &str) {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(mut target) = program(python, version, name, &[]) else {
        return;
    };
    target.wait_stdout("ready");
    let tracer = session.attach(target.pid(), &[]);
    check(&session, target, tracer);
}

fn imported_late(python: Result<PathBuf, String>, version: &str) {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(mut target) = program(python, version, "greenlets.py", &["imported-late"]) else {
        return;
    };
    target.wait_stdout("not imported");
    let mut tracer = session.attach(target.pid(), &[]);
    target.say("go");
    target.wait_stdout("ready");
    // Once the tracer has taken what the import sent, it has looked for the library.
    Checkpoints::new(&session.file("out")).ask(&mut tracer);
    check(&session, target, tracer);
}

#[test]
fn greenlet_imported_after_the_attach_is_found() {
    // Stacks are recognised again in two ways: by the interpreter's count of code objects from
    // 3.14 on, and by a look at the innermost one.
    imported_late(machine::interpreter("3.10"), "3.10");
    imported_late(machine::interpreter("3.14"), "3.14");
}

#[test]
fn stacks_under_gevent_are_marked_in_the_hub_in_pools_and_in_patched_threads() {
    // The pinned gevent needs 3.10.
    traced(machine::interpreter("3.10"), "3.10", "gevents.py");
    traced(machine::debian_interpreter(), "3.11", "gevents.py");
    traced(machine::interpreter("3.13"), "3.13", "gevents.py");
    traced(machine::interpreter("3.15"), "3.15", "gevents.py");
}
