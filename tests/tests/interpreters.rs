//! What a process may do with its interpreter: sub-interpreters, code objects that live for one
//! call, another version by exec, threads, recursion. On every CPython.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use memprof_tests::chains;
use memprof_tests::machine::{self, require, workload};
use memprof_tests::program::Program;
use memprof_tests::report::Report;
use memprof_tests::session::Session;
use memprof_tests::truth::{self, KIB, MIB, Tolerance};
use serde::Deserialize;

/// What the programs print.
#[derive(Debug, Deserialize)]
struct Truth {
    /// Bytes by function.
    truth: BTreeMap<String, u64>,
}

const GROSS: Tolerance = Tolerance {
    percent: 3.0,
    floor: 256 * KIB,
};
/// For functions that make one MiB resident.
const SMALL: Tolerance = Tolerance {
    percent: 0.0,
    floor: 128 * KIB,
};

/// A module of tests for each of these interpreters.
macro_rules! on_every_version {
    ($($version:ident: $python:expr;)*) => {$(
        mod $version {
            use super::*;

            #[test]
            fn a_sub_interpreter_has_frames_of_its_own() {
                sub_interpreter($python);
            }

            #[test]
            fn a_code_object_at_the_address_of_another_has_its_own_name() {
                reused_code($python);
            }

            #[test]
            fn a_thousand_frames_are_whole_and_more_are_cut_at_the_root() {
                recursion($python);
            }

            #[test]
            fn threads_generators_coroutines_processes_and_interpreters_have_their_callers() {
                schedulers($python);
            }

            #[test]
            fn names_of_any_kind_are_kept_apart_and_harmless() {
                names($python);
            }
        }
    )*};
}

on_every_version! {
    on_3_6: machine::interpreter("3.6");
    on_3_7: machine::interpreter("3.7");
    on_3_8: machine::interpreter("3.8");
    on_3_9: machine::interpreter("3.9");
    on_3_10: machine::interpreter("3.10");
    on_3_11: machine::interpreter("3.11");
    on_debians_static_3_11: machine::debian_interpreter();
    on_3_12: machine::interpreter("3.12");
    on_3_13: machine::interpreter("3.13");
    on_debians_static_3_13: machine::packaged_interpreter("3.13");
    on_3_14: machine::interpreter("3.14");
    on_3_15: machine::interpreter("3.15");
}

/// Runs a workload under the tracer; what it said, and the report.
fn traced(
    python: Result<PathBuf, String>,
    name: &str,
    arguments: &[&str],
) -> Option<(Vec<Truth>, Report, Session)> {
    let session = Session::open()?;
    let python = require(python)?;
    let script = workload(name);
    let (python, script) = (python.to_string_lossy(), script.to_string_lossy());
    let mut command = vec!["run", "-o", "out", "--", &python, &script];
    command.extend(arguments);
    let ended = session.run(&command);
    let report = session.report();
    Some((truth::parse(&ended.stdout), report, session))
}

/// Every stack was read whole and came through. (Where pages lie is for other tests.)
#[track_caller]
fn assert_no_stack_lost(report: &Report) {
    let loss = &report.loss;
    let lost = [loss.events_lost, loss.stacks_truncated, loss.stacks_failed];
    assert_eq!((lost, loss.unknown_threads), ([0; 3], 0));
}

fn sub_interpreter(python: Result<PathBuf, String>) {
    let Some((truth, report, _session)) = traced(python, "subinterpreter.py", &[]) else {
        return;
    };
    assert_no_stack_lost(&report);
    let inside = truth[0].truth["in_subinterpreter"];
    assert!(inside >= 24 * MIB);
    let rows = report.functions.iter();
    let gross: u64 = rows
        .filter(|row| row.function == "in_subinterpreter")
        .map(|row| row.gross)
        .sum();
    GROSS.check("gross of in_subinterpreter", gross, inside);
}

fn reused_code(python: Result<PathBuf, String>) {
    let Some((truth, report, _session)) = traced(python, "reused_code.py", &[]) else {
        return;
    };
    assert_no_stack_lost(&report);
    assert_eq!(truth[0].truth.len(), 120);
    for (name, bytes) in &truth[0].truth {
        let rows = report.functions.iter();
        let gross = rows
            .filter(|row| row.function == *name)
            .map(|row| row.gross);
        SMALL.check(&format!("gross of {name}"), gross.sum(), *bytes);
    }
}

/// From 3.13 on the interpreter tells that there are other code objects.
#[test]
fn a_caller_replaced_after_many_captures_has_its_own_name() {
    for python in [
        machine::interpreter("3.13"),
        machine::packaged_interpreter("3.13"),
        machine::interpreter("3.14"),
        machine::interpreter("3.15"),
    ] {
        let Some((truth, report, _session)) = traced(python, "replaced_caller.py", &[]) else {
            return;
        };
        assert_no_stack_lost(&report);
        assert_eq!(truth[0].truth.len(), 12);
        for (name, bytes) in &truth[0].truth {
            let row = report.function(name, "page.html");
            SMALL.check(&format!("gross of {name}"), row.gross, *bytes);
        }
    }
}

fn recursion(python: Result<PathBuf, String>) {
    let Some((truth, report, session)) = traced(python, "recursion.py", &[]) else {
        return;
    };
    for (name, bytes) in &truth[0].truth {
        let row = report.function(name, "recursion.py");
        GROSS.check(&format!("gross of {name}"), row.gross, *bytes);
    }
    let rows = session.folded(&report);
    let depth = |leaf: &str| {
        let rows = rows
            .iter()
            .filter(|row| row.frames.iter().any(|f| f.is(leaf, "recursion.py")));
        let row = rows.max_by_key(|row| row.bytes);
        let row = row.unwrap_or_else(|| panic!("no row for {leaf}"));
        let frames = row.frames.iter();
        let recursive = frames
            .filter(|frame| frame.is("descend", "recursion.py"))
            .count();
        (
            recursive,
            row.frames.iter().any(|f| f.is("main", "recursion.py")),
        )
    };
    // The whole of it, from main on.
    assert_eq!(depth("bottom_990"), (990, true));
    // Cut: the leaf side is there, the root side is not, and it is counted.
    let (deep, has_root) = depth("bottom_3000");
    assert!((1000..3000).contains(&deep) && !has_root, "{deep}");
    assert!(report.loss.stacks_truncated > 0);
    assert_eq!(report.loss.stacks_failed, 0);
}

fn schedulers(python: Result<PathBuf, String>) {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(python) else {
        return;
    };
    let mut command = vec!["run".into(), "-o".into(), "out".into(), "--".into()];
    command.extend([python, workload("schedulers.py")]);
    // It starts seven processes one after another.
    let limit = 3 * memprof_tests::process::PATIENCE;
    let ended = session.start(&command).finish_within(limit).expect_code(0);
    let told = chains::parse(&ended.stdout);
    // The program itself, a process each by fork, forkserver, spawn and a pool, an interpreter.
    assert_eq!(told.len(), 6);
    let report = session.report();
    assert_no_stack_lost(&report);
    chains::check(&told, &session.folded(&report));
}

fn names(python: Result<PathBuf, String>) {
    let Some((_truth, report, session)) = traced(python, "names.py", &[]) else {
        return;
    };
    assert_no_stack_lost(&report);
    for number in 0..9 {
        let folder = format!("/dir {number}/");
        let rows = report.functions.iter();
        let rows = rows.filter(|row| row.file.starts_with(&folder));
        // Making the function may touch the heap's next page.
        let rows: Vec<_> = rows.filter(|row| row.function != "<module>").collect();
        let [row] = rows[..] else {
            panic!("{folder}: {rows:?}");
        };
        assert_eq!(row.line, 1);
        SMALL.check(&folder, row.gross, 2 * MIB);
        match number {
            0 => assert_eq!(row.function, "größe"),
            1 => assert_eq!(row.function, "数える"),
            2 => assert_eq!(row.function, "𝓐𝓑"),
            _ => {}
        }
    }
    // Whatever they hold, a line is a line, and nothing steers a terminal.
    let text = session.read("out.folded") + &session.run(&["report", "out.memprof"]).stdout;
    let steers = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    assert!(!text.contains(steers));
    session.folded(&report);
}

/// Each version executes the next, the newest the oldest.
const ORDER: [&str; 10] = [
    "3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15",
];

#[test]
fn another_version_by_exec_is_recognised() {
    for (first, second) in ORDER.iter().zip(ORDER.iter().cycle().skip(1)) {
        let Some(session) = Session::open() else {
            return;
        };
        let (first, second) = (machine::interpreter(first), machine::interpreter(second));
        let (Some(first), Some(second)) = (require(first), require(second)) else {
            continue;
        };
        // A process of the second version is traced too, so that its file is known.
        let mut other = Program::start(Command::new(&second).arg(workload("on_command.py")));
        other.wait_stdout("ready ");
        let script = workload("exec_chain.py");
        let mut target = Program::start(Command::new(first).arg(script).arg(&second));
        let tracer = session.attach(target.pid(), &["-p", &other.pid().to_string()]);
        target.say("go");
        let ended = target.finish().expect_code(0);
        drop(other);
        tracer.finish().expect_code(0);
        let report = session.report();
        assert_no_stack_lost(&report);
        let truths: Vec<Truth> = truth::parse(&ended.stdout);
        assert_eq!(truths.len(), 2);
        for (name, bytes) in truths.iter().flat_map(|truth| &truth.truth) {
            let row = report.function(name, "exec_chain.py");
            GROSS.check(&format!("gross of {name}"), row.gross, *bytes);
        }
    }
}
