//! What goes wrong midway: the target dies, the tracer is killed or stopped early, the disk is
//! full. The target is unharmed, nothing stays attached, and what was gathered is told.
//!
//! The tests of this file take turns, because each compares what is attached before and after.

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memprof_tests::errors::expect_error;
use memprof_tests::gate::Gate;
use memprof_tests::machine::{self, require, workload};
use memprof_tests::process::{self, PATIENCE, wait_until};
use memprof_tests::program::{Ended, Program};
use memprof_tests::residue::Residue;
use memprof_tests::session::Session;
use memprof_tests::truth::{KIB, MIB, Tolerance};
use rustix::process::Signal;

static TURN: Mutex<()> = Mutex::new(());

const AMOUNT: Tolerance = Tolerance {
    percent: 2.0,
    floor: 256 * KIB,
};

/// A session whose turn it is, what was attached before it, and an interpreter.
struct Watched {
    session: Session,
    residue: Residue,
    python: std::path::PathBuf,
    _turn: MutexGuard<'static, ()>,
}

fn watched() -> Option<Watched> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let session = Session::open()?;
    let residue = require(Residue::watch())?;
    let python = require(machine::interpreter("3.12"))?;
    Some(Watched {
        session,
        residue,
        python,
        _turn: turn,
    })
}

fn on_command(python: &Path) -> Program {
    let mut target = Program::start(Command::new(python).arg(workload("on_command.py")));
    target.wait_stdout("ready ");
    target
}

fn grow(target: &mut Program, mib: u64, nth: usize) {
    target.say(&format!("grow {mib}"));
    target.wait_stdout_lines("done grow", nth);
}

/// The target still answers and ends by itself with exit code 0.
#[track_caller]
fn expect_unharmed(mut target: Program) {
    target.say("work 1");
    target.wait_stdout("done work");
    target.close_stdin();
    target.finish().expect_code(0);
}

#[test]
fn a_target_killed_midway_leaves_whole_files() {
    let Some(watched) = watched() else { return };
    let mut target = on_command(&watched.python);
    let tracer = watched.session.attach(target.pid(), &[]);
    grow(&mut target, 12, 1);
    target.signal(Signal::KILL);
    target.finish();
    tracer.finish().expect_code(0);
    watched.residue.assert_none();
    let report = watched.session.report();
    let row = report.function("grow", "on_command.py");
    AMOUNT.check("gross of the dead", row.gross, 12 * MIB);
    // What it had when it died is what it held.
    AMOUNT.check("net of the dead", row.net, 12 * MIB);
    watched.session.folded(&report);
    assert!(watched.session.file("out.dat").is_file(), "no .dat");
}

#[test]
fn a_tracer_killed_midway_harms_nobody() {
    let Some(watched) = watched() else { return };
    let mut target = on_command(&watched.python);
    let tracer = watched.session.attach(target.pid(), &[]);
    grow(&mut target, 12, 1);
    tracer.signal(Signal::KILL);
    tracer.finish();
    watched.residue.assert_none();
    grow(&mut target, 12, 2);
    expect_unharmed(target);
}

#[test]
fn a_tracer_killed_during_run_leaves_the_program_running() {
    let Some(watched) = watched() else { return };
    let mut command = watched.session.command(&["run", "-o", "out", "--"]);
    let mut tracer = Program::start(command.arg(&watched.python).arg(workload("on_command.py")));
    let ready = tracer.wait_stdout("ready ");
    let pid: u32 = ready["ready ".len()..].parse().expect("ready PID");
    tracer.signal(Signal::KILL);
    tracer.wait_end();
    watched.residue.assert_none();
    tracer.say("grow 2");
    tracer.wait_stdout("done grow");
    assert!(process::alive(pid), "the program died with the tracer");
    tracer.close_stdin();
    wait_until("the program's own end", PATIENCE, || {
        (!process::alive(pid)).then_some(())
    });
}

#[test]
fn ctrl_c_and_sigterm_are_normal_ends() {
    let Some(watched) = watched() else { return };
    for signal in [Signal::INT, Signal::TERM] {
        let mut target = on_command(&watched.python);
        let tracer = watched.session.attach(target.pid(), &["--force"]);
        grow(&mut target, 8, 1);
        tracer.signal(signal);
        let ended = tracer.finish().expect_code(0);
        for file in ["out.dat", "out.folded", "out.memprof"] {
            let told = ended.stderr.contains(file) || ended.stdout.contains(file);
            assert!(told, "{file} is not named at the end: {ended:?}");
        }
        watched.residue.assert_none();
        AMOUNT.check(
            "grow",
            watched.session.report().gross("grow", "on_command.py"),
            8 * MIB,
        );
        expect_unharmed(target);
    }
}

/// A connection that breaks costs the connection: the terminal is gone, and nobody reads stderr.
#[test]
fn a_terminal_that_goes_ends_the_trace_and_not_its_result() {
    let Some(watched) = watched() else { return };
    for (disposition, ends) in [
        ("--default-signal=HUP", true),
        ("--ignore-signal=HUP", false),
    ] {
        let mut target = on_command(&watched.python);
        let pid = target.pid().to_string();
        // Whoever reads stderr leaves once it is attached.
        let mut command = Command::new("bash");
        command
            .args(["-c", "exec \"$@\" 2> >(sed -u /attached/q)", "bash"])
            .args(["env", disposition, "--default-signal=INT"])
            .arg(watched.session.binary())
            .args(["trace", "-v", "-o", "out", "--force", "-p", &pid]);
        let mut tracer = Program::start(command.current_dir(watched.session.dir()));
        tracer.wait_stdout("attached");
        grow(&mut target, 8, 1);
        tracer.signal(Signal::HUP);
        if !ends {
            // nohup(1)
            grow(&mut target, 8, 2);
            tracer.signal(Signal::INT);
        }
        tracer.finish().expect_code(0);
        watched.residue.assert_none();
        let grown = watched.session.report().gross("grow", "on_command.py");
        AMOUNT.check("grow", grown, if ends { 8 } else { 16 } * MIB);
        expect_unharmed(target);
    }
}

/// Where the tracer is when Ctrl-C comes.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// Just started.
    Start,
    /// The first BPF object is loaded; not all probes are on.
    Loading,
}

#[test]
fn ctrl_c_during_start_up() {
    let Some(watched) = watched() else { return };
    for moment in [Moment::Start, Moment::Loading] {
        let target = on_command(&watched.python);
        let pid = target.pid().to_string();
        let mut tracer = watched
            .session
            .start(&["trace", "-p", &pid, "-o", "out", "--force"]);
        // Before, it is the program that gives SIGINT its default meaning back, and ignores it.
        let comm = format!("/proc/{}/comm", tracer.pid());
        wait_until("the tracer's own program", PATIENCE, || {
            let comm = std::fs::read_to_string(&comm).unwrap_or_default();
            (comm.trim() == "memprof-ebpf" || tracer.has_ended()).then_some(())
        });
        if matches!(moment, Moment::Loading) {
            wait_until("a BPF object in the tracer", PATIENCE, || {
                (holds_bpf(tracer.pid()) || tracer.has_ended()).then_some(())
            });
        }
        tracer.signal(Signal::INT);
        let ended = tracer.finish();
        watched.residue.assert_none();
        expect_clean_end(ended, moment);
        expect_unharmed(target);
    }
}

fn holds_bpf(pid: u32) -> bool {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    fds.filter_map(|fd| std::fs::read_link(fd.path()).ok())
        .any(|link| link.to_string_lossy().contains("bpf"))
}

/// A good end, or one error, or (before `main` has set up anything) the signal's own end.
#[track_caller]
fn expect_clean_end(ended: Ended, moment: Moment) {
    let ended = ended.expect_no_panic();
    match (ended.code(), ended.signal(), moment) {
        (Some(0), ..) => {}
        (Some(1), ..) => drop(expect_error(ended, 1)),
        (None, Some(2), Moment::Start) => assert!(ended.stderr.is_empty(), "{ended:?}"),
        _ => panic!("{moment:?}: {ended:?}"),
    }
}

#[test]
fn a_target_that_ends_while_it_is_attached_to() {
    let Some(watched) = watched() else { return };
    // Which of the two is first is the scheduler's choice: whatever it is must be clean. The
    // target goes when the tracer is started, when it has its first BPF object, and by SIGKILL.
    for (round, signal) in [None, Some(Signal::KILL), None, Some(Signal::KILL)]
        .into_iter()
        .enumerate()
    {
        let mut target = on_command(&watched.python);
        let pid = target.pid().to_string();
        let mut tracer = watched
            .session
            .start(&["trace", "-p", &pid, "-o", "out", "--force"]);
        if round >= 2 {
            wait_until("a BPF object in the tracer", PATIENCE, || {
                (holds_bpf(tracer.pid()) || tracer.has_ended()).then_some(())
            });
        }
        match signal {
            Some(signal) => target.signal(signal),
            None => target.close_stdin(),
        }
        target.finish();
        let ended = tracer.finish().expect_no_panic();
        watched.residue.assert_none();
        match ended.code() {
            Some(0) => {}
            Some(1) => drop(expect_error(ended, 1)),
            _ => panic!("round {round}: {ended:?}"),
        }
    }
}

/// A file system of a few KiB, unmounted at the end.
struct SmallDisk<'a> {
    path: &'a Path,
}

impl SmallDisk<'_> {
    fn mount(path: &Path) -> Result<SmallDisk<'_>, String> {
        std::fs::create_dir(path).map_err(|e| e.to_string())?;
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=8k", "none"])
            .arg(path);
        let ended = Program::start(&mut mount).finish();
        let mounted = ended.code() == Some(0);
        mounted.then_some(SmallDisk { path }).ok_or(ended.stderr)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path).status();
    }
}

#[test]
fn a_full_disk_still_shows_what_was_gathered() {
    let Some(watched) = watched() else { return };
    let path = watched.session.file("disk");
    let Some(disk) = require(SmallDisk::mount(&path)) else {
        return;
    };
    let ready = Gate::new(watched.session.dir(), "ready");
    let go = Gate::new(watched.session.dir(), "go");
    let mut command = Command::new(&watched.python);
    command
        .arg(workload("growth.py"))
        .args(["--ready", ready.path(), "--go", go.path()]);
    let target = Program::start(&mut command);
    let pid = ready.wait();
    let mut tracer = watched
        .session
        .start(&["trace", "-p", &pid, "-o", "disk/out"]);
    tracer.wait_stderr("attached");
    // Full from here on, whatever the tracer has written so far.
    let filled = std::fs::write(disk.path.join("filler"), [1; 64 << 10]);
    assert!(filled.is_err(), "the disk is not full");
    go.open();
    target.finish().expect_code(0);
    let ended = tracer.finish();
    let screen = format!("{}\n{}", ended.stdout, ended.stderr);
    let said = expect_error(ended, 1);
    said.expect_words(&["space", "full"]);
    assert!(
        screen.contains("keep_bytes"),
        "the table is not on the screen:\n{screen}"
    );
    watched.residue.assert_none();
}
