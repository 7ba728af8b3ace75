//! `trace`: several targets, threads, deep stacks, the ways in which a trace ends.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use memprof_tests::machine::{self, require, workload};
use memprof_tests::process::alive;
use memprof_tests::program::Program;
use memprof_tests::session::Session;
use memprof_tests::truth::{self, KIB, MIB, Tolerance, Worker};
use memprof_tests::{dat, folded};
use rustix::process::Signal;

const AMOUNT: Tolerance = Tolerance {
    percent: 2.0,
    floor: 256 * KIB,
};

const DEEP: Tolerance = Tolerance {
    percent: 2.0,
    floor: MIB,
};

fn on_command(python: &Path) -> Program {
    let mut target = Program::start(Command::new(python).arg(workload("on_command.py")));
    target.wait_stdout("ready ");
    target
}

/// Has the target make so many MiB resident, and waits until it has.
fn grow(target: &mut Program, mib: u64, nth: usize) {
    target.say(&format!("grow {mib}"));
    target.wait_stdout_lines("done grow", nth);
}

#[test]
fn two_targets_of_two_versions_at_once() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(older) = require(machine::interpreter("3.10")) else {
        return;
    };
    let Some(newer) = require(machine::interpreter("3.13")) else {
        return;
    };
    let (mut a, mut b) = (on_command(&older), on_command(&newer));
    let tracer = session.attach(a.pid(), &["-p", &b.pid().to_string()]);
    grow(&mut a, 16, 1);
    grow(&mut b, 32, 1);
    tracer.signal(Signal::INT);
    tracer.finish().expect_code(0);
    for (target, mib, version) in [(&a, 16, "3.10"), (&b, 32, "3.13")] {
        let report = session.report_of(target.pid());
        AMOUNT.check(
            "grow",
            report.function("grow", "on_command.py").net,
            mib * MIB,
        );
        let python = report
            .process(target.pid())
            .python
            .clone()
            .unwrap_or_default();
        assert!(python.starts_with(version), "{python} instead of {version}");
        assert!(alive(target.pid()), "the target outlives the trace");
    }
    session.report().assert_nothing_lost();
}

#[test]
fn a_comma_list_of_pids() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.11")) else {
        return;
    };
    let (mut a, mut b) = (on_command(&python), on_command(&python));
    let pids = format!("{},{}", a.pid(), b.pid());
    let mut tracer = session.start(&["trace", "--pid", &pids, "-o", "out"]);
    tracer.wait_stderr("attached");
    grow(&mut a, 8, 1);
    grow(&mut b, 8, 1);
    tracer.signal(Signal::TERM);
    tracer.finish().expect_code(0);
    AMOUNT.check(
        "both",
        session.report().gross("grow", "on_command.py"),
        16 * MIB,
    );
}

#[test]
fn the_habit_of_mprof_attach_is_trace() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    let mut target = on_command(&python);
    let pid = target.pid().to_string();
    let mut tracer = session.start(&["attach", &pid, "-o", "out"]);
    tracer.wait_stderr("attached");
    grow(&mut target, 8, 1);
    target.close_stdin();
    target.finish().expect_code(0);
    tracer.finish().expect_code(0);
    AMOUNT.check(
        "grow",
        session.report().gross("grow", "on_command.py"),
        8 * MIB,
    );
}

#[test]
fn a_duration_ends_the_trace_and_not_the_target() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    let mut target = on_command(&python);
    let begin = Instant::now();
    let tracer = session.attach(target.pid(), &["-d", "1.5"]);
    grow(&mut target, 8, 1);
    tracer.finish().expect_code(0);
    assert!(
        begin.elapsed() >= Duration::from_millis(1500),
        "before its time"
    );
    let report = session.report();
    AMOUNT.check("grow", report.gross("grow", "on_command.py"), 8 * MIB);
    assert!(
        (1.4..10.0).contains(&report.duration_s),
        "duration_s {}",
        report.duration_s
    );
    grow(&mut target, 1, 2);
    target.close_stdin();
    target.finish().expect_code(0);
}

#[test]
fn what_is_given_back_is_freed() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.11")) else {
        return;
    };
    let mut target = on_command(&python);
    let tracer = session.attach(target.pid(), &[]);
    grow(&mut target, 40, 1);
    grow(&mut target, 48, 2);
    target.say("fall 1");
    target.wait_stdout("done fall");
    tracer.signal(Signal::INT);
    tracer.finish().expect_code(0);
    let report = session.report();
    let row = report.function("grow", "on_command.py");
    AMOUNT.check("gross", row.gross, 88 * MIB);
    AMOUNT.check("freed", row.freed, 48 * MIB);
    AMOUNT.check("net", row.net, 40 * MIB);
    AMOUNT.check("peak", row.peak, 88 * MIB);
    let dat = dat::parse(&session.read("out.dat"));
    assert!(
        dat.command.contains("on_command.py"),
        "CMDLINE {}",
        dat.command
    );
}

#[test]
fn threads_that_have_released_the_gil_own_what_they_touch() {
    let Some(session) = Session::open() else {
        return;
    };
    for version in ["3.10", "3.11", "3.12", "3.13"] {
        let Some(python) = require(machine::interpreter(version)) else {
            return;
        };
        let truth = run_workload(&session, &python, "threads.py");
        let report = session.report();
        for (name, &bytes) in &truth.truth {
            AMOUNT.check(
                &format!("{name} on {version}"),
                report.gross(name, "threads.py"),
                bytes,
            );
        }
        let spin = report.gross("spin", "threads.py");
        assert!(
            spin < 256 * KIB,
            "{version}: the holder of the GIL is charged {spin}"
        );
        report.assert_nothing_lost();
    }
}

#[test]
fn an_address_range_that_goes_from_thread_to_thread_has_one_owner_at_a_time() {
    let Some(session) = Session::open() else {
        return;
    };
    for version in ["3.10", "3.11", "3.12", "3.13"] {
        let Some(python) = require(machine::interpreter(version)) else {
            return;
        };
        let truth = run_workload(&session, &python, "map_race.py");
        let report = session.report();
        report.assert_nothing_lost();
        for (name, &bytes) in &truth.truth {
            let row = report.function(name, "map_race.py");
            AMOUNT.check(&format!("gross of {name} on {version}"), row.gross, bytes);
            AMOUNT.check(&format!("net of {name} on {version}"), row.net, 0);
        }
        // Traced from its exec on, so all that is resident at its end is net.
        let process = report.process(truth.pid);
        AMOUNT.check(
            &format!("rss_end on {version}"),
            process.rss_end,
            process.net,
        );
    }
}

#[test]
fn a_recursion_900_deep_is_seen_to_its_root() {
    let Some(session) = Session::open() else {
        return;
    };
    for version in ["3.10", "3.11", "3.12", "3.13"] {
        let Some(python) = require(machine::interpreter(version)) else {
            return;
        };
        let truth = run_workload(&session, &python, "deep.py");
        let report = session.report();
        report.assert_nothing_lost();
        for (name, &bytes) in &truth.truth {
            let what = format!("{name} on {version}, counted once");
            // Under descend() stand the 900 frames themselves too: some 100 KiB of Python's own
            // stack, and before 3.11 a C stack and a frame object each, 800 bytes.
            DEEP.check(&what, report.gross(name, "deep.py"), bytes);
        }
        report.assert_nothing_lost();
        let rows = session.folded(&report);
        let deepest = rows
            .iter()
            .filter(|row| {
                row.frames
                    .last()
                    .is_some_and(|frame| frame.is("bottom", "deep.py"))
            })
            .max_by_key(|row| row.bytes)
            .unwrap_or_else(|| panic!("{version}: bottom() is on top of no stack"));
        let levels = deepest
            .frames
            .iter()
            .filter(|f| f.is("descend", "deep.py"))
            .count();
        assert_eq!(levels, 900, "{version}: levels of descend()");
        let source = workload("deep.py");
        let calls = deepest
            .frames
            .iter()
            .filter(|f| f.is("descend", "deep.py"))
            .map(|f| f.line);
        let mut calls: Vec<u32> = calls.collect();
        calls.dedup();
        let outer = truth::lines_of(&source, "descend", "descend(left - 1)")[0];
        let inner = truth::lines_of(&source, "descend", "bottom()")[0];
        assert_eq!(calls, [outer, inner], "{version}: lines of descend()");
        assert!(
            folded::lines_under(&rows, truth.pid, "main", "deep.py").len() <= 2,
            "main"
        );
    }
}

fn run_workload(session: &Session, python: &Path, name: &str) -> Worker {
    let script = workload(name);
    let (python, script) = (python.to_string_lossy(), script.to_string_lossy());
    let ended = session.run(&["run", "--force", "-o", "out", "--", &python, &script]);
    truth::parse::<Worker>(&ended.stdout).remove(0)
}

#[test]
fn the_text_report_and_a_pipe_that_nobody_reads() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    let script = workload("growth.py");
    let (python, script) = (python.to_string_lossy(), script.to_string_lossy());
    session.run(&["run", "-o", "out", "--", &python, &script]);
    let text = session.run(&["report", "out.memprof"]).stdout;
    for word in ["keep_bytes", "growth.py", "MiB"] {
        assert!(text.contains(word), "no {word} in the report:\n{text}");
    }
    for args in [
        &["report", "out.memprof"][..],
        &["report", "out.memprof", "--json"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = session
            .command(args)
            .stdout(writer)
            .output()
            .expect("start");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.is_empty(),
            "{}: {said}",
            output.status
        );
        // What was not written is told: a full disk has no end of a report.
        let full = std::fs::File::create("/dev/full").expect("/dev/full");
        let output = session.command(args).stdout(full).output().expect("start");
        let said = String::from_utf8_lossy(&output.stderr);
        let told = said.contains("error: cannot write to stdout");
        assert!(output.status.code() == Some(1) && told, "{said}");
    }
}
