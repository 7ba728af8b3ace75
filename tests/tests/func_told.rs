//! `--func` under `run`: a program tells of its functions before it defines them, and each is
//! marked from its first call on. How that, and watching calls as such, may go wrong.

use std::path::Path;
use std::process::Command;

use memprof_tests::machine::{self, require, workload};
use memprof_tests::program::Program;
use memprof_tests::report::Mark;
use memprof_tests::session::Session;

/// Runs the workload; the pids that it tells, what the tracer said, and the marks.
fn run(
    session: &Session,
    python: &Path,
    options: &[&str],
    arguments: &[&str],
) -> (Vec<u32>, String, Vec<Mark>) {
    let mut args = vec!["run", "-E", "-o", "out"];
    args.extend(options);
    let (python, script) = (python.display().to_string(), workload("defined.py"));
    let script = script.display().to_string();
    args.extend(["--", &python, &script]);
    args.extend(arguments);
    let ended = session.run(&args);
    let report = session.report();
    assert_eq!(report.loss.events_lost, 0, "{:?}", report.loss);
    assert!(!report.loss.other.contains_key("marks missed"));
    let pids = ended
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("pid "));
    let pids = pids.map(|pid| pid.parse().expect("a pid")).collect();
    (pids, ended.stderr, report.marks)
}

fn assert_exact(marks: &[Mark], pid: u32, function: &str, calls: u64) {
    let found = marks
        .iter()
        .find(|mark| mark.pid == pid && mark.function == function);
    let mark = found.unwrap_or_else(|| panic!("no {function} of {pid} in {marks:#?}"));
    assert_eq!((mark.calls, mark.approximate), (calls, false), "{mark:?}");
}

#[test]
fn each_worker_waits_for_its_own_answer() {
    let (Some(session), Some(python)) = (Session::open(), require(machine::interpreter("3.13")))
    else {
        return;
    };
    let (pids, _, marks) = run(&session, &python, &["-f", "late"], &["workers", "4"]);
    assert_eq!(pids.len(), 4);
    for pid in pids {
        assert_exact(&marks, pid, "__main__.late", 10);
    }
}

#[test]
fn a_function_that_is_made_anew_has_a_debug_register_beside_a_forked_child() {
    // Frames of both kinds.
    for version in ["3.10", "3.13"] {
        let (Some(session), Some(python)) =
            (Session::open(), require(machine::interpreter(version)))
        else {
            return;
        };
        let (pids, said, marks) = run(&session, &python, &["-f", "late"], &["anew", "9"]);
        assert_exact(&marks, pids[0], "__main__.late", 90);
        assert!(!said.contains("approximate"), "{said}");
    }
}

#[test]
fn a_watchpoint_that_a_child_shares_is_not_taken_for_that_of_another_function() {
    let (Some(session), Some(python)) = (Session::open(), require(machine::interpreter("3.10")))
    else {
        return;
    };
    let (pids, _, marks) = run(&session, &python, &["-f", "late"], &["later"]);
    assert_exact(&marks, pids[0], "__main__.late", 20);
}

#[test]
fn many_functions_of_one_name_are_no_mistake() {
    let (Some(session), Some(python)) = (Session::open(), require(machine::interpreter("3.12")))
    else {
        return;
    };
    let (_, said, marks) = run(&session, &python, &["-f", "late"], &["alike", "150"]);
    assert!(!said.contains("means"), "{said}");
    // Of the others, which is said, only what grew shows.
    assert!(said.contains("marked only where memory grew"), "{said}");
    let late = marks.iter().find(|mark| mark.function == "__main__.late");
    assert!(late.is_some_and(|late| late.calls >= 4), "{marks:#?}");
}

#[test]
fn greenlet_that_is_imported_later_changes_nothing() {
    let (Some(session), Some(python)) = (Session::open(), require(machine::venv("python"))) else {
        return;
    };
    let (pids, _, marks) = run(&session, &python, &["-f", "early"], &["greenlet"]);
    assert_exact(&marks, pids[0], "__main__.early", 10);
}

#[test]
fn a_program_without_an_interpreter_that_is_known_does_not_wait() {
    let Some(session) = Session::open() else {
        return;
    };
    // It says what memprof_ebpf_functions.py says. Less than that waits, in all, before it gives up.
    let script = r#"
        test -r /memprof-ebpf/f/1000:5:module:late
        for _ in $(seq 200); do
            test -e "${PYTHONPATH%%:*}/answers/5" && exit 0
            sleep 0.01
        done
        exit 1"#;
    let args = [
        "run", "-E", "-f", "late", "-o", "out", "--", "sh", "-c", script,
    ];
    session.start(&args).finish().expect_code(0);
}

#[test]
fn children_that_are_not_followed_have_no_watchpoints() {
    let (Some(session), Some(other), Some(python)) = (
        Session::open(),
        Session::open(),
        require(machine::interpreter("3.12")),
    ) else {
        return;
    };
    let mut program = Program::start(
        Command::new(python)
            .arg(workload("defined.py"))
            .arg("forked"),
    );
    program.wait_stdout("ready");
    // They take all debug registers.
    let functions = ["early", "made", "call", "forked"];
    let mut options: Vec<&str> = functions.iter().flat_map(|name| ["-f", name]).collect();
    options.push("--no-follow");
    let first = session.attach(program.pid(), &options);
    program.say("fork");
    let line = program.wait_stdout("pid ");
    let child: u32 = line["pid ".len()..].parse().expect("a pid");
    let second = other.attach(child, &["-f", "early"]);
    program.say("call");
    program.finish().expect_code(0);
    first.finish().expect_code(0);
    second.finish().expect_code(0);
    assert_exact(&other.report().marks, child, "__main__.early", 10);
}

#[test]
fn more_threads_than_open_files_are_usual_are_watched() {
    let (Some(session), Some(python)) = (Session::open(), require(machine::interpreter("3.12")))
    else {
        return;
    };
    let mut program = Program::start(
        Command::new(python)
            .arg(workload("defined.py"))
            .args(["threads", "100"]),
    );
    program.wait_stdout("ready");
    let pid = program.pid();
    // A file for each thread and function; a quarter of the usual limit, for a quarter of the
    // threads.
    let mut tracer = Program::start(
        Command::new("sh")
            .args(["-c", r#"ulimit -S -n 256; exec "$0" "$@""#])
            .arg(session.binary())
            .args(["trace", "-o", "out", "-p", &pid.to_string()])
            .args(["-f", "early", "-f", "made", "-f", "call", "-f", "threads"])
            .current_dir(session.dir()),
    );
    tracer.wait_stderr("attached");
    program.say("go");
    program.finish().expect_code(0);
    tracer.finish().expect_code(0);
    assert_exact(&session.report().marks, pid, "__main__.early", 1000);
}
