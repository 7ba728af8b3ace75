//! `run --func`: functions are marked from their first call on, since the program tells of them
//! before it defines them, and waits. With no tracer there it does not wait.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use memprof_tests::http;
use memprof_tests::machine::{self, require, workload};
use memprof_tests::program::Program;
use memprof_tests::report::Mark;
use memprof_tests::service::address;
use memprof_tests::session::Session;
use rustix::process::Signal;

const FUNCTIONS: [&str; 4] = ["first", "Kind.*", "method.closure", "early_module.load"];

fn start(session: &Session, python: &Path) -> Program {
    let mut args = vec!["run", "--force", "-o", "out"];
    args.extend(FUNCTIONS.iter().flat_map(|name| ["-f", name]));
    let python = python.display().to_string();
    let script = workload("early.py").display().to_string();
    args.extend(["--", &python, &script]);
    let mut command = session.command(&args);
    let command = command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("TMPDIR", session.dir());
    Program::start(command)
}

fn marks(session: &Session) -> Vec<Mark> {
    let report = session.report();
    assert_eq!(report.loss.events_lost, 0, "{:?}", report.loss);
    let missed = report.loss.other.get("marks missed");
    assert_eq!(missed, None, "{:?}", report.loss);
    report.marks
}

/// Calls by function and level; none of them approximate or cut.
fn exact<'a>(marks: impl Iterator<Item = &'a Mark>) -> BTreeMap<(&'a str, u32), u64> {
    let mut calls = BTreeMap::new();
    for mark in marks {
        assert!(!mark.approximate && mark.cut == 0, "{mark:?}");
        for level in &mark.levels {
            calls.insert((mark.function.as_str(), level.level), level.calls);
        }
    }
    calls
}

macro_rules! from_the_first_call {
    ($($name:ident: $python:expr;)*) => {$(
        #[test]
        fn $name() {
            from_the_first_call($python);
        }
    )*};
}

from_the_first_call! {
    from_the_first_call_on_3_8: machine::interpreter("3.8");
    from_the_first_call_on_3_9: machine::interpreter("3.9");
    from_the_first_call_on_3_10: machine::interpreter("3.10");
    from_the_first_call_on_3_11: machine::interpreter("3.11");
    from_the_first_call_on_debians_static_3_11: machine::debian_interpreter();
    from_the_first_call_on_3_12: machine::interpreter("3.12");
    from_the_first_call_on_3_13: machine::interpreter("3.13");
    from_the_first_call_on_3_14: machine::interpreter("3.14");
    from_the_first_call_on_3_15: machine::interpreter("3.15");
}

fn from_the_first_call(python: Result<PathBuf, String>) {
    let (Some(session), Some(python)) = (Session::open(), require(python)) else {
        return;
    };
    let mut program = start(&session, &python);
    program.wait_stdout("ready");
    program.say("go");
    program.finish().expect_code(0);
    let expected = BTreeMap::from([
        (("__main__.first", 0), 7),
        (("__main__.Kind.method", 0), 1),
        (("__main__.Kind.method.<locals>.closure", 1), 1),
        (("early_module.load", 0), 2),
        (("early_module.load", 1), 2),
        (("early_module.load", 2), 1),
        (("early_module.load", 3), 1),
    ]);
    assert_eq!(exact(marks(&session).iter()), expected);
}

#[test]
fn workers_are_marked_from_their_first_request() {
    workers_from_their_first_request("nested_service.");
}

/// gunicorn and gevent have functions of these names too, and define them before.
#[test]
fn a_bare_name_means_the_workers_own_functions() {
    workers_from_their_first_request("");
}

fn workers_from_their_first_request(module: &str) {
    let (Some(session), Some(gunicorn)) = (Session::open(), require(machine::venv("gunicorn")))
    else {
        return;
    };
    let gunicorn = gunicorn.display().to_string();
    let functions = ["handle", "load", "parse", "store"];
    let options = functions.map(|name| format!("{module}{name}"));
    let functions = functions.map(|name| format!("nested_service.{name}"));
    let mut args = vec!["run", "-o", "out"];
    args.extend(options.iter().flat_map(|name| ["-f", name]));
    args.extend([
        "--",
        &gunicorn,
        "-w",
        "2",
        "-k",
        "gevent",
        "-b",
        "127.0.0.1:0",
    ]);
    args.extend(["--no-control-socket", "nested_service:app"]);
    let mut command = session.command(&args);
    let folder = workload("nested_service.py");
    // gunicorn's own --pythonpath would make it ours.
    let command = command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONPATH", folder.parent().expect("a folder"));
    let mut service = Program::start(command);
    let serving = |text: &str| text.matches("serving ").count() == 2;
    service.wait_stderr_text(serving, "two workers");
    let address = address(&service.stderr_so_far()).expect("an address");
    let mut answered = BTreeMap::<u32, u64>::new();
    for _ in 0..8 {
        let answer = http::get(address, "/").body().expect("an answer");
        *answered.entry(answer.parse().expect("a pid")).or_default() += 1;
    }
    service.signal(Signal::TERM);
    service.finish();
    let marks = marks(&session);
    for (worker, requests) in answered {
        let own = marks.iter().filter(|mark| mark.pid == worker);
        let rows = functions.iter().zip(0..);
        let expected = rows.map(|(name, level)| ((name.as_str(), level), requests));
        assert_eq!(exact(own), expected.collect(), "worker {worker}");
    }
}

#[test]
fn a_program_whose_tracer_was_killed_goes_on() {
    let (Some(session), Some(python)) = (Session::open(), require(machine::interpreter("3.12")))
    else {
        return;
    };
    let mut program = start(&session, &python);
    program.wait_stdout("ready");
    program.signal(Signal::KILL);
    program.wait_end();
    program.say("go");
    program.wait_stdout("done");
}

#[test]
fn a_program_sees_that_it_is_asked_and_nothing_else() {
    let Some(session) = Session::open() else {
        return;
    };
    let script = workload("environment.py").display().to_string();
    for (version, expected) in [
        ("3.7", &["memprof_ebpf_profile"][..]),
        ("3.12", &["memprof_ebpf_functions", "memprof_ebpf_profile"]),
    ] {
        let Some(python) = require(machine::interpreter(version)) else {
            return;
        };
        let python = python.display().to_string();
        let command = [&python, "-B", &script];
        let traced = [
            &["run", "-q", "--force", "-f", "*", "-o", "out", "--"],
            &command[..],
        ];
        let mut bare = Command::new(command[0]);
        let bare = bare.args(&command[1..]).current_dir(session.dir());
        let mut traced = session.command(&traced.concat());
        let [bare, traced] = [bare, &mut traced].map(|command| {
            // It would stand in what the program prints, and be taken for a panic's.
            let ended = Program::start(command.env_remove("RUST_BACKTRACE")).finish();
            let seen: serde_json::Value =
                serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended:?}"));
            let modules = seen["modules"].as_array().expect("a list").clone();
            (modules, seen["path"].clone())
        });
        assert_eq!(traced.1, bare.1, "sys.path of {version}");
        let ours = traced.0.iter().filter(|module| !bare.0.contains(module));
        let ours: Vec<&str> = ours.filter_map(|module| module.as_str()).collect();
        assert_eq!(ours, expected, "{version}");
    }
}
