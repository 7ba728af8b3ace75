//! growth.py on every supported interpreter: each function's gross and net against its own truth,
//! read from /proc by the program itself.

use std::path::PathBuf;

use memprof_tests::gate::Gate;
use memprof_tests::machine::{self, require, workload};
use memprof_tests::program::Program;
use memprof_tests::report::Report;
use memprof_tests::session::Session;
use memprof_tests::truth::{self, Growth, KIB, Tolerance};

const GROSS: Tolerance = Tolerance {
    percent: 2.0,
    floor: 256 * KIB,
};
const NET: Tolerance = Tolerance {
    percent: 5.0,
    floor: 512 * KIB,
};

/// A test by `run` and one by attaching, for each of these interpreters.
macro_rules! growth {
    ($($run:ident, $attach:ident: $python:expr;)*) => {$(
        #[test]
        fn $run() {
            run_on($python);
        }

        #[test]
        fn $attach() {
            attach_to($python);
        }
    )*};
}

growth! {
    growth_on_3_6, growth_attached_midway_on_3_6: machine::interpreter("3.6");
    growth_on_3_7, growth_attached_midway_on_3_7: machine::interpreter("3.7");
    growth_on_3_8, growth_attached_midway_on_3_8: machine::interpreter("3.8");
    growth_on_3_9, growth_attached_midway_on_3_9: machine::interpreter("3.9");
    growth_on_3_10, growth_attached_midway_on_3_10: machine::interpreter("3.10");
    growth_on_3_11, growth_attached_midway_on_3_11: machine::interpreter("3.11");
    growth_on_debians_static_3_11, growth_attached_midway_on_debians_static_3_11:
        machine::debian_interpreter();
    growth_on_3_12, growth_attached_midway_on_3_12: machine::interpreter("3.12");
    growth_on_3_13, growth_attached_midway_on_3_13: machine::interpreter("3.13");
    growth_on_debians_static_3_13, growth_attached_midway_on_debians_static_3_13:
        machine::packaged_interpreter("3.13");
    growth_on_3_14, growth_attached_midway_on_3_14: machine::interpreter("3.14");
    growth_on_3_15, growth_attached_midway_on_3_15: machine::interpreter("3.15");
}

#[test]
fn growth_of_a_bare_file_runs_with_python3() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(_) = require(machine::default_interpreter()) else {
        return;
    };
    let script = workload("growth.py");
    let ended = session.run(&["run", "-o", "out", &script.to_string_lossy()]);
    check_functions(&session.report(), &truth::parse::<Growth>(&ended.stdout)[0]);
}

fn run_on(python: Result<PathBuf, String>) {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(python) else {
        return;
    };
    let script = workload("growth.py");
    let (python, script) = (python.to_string_lossy(), script.to_string_lossy());
    let ended = session.run(&["run", "-o", "out", "--", &python, &script]);
    let truth = &truth::parse::<Growth>(&ended.stdout)[0];
    let report = session.report();
    check_functions(&report, truth);
    session.folded(&report);
    report.assert_nothing_lost();
    report.assert_shares(0.97, 0.90);
    assert!(
        report.command.contains("growth.py"),
        "command: {}",
        report.command
    );
    // From exec to the end: everything that the process has at its end is growth of the trace.
    let process = report.process(truth.pid);
    NET.check("net of the process", process.net, truth.rss_after);
    NET.check("rss_end of the process", process.rss_end, truth.rss_after);
}

fn attach_to(python: Result<PathBuf, String>) {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(python) else {
        return;
    };
    let ready = Gate::new(session.dir(), "ready");
    let go = Gate::new(session.dir(), "go");
    let target = Program::start(
        std::process::Command::new(python)
            .arg(workload("growth.py"))
            .args(["--ready", ready.path(), "--go", go.path()]),
    );
    let pid: u32 = ready.wait().parse().expect("growth.py writes its pid");
    let tracer = session.attach(pid, &[]);
    go.open();
    let ended = target.finish().expect_code(0);
    tracer.finish().expect_code(0);
    let truth = &truth::parse::<Growth>(&ended.stdout)[0];
    let report = session.report();
    check_functions(&report, truth);
    session.folded(&report);
    report.assert_nothing_lost();
    report.assert_shares(0.97, 0.90);
    let process = report.process(pid);
    NET.check(
        "net of the process",
        process.net,
        truth.rss_after - truth.rss_before,
    );
    NET.check(
        "rss_start of the process",
        process.rss_start,
        truth.rss_before,
    );
}

#[track_caller]
fn check_functions(report: &Report, truth: &Growth) {
    assert_eq!(truth.truth.len(), 11, "functions of growth.py");
    let source = workload("growth.py");
    for (name, amounts) in &truth.truth {
        let row = report.function(name, "growth.py");
        let bytes = |amount: i64| u64::try_from(amount).unwrap_or(0);
        GROSS.check(&format!("gross of {name}"), row.gross, bytes(amounts.gross));
        NET.check(&format!("net of {name}"), row.net, bytes(amounts.net));
        assert_eq!(
            row.gross - row.freed,
            row.net,
            "gross - freed = net: {row:?}"
        );
        assert_eq!(
            row.line,
            truth::first_line(&source, name),
            "first line of {name}"
        );
    }
}
