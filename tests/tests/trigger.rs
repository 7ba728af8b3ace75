//! Thresholds: what is known is saved and shown at the moment of crossing, and the process may be
//! stopped.

use std::process::Command;

use memprof_tests::machine::{self, require, workload};
use memprof_tests::process::{PATIENCE, wait_until};
use memprof_tests::program::Program;
use memprof_tests::report::Report;
use memprof_tests::session::Session;
use memprof_tests::truth::MIB;
use rustix::process::Signal;

/// A program that grows on command, and its tracer.
struct Watched {
    session: Session,
    target: Program,
    tracer: Program,
}

fn watched(options: &[&str]) -> Option<Watched> {
    let session = Session::open()?;
    let python = require(machine::interpreter("3.12"))?;
    let mut target = Program::start(Command::new(python).arg(workload("on_command.py")));
    target.wait_stdout("ready ");
    let tracer = session.attach(target.pid(), options);
    Some(Watched {
        session,
        target,
        tracer,
    })
}

fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

#[test]
fn a_threshold_that_is_crossed_saves_and_shows_who_grew() {
    let Some(mut watched) = watched(&["--trigger", "rss>100M", "--trigger", "growth>1G/min"])
    else {
        return;
    };
    // Some 10 MiB of interpreter: below.
    watched.target.say("grow 50");
    watched.target.wait_stdout("done grow");
    watched.target.say("grow 70");
    watched.tracer.wait_stderr("trigger rss>100M: ");
    // The stack of the moment, then who made it resident, then the file.
    watched
        .tracer
        .wait_stderr_text(|text| text.contains("main ("), "a stack with main");
    watched.tracer.wait_stderr("written: ");
    let path = watched.session.file("out.trigger-1.memprof");
    let args = ["report", &path.to_string_lossy(), "--json"];
    let report = Report::parse(&watched.session.run(&args).stdout);
    let grow = report.function("grow", "on_command.py");
    // What is not its own of the 100 MiB: the interpreter.
    assert!(grow.net >= 80 * MIB, "{grow:?}");
    // Once a crossing.
    watched.target.wait_stdout("done grow");
    watched.target.say("grow 10");
    watched.target.wait_stdout("done grow");
    watched.tracer.signal(Signal::INT);
    let ended = watched.tracer.finish().expect_code(0);
    assert_eq!(
        ended.stderr.matches("trigger ").count(),
        1,
        "{}",
        ended.stderr
    );
    assert!(!watched.session.file("out.trigger-2.memprof").exists());
}

#[test]
fn a_process_is_stopped_on_request_and_goes_on() {
    let Some(mut watched) = watched(&["--trigger", "total:uss>60M", "--on-trigger", "stop"]) else {
        return;
    };
    let pid = watched.target.pid();
    watched.target.say("grow 80");
    watched.tracer.wait_stderr("process ");
    wait_until("the process to be stopped", PATIENCE, || {
        (state(pid) == Some('T')).then_some(())
    });
    watched.target.signal(Signal::CONT);
    watched.target.wait_stdout("done grow");
    watched.target.say("grow 1");
    watched.target.wait_stdout("done grow");
    watched.target.close_stdin();
    watched.target.finish().expect_code(0);
    watched.tracer.finish().expect_code(0);
    watched.session.report().assert_nothing_lost();
}

#[test]
fn a_command_is_told_what_happened() {
    let script = "exec echo \"$MEMPROF_PID $MEMPROF_TRIGGER $MEMPROF_CAPTURE\" > told.part && mv told.part told";
    let Some(mut watched) = watched(&["--trigger", "rss>80M", "--on-trigger", script]) else {
        return;
    };
    watched.target.say("grow 100");
    watched.target.wait_stdout("done grow");
    let told = watched.session.file("told");
    wait_until("the command", PATIENCE, || told.exists().then_some(()));
    let words = watched.session.read("told");
    let pid = watched.target.pid();
    assert!(words.starts_with(&format!("{pid} rss>80M ")), "{words}");
    assert!(
        words.trim_end().ends_with("out.trigger-1.memprof"),
        "{words}"
    );
    watched.tracer.signal(Signal::INT);
    watched.tracer.finish().expect_code(0);
}

#[test]
fn another_process_with_the_same_pid_crosses_by_itself() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    let mut target = Program::start(
        Command::new(python)
            .arg(workload("same_pid.py"))
            .arg("hold"),
    );
    target.wait_stdout("ready ");
    // Seldom enough for the second one to grow between two looks.
    let options = ["--trigger", "rss>60M", "--interval", "1"];
    let mut tracer = session.attach(target.pid(), &options);
    target.say("go");
    for crossing in 1..=2 {
        let written = format!("written: out.trigger-{crossing}.memprof");
        tracer.wait_stderr_text(|text| text.contains(&written), &written);
        target.say("");
    }
    target.finish().expect_code(0);
    tracer.finish().expect_code(0);
}

#[test]
fn what_is_no_threshold_is_a_mistake_of_usage() {
    let Some(session) = Session::open() else {
        return;
    };
    let pid = std::process::id().to_string();
    for words in [
        ["--trigger", "rss<2G"].as_slice(),
        &["--trigger", "rss>2G", "--on-trigger", "kill"],
        &["--on-trigger", "stop"],
    ] {
        let mut args = vec!["trace", "-p", &pid];
        args.extend(words);
        let ended = session.start(&args).finish().expect_code(2);
        assert!(ended.stderr.contains("--trigger") || ended.stderr.contains("--on-trigger"));
    }
}
