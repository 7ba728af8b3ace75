//! Bad input: each gives one `error / cause / hint`, its exit code, no panic, and leaves nothing.
//!
//! The tests of this file take turns, because each compares what is attached before and after.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memprof_tests::errors::{Said, expect_error};
use memprof_tests::machine::{self, require, workload};
use memprof_tests::process::{self, PATIENCE, wait_until};
use memprof_tests::program::Program;
use memprof_tests::residue::Residue;
use memprof_tests::session::Session;
use rustix::process::Signal;

static TURN: Mutex<()> = Mutex::new(());

/// Long enough to load programs and find that they are of no use; a trace that is not refused
/// would go on for ever.
const REFUSAL: Duration = Duration::from_secs(20);

/// A session whose turn it is, and what was attached before it.
struct Watched {
    session: Session,
    residue: Residue,
    _turn: MutexGuard<'static, ()>,
}

fn watched() -> Option<Watched> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let session = Session::open()?;
    let residue = require(Residue::watch())?;
    Some(Watched {
        session,
        residue,
        _turn: turn,
    })
}

impl Watched {
    /// Runs it, expects an error with this code, nothing attached and no files.
    #[track_caller]
    fn refused(&self, args: &[&str], code: i32) -> Said {
        self.refused_command(&mut self.session.command(args), code)
    }

    #[track_caller]
    fn refused_command(&self, command: &mut Command, code: i32) -> Said {
        let said = expect_error(Program::start(command).finish_within(REFUSAL), code);
        self.residue.assert_none();
        for ending in ["dat", "folded", "memprof", "svg"] {
            let path = self.session.file(&format!("out.{ending}"));
            assert!(!path.exists(), "{} is left over", path.display());
        }
        said
    }
}

fn target(python: &Path) -> Program {
    let mut target = Program::start(Command::new(python).arg(workload("on_command.py")));
    target.wait_stdout("ready ");
    target
}

#[test]
fn a_pid_that_does_not_exist() {
    let Some(watched) = watched() else { return };
    // Above the kernel's own limit of 2^22: never a pid.
    let said = watched.refused(&["trace", "-p", "4194305", "-o", "out"], 1);
    said.expect_words(&["4194305"]);
}

#[test]
fn a_zombie() {
    let Some(watched) = watched() else { return };
    let mut dead = Command::new("true").spawn().expect("true");
    let pid = dead.id();
    wait_until("a zombie", PATIENCE, || {
        (!process::alive(pid)).then_some(())
    });
    let said = watched.refused(&["trace", "-p", &pid.to_string(), "-o", "out"], 1);
    said.expect_words(&[&pid.to_string()]);
    dead.wait().expect("reap");
}

/// Tools that list threads show their ids beside pids.
#[test]
fn a_thread_is_no_process() {
    let Some(watched) = watched() else { return };
    let Some(python) = require(machine::default_interpreter()) else {
        return;
    };
    let code = "import threading\nthreading.Thread(target=input).start()\n\
        print('ready', threading.enumerate()[-1].native_id, flush=True)";
    let mut target = Program::start(Command::new(python).args(["-c", code]));
    let ready = target.wait_stdout("ready ");
    let thread = ready.trim_start_matches("ready ");
    for verb in ["trace", "snapshot", "doctor"] {
        let said = watched.refused(&[verb, "-p", thread], 1);
        said.expect_words(&[&format!("-p {}", target.pid())]);
    }
    target.close_stdin();
    target.wait_end();
}

#[test]
fn a_pid_that_is_not_python() {
    let Some(watched) = watched() else { return };
    let sleep = Program::start(Command::new("sleep").arg("1000"));
    let said = watched.refused(&["trace", "-p", &sleep.pid().to_string(), "-o", "out"], 1);
    said.expect_words(&["Python", "python"]);
}

#[test]
fn python_2_7_is_unsupported() {
    unsupported("2.7");
}

fn unsupported(version: &str) {
    let Some(watched) = watched() else { return };
    let Some(python) = require(machine::interpreter(version)) else {
        return;
    };
    let target = target(&python);
    let said = watched.refused(&["trace", "-p", &target.pid().to_string(), "-o", "out"], 4);
    said.expect_words(&[version]);
}

#[test]
fn no_privilege_names_the_capability() {
    let Some(watched) = watched() else { return };
    let Some(python) = require(machine::debian_interpreter()) else {
        return;
    };
    let session = &watched.session;
    // Where nobody may look: the binary's own folder may be in a home.
    let binary = session.file("memprof-ebpf");
    std::fs::copy(session.binary(), &binary).expect("copy the binary");
    for path in [session.dir().to_path_buf(), binary.clone()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("chmod");
    }
    let nobody = [
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--bounding-set=-all",
        "--inh-caps=-all",
    ];
    let script = session.file("on_command.py");
    std::fs::copy(workload("on_command.py"), &script).expect("copy the workload");
    let mut target = Program::start(
        Command::new("setpriv")
            .args(nobody)
            .arg(python)
            .arg(&script),
    );
    target.wait_stdout("ready ");
    let mut command = Command::new("setpriv");
    command
        .args(nobody)
        .arg(&binary)
        .args(["trace", "-o", "out", "-p", &target.pid().to_string()]);
    let said = watched.refused_command(command.current_dir(session.dir()), 3);
    said.expect_words(&["CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN"]);
    said.expect_words(&["sudo"]);
}

#[test]
fn a_kernel_without_btf() {
    let Some(watched) = watched() else { return };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    let target = target(&python);
    // A mount namespace of its own, in which the folder of the BTF is empty.
    let hidden = "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", hidden, "sh"])
        .arg(watched.session.binary());
    command.args(["trace", "-o", "out", "-p", &target.pid().to_string()]);
    let said = watched.refused_command(command.current_dir(watched.session.dir()), 4);
    said.expect_words(&["BTF"]);
}

#[test]
fn wrong_command_lines() {
    let Some(watched) = watched() else { return };
    for args in [
        &["trace"][..],
        &["trace", "-p", "python"],
        &["trace", "-p", "-1"],
        &["trace", "-p", "0"],
        &["trace", "-p", "1", "--no-such-option"],
        &["trace", "-p", "1", "-T", "0"],
        &["trace", "-p", "1", "-d", "soon"],
        &["run"],
        &["no-such-verb"],
        &["report"],
    ] {
        let ended = watched.session.start(args).finish_within(REFUSAL);
        assert_eq!(ended.code(), Some(2), "{args:?}: {ended:?}");
        expect_error(ended, 2);
    }
    let said = expect_error(watched.session.start::<&str>(&[]).finish(), 2);
    said.expect_words(&["no verb"]);
    watched.residue.assert_none();
}

#[test]
fn existing_output_is_refused_before_the_trace_and_taken_with_force() {
    let Some(watched) = watched() else { return };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    let session = &watched.session;
    let mut target = target(&python);
    let pid = target.pid().to_string();
    for ending in ["dat", "folded", "memprof"] {
        let precious = session.file(&format!("out.{ending}"));
        std::fs::write(&precious, "precious").expect("write");
        let ended = session
            .start(&["trace", "-p", &pid, "-o", "out"])
            .finish_within(REFUSAL);
        assert!(
            !ended.stderr.contains("\nattached"),
            "traced before it looked: {}",
            ended.stderr
        );
        let said = expect_error(ended, 1);
        said.expect_words(&[&format!("out.{ending}")]);
        said.expect_words(&["--force"]);
        assert_eq!(session.read(&format!("out.{ending}")), "precious");
        if ending != "memprof" {
            std::fs::remove_file(&precious).expect("remove");
        }
        assert!(
            !session.file("out.dat").exists(),
            "a file written by a refused trace"
        );
    }
    watched.residue.assert_none();
    let tracer = session.attach(target.pid(), &["--force"]);
    target.say("grow 4");
    target.wait_stdout("done grow");
    tracer.signal(Signal::INT);
    tracer.finish().expect_code(0);
    assert!(session.report().gross("grow", "on_command.py") > 0);
}

#[test]
fn a_folder_that_is_missing_or_not_writable() {
    let Some(watched) = watched() else { return };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    let target = target(&python);
    let pid = target.pid().to_string();
    let said = watched.refused(&["trace", "-p", &pid, "-o", "no/such/folder/out"], 1);
    said.expect_words(&["no/such/folder"]);
    // Root may write anywhere but to /proc, which takes no new files from anybody.
    let said = watched.refused(&["trace", "-p", &pid, "-o", "/proc/out"], 1);
    said.expect_words(&["/proc"]);
    std::fs::write(watched.session.file("file"), "").expect("write");
    watched.refused(&["trace", "-p", &pid, "-o", "file/out"], 1);
}

#[test]
fn a_capture_that_is_missing_or_damaged() {
    let Some(watched) = watched() else { return };
    let write = |name: &str, bytes: &[u8]| {
        let path: PathBuf = watched.session.file(name);
        std::fs::write(path, bytes).expect("write");
    };
    write("empty.memprof", b"");
    write("text.memprof", b"MEM 1.0 2.0\n");
    write("zeros.memprof", &[0; 4096]);
    for name in [
        "missing.memprof",
        "empty.memprof",
        "text.memprof",
        "zeros.memprof",
    ] {
        let said = watched.refused(&["report", name, "--json"], 1);
        said.expect_words(&[name]);
    }
}
