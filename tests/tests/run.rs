//! `run`: the program behaves as without the tracer, and the files belong to who asked for them.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use memprof_tests::dat;
use memprof_tests::machine::{self, require, workload};
use memprof_tests::process;
use memprof_tests::program::Program;
use memprof_tests::session::Session;
use memprof_tests::truth;
use rustix::process::Signal;
use serde::Deserialize;

/// `nobody` on Debian: any user but root will do.
const NOBODY: u32 = 65534;

#[derive(Debug, Deserialize, PartialEq)]
struct Passed {
    argv: Vec<String>,
    stdin: String,
    uid: u32,
    cwd: String,
    env: String,
    ignored: String,
    blocked: String,
}

fn session() -> Option<(Session, PathBuf)> {
    let session = Session::open()?;
    let python = require(machine::interpreter("3.12"))?;
    Some((session, python))
}

/// `run -o out OPTIONS -- python passes_through.py WORDS`.
fn run_command(session: &Session, python: &PathBuf, options: &[&str], words: &[&str]) -> Command {
    let mut command = session.command(&["run", "-o", "out"]);
    command
        .args(options)
        .arg("--")
        .arg(python)
        .arg(workload("passes_through.py"))
        .args(words);
    command
}

#[test]
fn arguments_stdin_environment_and_signal_state_pass_untouched() {
    let Some((session, python)) = session() else {
        return;
    };
    let words = ["-x", "--", "-1", "--pid", "a b", "", "é;'\"$HOME", "-o"];
    // As the tracer is started: whoever runs the tests may ignore the signal.
    let mut bare = Command::new("env");
    bare.arg("--default-signal=INT")
        .arg(&python)
        .arg(workload("passes_through.py"))
        .args(words)
        .current_dir(session.dir());
    let mut seen = Vec::new();
    for mut command in [bare, run_command(&session, &python, &[], &words)] {
        let mut program = Program::start(command.env("PASSED", "through"));
        program.say("one line");
        program.say("another");
        program.close_stdin();
        let ended = program.finish().expect_code(0);
        let mut passed = truth::parse::<Passed>(&ended.stdout).remove(0);
        for signals in [&mut passed.ignored, &mut passed.blocked] {
            *signals = without_glibcs_own(signals);
        }
        seen.push(passed);
    }
    assert_eq!(seen[1].argv, words);
    assert_eq!(seen[1].stdin, "one line\nanother\n");
    assert_eq!(seen[1].env, "through");
    assert_eq!(seen[0], seen[1], "without and with the tracer");
}

/// A mask of signals without 32 and 33, which glibc keeps for its threads: it takes them when it
/// starts one, so exec may reset what an unusual parent (a CI runner) ignored.
fn without_glibcs_own(mask: &str) -> String {
    let mask = u64::from_str_radix(mask, 16).unwrap_or_else(|e| panic!("{mask}: {e}"));
    format!("{:016x}", mask & !(3 << 31))
}

#[test]
fn the_exit_code_is_the_programs_only_with_e() {
    let Some((session, python)) = session() else {
        return;
    };
    let run = |options: &[&str], words: &[&str]| {
        let options = [options, &["--force"]].concat();
        let mut program = Program::start(&mut run_command(&session, &python, &options, words));
        program.close_stdin();
        program.finish()
    };
    run(&[], &["--code", "3"]).expect_code(0);
    run(&["-E"], &["--code", "3"]).expect_code(3);
    run(&["--exit-code"], &["--code", "0"]).expect_code(0);
    run(&[], &["--die", "9"]).expect_code(0);
    // As a shell says it: 128 + the signal.
    run(&["-E"], &["--die", "9"]).expect_code(137);
}

/// Names have seconds: who starts several runs at once starts them in one.
#[test]
fn runs_of_one_second_do_not_take_each_others_names() {
    let Some((session, python)) = session() else {
        return;
    };
    let python = python.to_string_lossy();
    let words = ["run", "-q", "--", &python, "-c", "pass"];
    let runs: Vec<Program> = (0..4).map(|_| session.start(&words)).collect();
    for run in runs {
        run.finish().expect_code(0);
    }
    for ending in ["dat", "folded", "memprof"] {
        let entries = std::fs::read_dir(session.dir()).expect("the scratch folder");
        let names = entries.flatten().map(|entry| entry.file_name());
        let names = names.filter(|name| Path::new(name).extension().is_some_and(|e| e == ending));
        assert_eq!(names.count(), 4, "{ending}");
    }
    assert_eq!(session.run(&["list"]).stdout.lines().count(), 4);
}

/// Between its fork and its exec a program is a copy of the tracer, which has far more resident.
#[test]
fn what_the_tracer_has_resident_is_not_the_programs() {
    let Some((session, _)) = session() else {
        return;
    };
    // The first sample falls before the exec or after it.
    for _ in 0..3 {
        session.run(&["run", "-q", "--force", "-o", "out", "--", "sleep", "0.3"]);
        let peak = dat::parse(&session.read("out.dat")).peak();
        assert!((0.5..8.0).contains(&peak), "sleep has {peak} MiB?");
        let rss_peak = session.report().processes[0].rss_peak;
        assert!(rss_peak < 8 * truth::MIB, "{rss_peak}");
    }
}

#[test]
fn signals_reach_the_program() {
    let Some((session, python)) = session() else {
        return;
    };
    let mut tracer = Program::start(&mut run_command(&session, &python, &["-E"], &["--wait"]));
    tracer.wait_stdout("{");
    for (signal, name) in [(Signal::USR1, "SIGUSR1"), (Signal::HUP, "SIGHUP")] {
        tracer.signal(signal);
        tracer.wait_stdout(&format!("got {name}"));
    }
    tracer.signal(Signal::TERM);
    // The program's answer to SIGTERM is exit code 7, and the files are written all the same.
    let ended = tracer.finish().expect_code(7);
    assert!(ended.stdout.contains("got SIGTERM"), "{}", ended.stdout);
    assert!(
        session.file("out.memprof").is_file(),
        "no capture after SIGTERM"
    );
}

#[test]
fn a_time_out_ends_the_trace_and_not_the_program() {
    let Some((session, python)) = session() else {
        return;
    };
    let begin = Instant::now();
    let mut command = session.command(&["run", "-o", "out", "-t", "1", "--"]);
    let mut tracer = Program::start(command.arg(&python).arg(workload("on_command.py")));
    let ready = tracer.wait_stdout("ready ");
    let pid: u32 = ready["ready ".len()..].parse().expect("ready PID");
    // The tracer's death must not matter: the program has the pipe of this test as its stdin.
    tracer.say("grow 8");
    tracer.wait_stdout("done grow");
    tracer.wait_end();
    assert!(begin.elapsed() >= Duration::from_secs(1), "before its time");
    assert!(process::alive(pid), "the program ended with the trace");
    tracer.say("grow 1");
    tracer.wait_stdout_lines("done grow", 2);
    tracer.close_stdin();
    process::wait_until("the program's own end", process::PATIENCE, || {
        (!process::alive(pid)).then_some(())
    });
    assert!(session.report().gross("grow", "on_command.py") >= 8 * truth::MIB);
}

#[test]
fn files_belong_to_the_user_who_called_sudo() {
    let Some((session, python)) = session() else {
        return;
    };
    let options = ["--flamegraph", "out.svg"];
    let mut command = run_command(&session, &python, &options, &[]);
    let user = NOBODY.to_string();
    command
        .env("SUDO_UID", &user)
        .env("SUDO_GID", &user)
        .env("SUDO_USER", "nobody");
    let mut program = Program::start(&mut command);
    program.close_stdin();
    let ended = program.finish().expect_code(0);
    for file in ["out.dat", "out.folded", "out.memprof", "out.svg"] {
        let meta = std::fs::metadata(session.file(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(
            (meta.uid(), meta.gid()),
            (NOBODY, NOBODY),
            "owner of {file}"
        );
    }
    // The program itself runs as the caller, as under perf and py-spy.
    assert_eq!(truth::parse::<Passed>(&ended.stdout)[0].uid, 0);
}

#[test]
fn as_user_runs_the_program_as_the_user_who_called_sudo() {
    let Some(session) = Session::open() else {
        return;
    };
    // pyenv's interpreters may lie where nobody may not look.
    let Some(python) = require(machine::debian_interpreter()) else {
        return;
    };
    let script = session.file("passes_through.py");
    std::fs::copy(workload("passes_through.py"), &script).expect("copy the workload");
    open_to_all(&session);
    let mut command = session.command(&["run", "-o", "out", "--as-user", "--"]);
    let user = NOBODY.to_string();
    command
        .env("SUDO_UID", &user)
        .env("SUDO_GID", &user)
        .env("SUDO_USER", "nobody");
    let mut program = Program::start(command.arg(python).arg(script));
    program.close_stdin();
    let ended = program.finish().expect_code(0);
    assert_eq!(truth::parse::<Passed>(&ended.stdout)[0].uid, NOBODY);
}

fn open_to_all(session: &Session) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(session.dir(), std::fs::Permissions::from_mode(0o777))
        .expect("chmod of the scratch folder");
}

#[test]
fn force_never_writes_through_a_link() {
    let Some((session, python)) = session() else {
        return;
    };
    for ending in ["dat", "folded", "memprof", "svg"] {
        std::fs::write(session.file(&format!("precious.{ending}")), "precious").expect("write");
        symlink(
            session.file(&format!("precious.{ending}")),
            session.file(&format!("out.{ending}")),
        )
        .expect("symlink");
    }
    let options = ["--force", "--flamegraph", "out.svg"];
    let mut program = Program::start(&mut run_command(&session, &python, &options, &[]));
    program.close_stdin();
    // Either answer is safe: the link replaced by a file, or refused.
    let ended = program.finish().expect_no_panic();
    assert!(matches!(ended.code(), Some(0 | 1)), "{ended:?}");
    for ending in ["dat", "folded", "memprof", "svg"] {
        assert_eq!(
            session.read(&format!("precious.{ending}")),
            "precious",
            "through the link"
        );
    }
}

#[test]
fn a_program_that_does_not_start_is_an_error() {
    let Some(session) = Session::open() else {
        return;
    };
    let ended = session
        .start(&["run", "-o", "out", "--", "no-such-program-anywhere"])
        .finish();
    let said = memprof_tests::errors::expect_error(ended, 1);
    said.expect_words(&["no-such-program-anywhere"]);
    for ending in ["dat", "folded", "memprof"] {
        assert!(
            !session.file(&format!("out.{ending}")).exists(),
            "out.{ending} is left over"
        );
    }
}
