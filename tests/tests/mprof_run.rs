//! `run` and `attach` typed as mprof's users type them.

use std::path::{Path, PathBuf};
use std::process::Command;

use memprof_tests::dat::{self, Dat};
use memprof_tests::errors::expect_error;
use memprof_tests::machine::{self, require, workload};
use memprof_tests::process;
use memprof_tests::program::{Ended, Program};
use memprof_tests::session::Session;
use memprof_tests::truth::{self, MIB, Tolerance, Worker};

/// Two runs of one program, sampled at different moments: the peak lies between two samples, and
/// which workers live together is the scheduler's choice.
const TWO_RUNS: Tolerance = Tolerance {
    percent: 25.0,
    floor: 4 * MIB,
};

/// Says which Python runs it and with what arguments.
const SAYS: &str = "import sys\nprint('said', sys.version_info[:2], sys.argv[1:])\n";

fn path(path: &Path) -> &str {
    path.to_str().expect("paths of the workspace are UTF-8")
}

/// A session with SAYS as `says.py`, and an interpreter to name.
fn says() -> Option<(Session, PathBuf)> {
    let session = Session::open()?;
    let python = require(machine::interpreter("3.12"))?;
    std::fs::write(session.file("says.py"), SAYS).expect("write into the scratch folder");
    Some((session, python))
}

/// What `run OPTIONS_AND_PROGRAM` lets the program say.
#[track_caller]
fn said(session: &Session, words: &[&str]) -> String {
    let ended = session.run(&[&["run", "-q", "--force", "-o", "out"], words].concat());
    let line = ended
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("said "));
    line.unwrap_or_else(|| panic!("{words:?}: {}{}", ended.stdout, ended.stderr))
        .to_owned()
}

/// The four modes of mprof's article. Ours has a line for each child by default;
/// `--no-multiprocess` leaves them out.
#[test]
fn the_four_modes_have_mprofs_series() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(mprof) = require(machine::venv("mprof")) else {
        return;
    };
    let Some(python) = require(machine::venv("python")) else {
        return;
    };
    let script = workload("prefork.py");
    let program = [path(&python), path(&script)];
    for (mode, ours) in [
        (&[][..], &["--no-multiprocess"][..]),
        (&["-M"], &["-M"]),
        (&["-C"], &["-C", "--no-multiprocess"]),
        (&["-C", "-M"], &["-C", "-M"]),
    ] {
        let theirs: Dat = {
            let _ = std::fs::remove_file(session.file("theirs.dat"));
            let options = ["run", "-T", "0.05", "-o", "theirs.dat"];
            real(&mprof, &session, &[&options[..], mode, &program].concat()).expect_code(0);
            dat::parse(&session.read("theirs.dat"))
        };
        let options = ["run", "-q", "--force", "-T", "0.05", "-o", "ours.dat"];
        let ended = session.run(&[&options[..], ours, &["--"], &program].concat());
        let workers: Vec<Worker> = truth::parse(&ended.stdout);
        let ours = dat::parse(&session.read("ours.dat"));
        let bytes = |mib: f64| (mib * MIB as f64) as u64;
        let name = format!("peak of MEM, {mode:?}");
        TWO_RUNS.check(&name, bytes(ours.peak()), bytes(theirs.peak()));
        assert_eq!(
            ours.child_pids().len(),
            theirs.child_pids().len(),
            "{mode:?}"
        );
        if mode.contains(&"-M") {
            let mut pids: Vec<u32> = workers.iter().map(|worker| worker.pid).collect();
            pids.sort_unstable();
            assert_eq!(ours.child_pids(), pids, "{mode:?}");
        }
        // The judge: the same peak; and a picture, of the file that has most in it.
        if mode.len() == 2 {
            let plot = ["plot", "-o", "plot.png", "ours.dat"];
            real(&mprof, &session, &plot).expect_code(0);
        }
        let peak = real(&mprof, &session, &["peak", "ours.dat"]).expect_code(0);
        let ours = session.run(&["peak", "ours.dat"]);
        assert_eq!(ours.stdout, peak.stdout, "{mode:?}");
    }
}

fn real(mprof: &Path, session: &Session, args: &[&str]) -> Ended {
    let mut command = Command::new(mprof);
    command.args(args).current_dir(session.dir());
    command.env("MPLBACKEND", "Agg");
    command.env("MPLCONFIGDIR", session.file("matplotlib"));
    Program::start(&mut command).finish()
}

#[test]
fn arguments_are_the_programs_own() {
    let Some((session, python)) = says() else {
        return;
    };
    // mprof makes `echo a -- -1 b` of it.
    let ended = session.run(&["run", "-q", "-o", "echo", "echo", "a", "-1", "b"]);
    assert_eq!(ended.stdout, "a -1 b\n");
    let words = ["says.py", "-1", "--python", "x.py", "-o", "x", "--", "-M"];
    let arguments = "['-1', '--python', 'x.py', '-o', 'x', '--', '-M']";
    // As mprof's flag, and with an interpreter.
    let flag = [&["--python"], &words[..]].concat();
    assert!(said(&session, &flag).ends_with(arguments));
    let named = [&["--python", path(&python), "-M"], &words[..]].concat();
    assert_eq!(said(&session, &named), format!("(3, 12) {arguments}"));
}

#[test]
fn python_runs_modules() {
    let Some((session, python)) = says() else {
        return;
    };
    for words in [
        &[path(&python), "-m", "says"][..],
        &["--python", path(&python), "says"],
    ] {
        assert_eq!(said(&session, words), "(3, 12) []", "{words:?}");
    }
    // A FILE.py as any other program: here it is none.
    let words = ["run", "-o", "x", "--nopython", "./says.py"];
    expect_error(session.start(&words).finish(), 1).expect_words(&["Permission denied"]);
}

/// The cases of memory_profiler's own test_exit_code.
#[test]
fn exit_codes_are_mprofs() {
    let Some((session, _)) = says() else {
        return;
    };
    std::fs::write(
        session.file("raises.py"),
        "raise RuntimeError('I am not working nicely')\n",
    )
    .expect("write into the scratch folder");
    for (words, code) in [
        (&["--exit-code", "says.py"][..], 0),
        (&["--exit-code", "raises.py"], 1),
        (&["raises.py"], 0),
    ] {
        let options = [&["run", "-q", "--force", "-o", "out"], words].concat();
        // The program's own traceback is no fault of ours.
        let ended = session.start(&options).finish();
        assert_eq!(ended.code(), Some(code), "{words:?}: {}", ended.stderr);
    }
}

#[test]
fn mistyped_options_are_told() {
    let Some((session, _)) = says() else {
        return;
    };
    for (words, part) in [
        (&["run", "--tiemout", "3", "echo"][..], "--tiemout"),
        (&["run", "-x", "echo"], "-x"),
        (&["run", "--backend", "tracemalloc", "echo"], "psutil_pss"),
        (&["run", "--python"], "CMD"),
        (&["run", "--attach", "1", "2"], "one pid or name"),
        (&["run", "-T", "0", "echo"], "0.001"),
    ] {
        expect_error(session.start(words).finish(), 2).expect_words(&[part]);
    }
}

/// mprof's attach gives up after an hour without a word, and dies of a traceback when the target
/// ends.
#[test]
fn attach_takes_a_name_and_ends_with_its_target() {
    let Some((session, python)) = says() else {
        return;
    };
    // A name that no other process of this machine has.
    let name = format!("attach-{}", std::process::id());
    for verb in [&["attach"][..], &["run", "--attach"]] {
        // A shell that waits for Python has the name in its command line too.
        let mut command = Command::new("sh");
        command.args(["-c", "\"$@\"; exit", "sh"]);
        command
            .arg(&python)
            .arg(workload("on_command.py"))
            .arg(&name);
        let mut target = Program::start(&mut command);
        let ready = target.wait_stdout("ready ");
        let pid = ready.trim_start_matches("ready ");
        assert_ne!(
            pid,
            target.pid().to_string(),
            "the shell is another process"
        );
        let options = ["--force", "-o", "out", &name];
        let mut tracer = session.start(&[verb, &options].concat());
        tracer.wait_stderr("attached");
        target.say("grow 8");
        target.wait_stdout("done grow");
        target.close_stdin();
        target.finish().expect_code(0);
        tracer.finish().expect_code(0);
        let text = session.read("out.dat");
        let dat = dat::parse(&text);
        assert!(dat.command.contains(&name), "{verb:?}: {}", dat.command);
        assert!(text.contains(&format!("\n# ROLE MEM {pid} ")), "{text}");
        assert!(session.report().gross("grow", "on_command.py") >= 8 * MIB);
    }
    // A time-out that was asked for ends the trace and not the target.
    let mut target = Program::start(Command::new(&python).arg(workload("on_command.py")));
    target.wait_stdout("ready ");
    let pid = target.pid();
    session.run(&[
        "attach",
        "--force",
        "-o",
        "out",
        "-t",
        "0.3",
        &pid.to_string(),
    ]);
    assert!(process::alive(pid));
    target.close_stdin();
    target.finish().expect_code(0);
}
