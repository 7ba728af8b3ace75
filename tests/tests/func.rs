//! `--func`: each call of a chosen function is marked, in every process and thread, without a
//! change to the program.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use memprof_tests::errors::expect_error;
use memprof_tests::http;
use memprof_tests::machine::{self, require, workload};
use memprof_tests::program::Program;
use memprof_tests::report::Mark;
use memprof_tests::service::address;
use memprof_tests::session::Session;
use rustix::process::Signal;

/// The program, waiting for commands.
fn program(python: &PathBuf) -> Program {
    let mut program = Program::start(
        Command::new(python)
            .arg(workload("called.py"))
            .env("PYTHONDONTWRITEBYTECODE", "1"),
    );
    program.wait_stdout("ready");
    program
}

/// Has it do something, and waits for the answer.
fn order(program: &mut Program, word: &str, number: u64) -> Vec<String> {
    let beginning = format!("done {word}");
    program.say(&format!("{word} {number}"));
    let line = program.wait_stdout(&beginning);
    line.split_whitespace().skip(2).map(str::to_owned).collect()
}

fn attach(session: &Session, program: &Program, functions: &[&str]) -> Program {
    let options: Vec<&str> = functions.iter().flat_map(|name| ["-f", name]).collect();
    session.attach(program.pid(), &options)
}

/// Ends the program and with it the trace; what the trace told, and its marks.
fn end(session: &Session, mut program: Program, tracer: Program) -> (String, Vec<Mark>) {
    program.close_stdin();
    program.finish().expect_code(0);
    let said = tracer.finish().expect_code(0).stderr;
    (said, marks(session))
}

fn marks(session: &Session) -> Vec<Mark> {
    let report = session.report();
    assert_eq!(report.loss.events_lost, 0, "{:?}", report.loss);
    assert!(
        !report.loss.other.contains_key("marks missed"),
        "{:?}",
        report.loss
    );
    report.marks
}

fn mark<'a>(marks: &'a [Mark], pid: u32, function: &str) -> &'a Mark {
    let found = marks
        .iter()
        .find(|mark| mark.pid == pid && mark.function == function);
    found.unwrap_or_else(|| panic!("no {function} of {pid} in {marks:#?}"))
}

/// Calls by level.
fn levels(mark: &Mark) -> BTreeMap<u32, u64> {
    let rows = mark.levels.iter();
    rows.map(|level| (level.level, level.calls)).collect()
}

macro_rules! on_every_version {
    ($($version:ident: $python:expr;)*) => {$(
        mod $version {
            use super::*;

            #[test]
            fn each_call_is_marked_with_its_level() {
                each_call($python);
            }

            #[test]
            fn methods_closures_generators_and_late_functions_are_found() {
                kinds_of_functions($python);
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

fn each_call(python: Result<PathBuf, String>) {
    let (Some(session), Some(python)) = (Session::open(), require(python)) else {
        return;
    };
    let mut program = program(&python);
    let pid = program.pid();
    let functions = ["called.plain", "rec", "__main__.boom", "timed"];
    let tracer = attach(&session, &program, &functions);
    order(&mut program, "plain", 1000);
    order(&mut program, "recursion", 6);
    order(&mut program, "raise", 10);
    order(&mut program, "threads", 200);
    order(&mut program, "touch", 20);
    let children = order(&mut program, "fork", 50);
    let children: Vec<u32> = children
        .iter()
        .map(|word| word.trim_matches(['[', ']', ',']).parse().expect("a pid"))
        .collect();
    let stamps = order(&mut program, "time", 1);
    let (_, marks) = end(&session, program, tracer);

    // 1000, 1 in the recursion, 2 beside the exceptions, 4 * 200 in threads.
    let plain = mark(&marks, pid, "__main__.plain");
    assert_eq!(levels(plain), BTreeMap::from([(0, 1802), (6, 1)]));
    assert!(!plain.approximate && plain.cut == 0, "{plain:?}");
    let rec = mark(&marks, pid, "__main__.rec");
    assert_eq!(levels(rec), (0..6).map(|level| (level, 1)).collect());
    let boom = mark(&marks, pid, "__main__.boom");
    assert_eq!(levels(boom), BTreeMap::from([(0, 10)]));
    for (index, &child) in children.iter().enumerate() {
        let plain = mark(&marks, child, "__main__.plain");
        assert_eq!(levels(plain), BTreeMap::from([(0, 50)]), "child {index}");
    }
    let boom = mark(&marks, children[2], "__main__.boom");
    assert_eq!((boom.calls, boom.approximate), (1, false), "{boom:?}");

    // The clocks of both sides are one; the calendar is only added to both.
    let stamps: Vec<f64> = stamps
        .iter()
        .map(|word| word.parse().expect("seconds"))
        .collect();
    let offset = epoch_minus_monotonic();
    let [before, inside, still, after] = stamps[..] else {
        panic!("four times in {stamps:?}")
    };
    let timed = mark(&marks, pid, "__main__.timed");
    let (begin, end) = (timed.first_begin - offset, timed.last_end - offset);
    // What the issue asks for: 50 us.
    let near = 50e-6;
    assert!(
        before - near <= begin && begin <= inside + near,
        "begin at {begin}, the program says {before} to {inside}"
    );
    assert!(
        still - near <= end && end <= after + near,
        "end at {end}, the program says {still} to {after}"
    );
}

/// What the calendar says at zero of the monotonic clock, in seconds.
fn epoch_minus_monotonic() -> f64 {
    use rustix::time::{ClockId, clock_gettime};
    let seconds = |clock| {
        let time = clock_gettime(clock);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    // The closest of some pairs of readings: one may be interrupted in the middle.
    (0..100)
        .map(|_| {
            let before = seconds(ClockId::Monotonic);
            let epoch = seconds(ClockId::Realtime);
            let after = seconds(ClockId::Monotonic);
            (after - before, epoch - (before + after) / 2.0)
        })
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .expect("a hundred readings")
        .1
}

fn kinds_of_functions(python: Result<PathBuf, String>) {
    let (Some(session), Some(python)) = (Session::open(), require(python)) else {
        return;
    };
    let mut program = program(&python);
    let pid = program.pid();
    let functions = ["Thing.*", "outer.inner", "late"];
    let mut tracer = attach(&session, &program, &functions);
    order(&mut program, "methods", 30);
    order(&mut program, "define", 1);
    tracer.wait_stderr("each call of __main__.late is marked");
    order(&mut program, "late", 40);
    let (_, rows) = end(&session, program, tracer);
    for (function, calls) in [
        ("__main__.Thing.method", 30),
        ("__main__.Thing.static", 30),
        ("__main__.outer.<locals>.inner", 30),
        ("__main__.late", 40),
    ] {
        let mark = mark(&rows, pid, function);
        assert_eq!((mark.calls, mark.approximate), (calls, false), "{mark:?}");
    }

    let mut program = self::program(&python);
    let pid = program.pid();
    let tracer = session.attach(program.pid(), &["-f", "gen", "--force"]);
    order(&mut program, "generate", 10);
    let (said, rows) = end(&session, program, tracer);
    let gen_ = mark(&rows, pid, "__main__.gen");
    assert_eq!(
        (gen_.calls, gen_.cut, gen_.approximate),
        (10, 0, true),
        "{gen_:?}"
    );
    assert!(said.contains("gen makes generators"), "{said}");
}

macro_rules! hundred_thousand {
    ($($name:ident: $python:expr;)*) => {$(
        #[test]
        fn $name() {
            hundred_thousand_calls($python);
        }
    )*};
}

hundred_thousand! {
    a_hundred_thousand_calls_on_3_8: machine::interpreter("3.8");
    a_hundred_thousand_calls_on_3_11: machine::interpreter("3.11");
    a_hundred_thousand_calls_on_3_13: machine::interpreter("3.13");
    a_hundred_thousand_calls_on_3_14: machine::interpreter("3.14");
}

fn hundred_thousand_calls(python: Result<PathBuf, String>) {
    let (Some(session), Some(python)) = (Session::open(), require(python)) else {
        return;
    };
    let mut program = program(&python);
    let pid = program.pid();
    let tracer = attach(&session, &program, &["plain"]);
    order(&mut program, "plain", 100_000);
    let (_, marks) = end(&session, program, tracer);
    let plain = mark(&marks, pid, "__main__.plain");
    assert_eq!(levels(plain), BTreeMap::from([(0, 100_000)]));
    let lines = session.read("out.dat");
    let lines = lines.lines().filter(|line| line.starts_with("FUNC"));
    assert!((1..=500).contains(&lines.count()));
}

#[test]
fn the_fifth_function_is_marked_by_stacks_and_that_is_said() {
    let (Some(session), Some(python)) = (Session::open(), require(machine::interpreter("3.11")))
    else {
        return;
    };
    let mut program = program(&python);
    let pid = program.pid();
    let functions = ["plain", "rec", "boom", "timed", "grow"];
    let tracer = attach(&session, &program, &functions);
    order(&mut program, "plain", 10);
    order(&mut program, "grow", 8);
    let (said, marks) = end(&session, program, tracer);
    assert_eq!(mark(&marks, pid, "__main__.plain").calls, 10);
    let grow = mark(&marks, pid, "__main__.grow");
    assert!(grow.approximate && grow.calls >= 1, "{grow:?}");
    assert!(
        said.contains(
            "marked only where memory grew, from the stacks (approximate): __main__.grow"
        ),
        "{said}"
    );
}

#[test]
fn debug_registers_that_another_program_has_are_left_to_it() {
    let (Some(session), Some(other), Some(python)) = (
        Session::open(),
        Session::open(),
        require(machine::interpreter("3.13")),
    ) else {
        return;
    };
    let mut program = program(&python);
    let pid = program.pid();
    let first = attach(&other, &program, &["plain", "rec", "boom", "timed"]);
    let second = attach(&session, &program, &["grow", "plain"]);
    order(&mut program, "plain", 10);
    order(&mut program, "grow", 4);
    let (said, own) = end(&session, program, second);
    first.finish().expect_code(0);
    assert_eq!(mark(&marks(&other), pid, "__main__.plain").calls, 10);
    assert!(said.contains("has taken its debug registers"), "{said}");
    let grow = mark(&own, pid, "__main__.grow");
    assert!(grow.approximate && grow.calls >= 1, "{grow:?}");
}

#[test]
fn the_programs_own_function_goes_before_an_installed_one_when_it_comes_later() {
    let (Some(session), Some(python)) = (Session::open(), require(machine::interpreter("3.12")))
    else {
        return;
    };
    let installed = session.file("site-packages");
    std::fs::create_dir(&installed).expect("a folder");
    std::fs::write(installed.join("other.py"), "def late(n): pass\n").expect("a file");
    let script = workload("called.py");
    let code = format!("import other, runpy; runpy.run_path({script:?}, run_name='__main__')");
    let mut program = Program::start(
        Command::new(&python)
            .args(["-B", "-c", &code])
            .env("PYTHONPATH", &installed),
    );
    program.wait_stdout("ready");
    let pid = program.pid();
    let mut tracer = attach(&session, &program, &["late"]);
    order(&mut program, "define", 1);
    tracer.wait_stderr("each call of __main__.late is marked");
    order(&mut program, "late", 40);
    let (said, rows) = end(&session, program, tracer);
    assert!(said.contains("other.late is not marked any more"), "{said}");
    assert_eq!(mark(&rows, pid, "__main__.late").calls, 40);
    assert_eq!(rows.len(), 1, "{rows:#?}");
}

#[test]
fn a_name_that_means_nothing_gets_the_nearest() {
    let (Some(session), Some(python)) = (Session::open(), require(machine::interpreter("3.11")))
    else {
        return;
    };
    let program = program(&python);
    let tracer = attach(&session, &program, &["called.plian"]);
    let (said, marks) = end(&session, program, tracer);
    assert!(marks.is_empty(), "{marks:?}");
    assert!(
        said.contains("--func called.plian: no traced process had such a function"),
        "{said}"
    );
    assert!(said.contains("try: --func __main__.plain"), "{said}");
}

#[test]
fn a_name_that_means_hundreds_is_refused() {
    let (Some(session), Some(python)) = (Session::open(), require(machine::interpreter("3.11")))
    else {
        return;
    };
    let mut program = program(&python);
    order(&mut program, "many", 150);
    let pid = program.pid().to_string();
    let args = ["trace", "-p", &pid, "-f", "many_*", "-o", "out"];
    let said = expect_error(session.start(&args).finish(), 2);
    assert!(said.error.contains("150 functions"), "{said:?}");
    said.expect_words(&["--func __main__.many_"]);
    order(&mut program, "plain", 1);
}

#[test]
fn a_killed_tracer_leaves_the_program_and_its_debug_registers() {
    let (Some(session), Some(python)) = (Session::open(), require(machine::interpreter("3.11")))
    else {
        return;
    };
    let mut program = program(&python);
    let pid = program.pid();
    let functions = ["plain", "rec", "boom", "timed"];
    let tracer = attach(&session, &program, &functions);
    order(&mut program, "plain", 100);
    tracer.signal(Signal::KILL);
    tracer.finish();
    order(&mut program, "threads", 10);
    let tracer = attach(&session, &program, &["grow", "gen", "rec", "plain"]);
    order(&mut program, "plain", 50);
    let (_, marks) = end(&session, program, tracer);
    let plain = mark(&marks, pid, "__main__.plain");
    assert_eq!((plain.calls, plain.approximate), (50, false));
}

#[test]
fn a_function_that_is_called_as_soon_as_it_is_defined_is_marked_under_run() {
    let (Some(session), Some(python)) = (Session::open(), require(machine::interpreter("3.11")))
    else {
        return;
    };
    let python = python.display().to_string();
    let script = workload("called.py").display().to_string();
    let args = [
        "run", "-f", "main", "-f", "plain", "-o", "out", "--", &python, &script,
    ];
    let mut tracer = session.start(&args);
    tracer.wait_stdout("ready");
    tracer.wait_stderr("each call of __main__.plain is marked");
    tracer.say("plain 20");
    tracer.wait_stdout("done plain");
    tracer.close_stdin();
    tracer.finish().expect_code(0);
    let marks = marks(&session);
    let of = |name: &str| {
        let found = marks.iter().find(|mark| mark.function == name);
        found.unwrap_or_else(|| panic!("no {name} in {marks:#?}"))
    };
    // The one that came before the other was found, too.
    for (name, calls) in [("__main__.main", 1), ("__main__.plain", 20)] {
        assert_eq!((of(name).calls, of(name).approximate), (calls, false));
    }
}

#[test]
fn four_nested_functions_of_a_service_are_marked_in_each_worker_one_request_at_a_time() {
    requests_to_two_workers(1, "nested_service.");
}

#[test]
fn four_nested_functions_of_a_service_are_marked_in_each_worker_with_three_requests_at_a_time() {
    // Functions of gunicorn and gevent have these names too.
    requests_to_two_workers(3, "");
}

/// Six requests, and more until each of two gevent workers has had two, so many at a time.
fn requests_to_two_workers(at_a_time: usize, module: &str) {
    let (Some(session), Some(gunicorn)) = (Session::open(), require(machine::venv("gunicorn")))
    else {
        return;
    };
    let workloads = workload("nested_service.py");
    let mut service = Program::start(
        Command::new(gunicorn)
            .args(["-w", "2", "-k", "gevent", "-b", "127.0.0.1:0"])
            .args(["--no-control-socket", "nested_service:app"])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(workloads.parent().expect("a folder")),
    );
    let serving = |text: &str| text.matches("serving ").count() == 2;
    service.wait_stderr_text(serving, "two workers");
    let address = address(&service.stderr_so_far()).expect("an address");

    let functions = ["handle", "load", "parse", "store"];
    let named = functions.map(|name| format!("{module}{name}"));
    let functions = functions.map(|name| format!("nested_service.{name}"));
    let options: Vec<&str> = named.iter().flat_map(|name| ["-f", name]).collect();
    let tracer = session.attach(service.pid(), &options);
    let mut answered = BTreeMap::<u32, u64>::new();
    // Who accepts is the kernel's choice.
    for round in 0.. {
        let enough = answered.len() == 2 && answered.values().all(|&count| count >= 2);
        if round * at_a_time >= 6 && enough {
            break;
        }
        assert!(round < 60, "one worker has all requests: {answered:?}");
        let requests: Vec<_> = (0..at_a_time).map(|_| http::get(address, "/")).collect();
        for request in requests {
            let pid = request.body().expect("an answer");
            *answered.entry(pid.parse().expect("a pid")).or_default() += 1;
        }
    }
    service.signal(Signal::TERM);
    service.finish();
    tracer.finish().expect_code(0);
    let marks = marks(&session);
    for (&worker, &requests) in &answered {
        for (level, function) in functions.iter().enumerate() {
            let mark = mark(&marks, worker, function);
            let expected = BTreeMap::from([(level as u32, requests)]);
            assert_eq!(levels(mark), expected, "{mark:?}");
            assert!(!mark.approximate && mark.cut == 0, "{mark:?}");
        }
    }
    assert_eq!(marks.len(), 8, "{marks:#?}");
}
