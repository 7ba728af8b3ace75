//! `doctor`: says of this machine and of every interpreter what the tests find to be true.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use memprof_tests::machine::{self, require, workload};
use memprof_tests::process;
use memprof_tests::program::Program;
use memprof_tests::session::Session;

const VERSIONS: [&str; 10] = [
    "3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15",
];

#[test]
fn this_machine_passes() {
    let Some(session) = Session::open() else {
        return;
    };
    let said = session.run(&["doctor"]).stdout;
    for what in ["kernel", "lockdown", "types", "privileges", "programs"] {
        assert!(said.contains(&format!("ok    {what}")), "{said}");
    }
    assert!(!said.contains("FAIL"), "{said}");
}

#[test]
fn every_interpreter_is_described_with_a_stack() {
    let Some(session) = Session::open() else {
        return;
    };
    for version in VERSIONS {
        let Some(python) = require(machine::interpreter(version)) else {
            continue;
        };
        let mut target = Program::start(Command::new(&python).arg(workload("on_command.py")));
        target.wait_stdout("ready ");
        process::wait_asleep(target.pid());
        let said = session.run(&["doctor", "-p", &target.pid().to_string()]);
        let said = said.stdout;
        let full = answer(&python);
        let minor = version[2..].parse::<u32>().expect("a number");
        let offsets = match minor {
            13.. => "_Py_DebugOffsets",
            _ => "from the table of versions",
        };
        for words in [
            &format!("CPython {full}\n"),
            "proved by 1 of 1",
            offsets,
            "main (",
            "<module> (",
            "on_command.py",
        ] {
            assert!(said.contains(words), "{version}: no {words:?} in\n{said}");
        }
    }
}

/// `3.11.7`
fn answer(python: &std::path::Path) -> String {
    let code = "import sys; print('%d.%d.%d' % sys.version_info[:3])";
    let output = Command::new(python).args(["-c", code]).output();
    let output = output.expect("the interpreter runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn what_is_not_python_is_told_with_a_hint() {
    let Some(session) = Session::open() else {
        return;
    };
    let target = Program::start(&mut Command::new("cat"));
    let pid = target.pid().to_string();
    let said = session
        .start(&["doctor", "-p", &pid])
        .finish()
        .expect_code(4);
    assert!(said.stdout.contains("FAIL  interpreter  it is not Python"));
    assert!(said.stdout.contains("hint"));
}

#[test]
fn a_missing_privilege_is_told_with_the_command() {
    let Some(session) = Session::open() else {
        return;
    };
    // Where nobody may look: the binary's own folder may be in a home.
    let binary = session.file("memprof-ebpf");
    std::fs::copy(session.binary(), &binary).expect("copy the binary");
    for path in [session.dir().to_path_buf(), binary.clone()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args(["--bounding-set=-all", "--inh-caps=-all"])
        .arg(binary)
        .arg("doctor");
    let said = Program::start(&mut command).finish().expect_code(3).stdout;
    assert!(said.contains("FAIL  privileges"), "{said}");
    assert!(said.contains("CAP_BPF") && said.contains("sudo "), "{said}");
}
