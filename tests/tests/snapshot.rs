//! One look without tracing: memory as /proc has it, stacks as the threads themselves say, and
//! the target does not notice.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use memprof_tests::errors::expect_error;
use memprof_tests::machine::{self, require, workload};
use memprof_tests::process::{self, PATIENCE, status_bytes, status_field, wait_until};
use memprof_tests::program::Program;
use memprof_tests::service::Service;
use memprof_tests::session::Session;
use memprof_tests::truth::MIB;
use serde::Deserialize;
use serde_json::Value;

/// What a waiting thread of stand_still.py says of itself.
#[derive(Debug, Deserialize)]
struct Said {
    pid: u32,
    tid: u32,
    name: String,
    frames: Vec<(String, String, u32)>,
}

/// stand_still.py, all of whose threads wait (but the one that spins, when asked for).
fn standing(python: &Path, arguments: &[&str]) -> (Program, Vec<Said>) {
    let mut program = Program::start(
        Command::new(python)
            .arg(workload("stand_still.py"))
            .args(arguments)
            .env("PYTHONUTF8", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1"),
    );
    let lines = program.wait_stdout_lines("thread ", 4);
    let said: Vec<Said> = lines
        .iter()
        .map(|line| serde_json::from_str(&line["thread ".len()..]).expect("JSON"))
        .collect();
    for said in &said {
        wait_until("a thread asleep", PATIENCE, || {
            let path = format!("/proc/{}/task/{}/stat", said.pid, said.tid);
            let stat = std::fs::read_to_string(path).ok()?;
            stat.rsplit(") ").next()?.starts_with('S').then_some(())
        });
    }
    (program, said)
}

/// `snapshot --json` of a process.
#[track_caller]
fn snapshot(session: &Session, pid: u32) -> Value {
    let ended = session.run(&["snapshot", "--json", "-p", &pid.to_string()]);
    let json: Value = serde_json::from_str(&ended.stdout).expect("JSON on stdout");
    assert_eq!(json["schema"], 1);
    assert_eq!(json["metric"], "bytes");
    json
}

/// One process of a snapshot.
#[track_caller]
fn of(json: &Value, pid: u32) -> &Value {
    let processes = json["processes"].as_array().expect("processes");
    processes
        .iter()
        .find(|process| process["pid"] == pid)
        .unwrap_or_else(|| panic!("no process {pid} in {json:#}"))
}

fn frames(thread: &Value) -> Vec<(String, String, u32)> {
    serde_json::from_value(Value::Array(
        thread["frames"]
            .as_array()
            .expect("frames")
            .iter()
            .map(|frame| {
                Value::from(vec![
                    frame["function"].clone(),
                    frame["file"].clone(),
                    frame["line"].clone(),
                ])
            })
            .collect(),
    ))
    .expect("names and a line")
}

/// What a process has in smaps_rollup, in bytes.
fn rollup(pid: u32) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("rollup");
    let field = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let kib: u64 = rest.trim().strip_suffix(" kB")?.parse().ok()?;
        Some((name.to_owned(), kib * 1024))
    };
    text.lines().filter_map(field).collect()
}

#[test]
fn stacks_3_10() {
    stacks("3.10");
}

#[test]
fn stacks_3_11() {
    stacks("3.11");
}

#[test]
fn stacks_3_12() {
    stacks("3.12");
}

#[test]
fn stacks_3_13() {
    stacks("3.13");
}

/// Each waiting thread is where it says, exactly, and has not been woken.
fn stacks(version: &str) {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter(version)) else {
        return;
    };
    let (program, said) = standing(&python, &[]);
    let switches = |pid| status_field(pid, "voluntary_ctxt_switches").expect("alive");
    let before = (switches(program.pid()), process::rss(program.pid()));
    let json = snapshot(&session, program.pid());
    let after = (switches(program.pid()), process::rss(program.pid()));
    assert_eq!(before, after, "woken, or made to touch memory");

    assert_eq!(json["total"]["processes"], 2);
    let child = process::children(program.pid())[0];
    assert_eq!(of(&json, child)["ppid"], program.pid());
    for (pid, count) in [(program.pid(), 3), (child, 1)] {
        let process = of(&json, pid);
        let python = process["python"].as_str().expect("a version");
        assert!(python.starts_with(&format!("{version}.")), "{python}");
        assert_eq!(process["threads"].as_array().expect("threads").len(), count);
        assert_eq!(process["native_threads"], 0);
        assert_eq!(process["note"], Value::Null);
    }
    for said in &said {
        let threads = of(&json, said.pid)["threads"].as_array().expect("threads");
        let thread = threads
            .iter()
            .find(|thread| thread["tid"] == said.tid)
            .unwrap_or_else(|| panic!("no thread {} in {json:#}", said.tid));
        assert_eq!(frames(thread), said.frames, "{version}");
        assert_eq!(thread["name"], said.name.as_str());
        for mark in ["running", "torn", "truncated"] {
            assert_eq!(thread[mark], false, "{mark}: {thread:#}");
        }
    }
    let text = session.run(&["snapshot", "-p", &program.pid().to_string()]);
    for said in &said {
        let (function, file, line) = &said.frames[0];
        let place = format!("    {function} ({file}:{line})\n");
        let head = format!("  Thread {} \"{}\"\n{place}", said.tid, said.name);
        assert!(
            text.stdout.contains(&head),
            "no {head:?} in\n{}",
            text.stdout
        );
    }
}

#[test]
fn a_thread_that_runs_is_marked_and_never_silently_wrong() {
    let Some(session) = Session::open() else {
        return;
    };
    for version in ["3.10", "3.11", "3.12", "3.13"] {
        let Some(python) = require(machine::interpreter(version)) else {
            return;
        };
        let (mut program, _) = standing(&python, &["spin"]);
        let line = program.wait_stdout("spinning ");
        let tid: u32 = line["spinning ".len()..].parse().expect("a tid");
        let mut seen_whole = 0;
        for _ in 0..10 {
            let json = snapshot(&session, program.pid());
            let threads = of(&json, program.pid())["threads"]
                .as_array()
                .expect("threads");
            let thread = threads
                .iter()
                .find(|t| t["tid"] == tid)
                .expect("the thread");
            assert_eq!(thread["running"], true, "{version}");
            if thread["torn"] == true {
                continue;
            }
            let names: Vec<String> = frames(thread).into_iter().map(|frame| frame.0).collect();
            let names: Vec<&str> = names
                .iter()
                .map(|name| name.rsplit('.').next().expect("one"))
                .collect();
            let below = match names[..] {
                ["step", ref below @ ..] => below,
                ref all => all,
            };
            // Nothing is invented; a thread that lost its CPU in the middle of a call may lack
            // callers, which is what its mark says.
            let whole = ["spin", "run", "_bootstrap_inner", "_bootstrap"];
            assert!(whole.starts_with(below), "{version}: {below:?}");
            seen_whole += u32::from(below == whole);
        }
        assert!(seen_whole > 0, "{version}: none of 10 looks saw the stack");
        let text = session
            .run(&["snapshot", "-p", &program.pid().to_string()])
            .stdout;
        let head = format!("  Thread {tid} ");
        let line = text
            .lines()
            .find(|line| line.starts_with(&head))
            .expect("its line");
        assert!(line.contains("(running"), "{line}");
    }
}

#[test]
fn memory_is_what_proc_says() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    let (program, _) = standing(&python, &[]);
    let pid = program.pid();
    let json = snapshot(&session, pid);
    let parent = of(&json, pid);
    let bytes = |process: &Value, key: &str| process[key].as_u64().expect("bytes");
    assert_eq!(Some(bytes(parent, "rss")), process::rss(pid));
    for (key, field) in [
        ("anon", "RssAnon"),
        ("file", "RssFile"),
        ("shmem", "RssShmem"),
        ("swap", "VmSwap"),
    ] {
        assert_eq!(Some(bytes(parent, key)), status_bytes(pid, field), "{key}");
    }
    // memprof-ebpf itself shared libc with the target while it looked.
    let rollup = rollup(pid);
    assert!(bytes(parent, "pss").abs_diff(rollup["Pss"]) < MIB);
    let uss = rollup["Private_Clean"] + rollup["Private_Dirty"];
    assert!(bytes(parent, "uss").abs_diff(uss) < MIB);
    // 16 MiB are its own, and of 32 MiB more each of the two has half.
    let (own, shared) = (
        bytes(parent, "uss"),
        bytes(parent, "pss") - bytes(parent, "uss"),
    );
    assert!((16 * MIB..24 * MIB).contains(&own), "{own}");
    assert!((16 * MIB..24 * MIB).contains(&shared), "{shared}");
    let processes = json["processes"].as_array().expect("processes");
    for key in ["rss", "pss", "uss", "anon", "file", "shmem", "swap"] {
        let sum: u64 = processes.iter().map(|process| bytes(process, key)).sum();
        assert_eq!(bytes(&json["total"], key), sum, "{key}");
    }
    let text = session.run(&["snapshot", "-p", &pid.to_string()]).stdout;
    assert!(
        text.starts_with("The RSS of 2 processes adds up to "),
        "{text}"
    );
    assert!(
        text.contains(&format!("The largest is pid {pid}, stand_still.py: ")),
        "{text}"
    );
}

#[test]
fn a_gunicorn_with_its_workers() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(gunicorn) = require(machine::venv("gunicorn")) else {
        return;
    };
    let mut service = Service::start(&gunicorn, session.dir());
    let workers = service.wait_workers();
    // A worker that is named too is shown once.
    let pids = format!("{},{}", workers[0], service.master());
    let ended = session.run(&["snapshot", "--json", "-p", &pids]);
    let json: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let shown = json["processes"].as_array().expect("processes");
    assert_eq!(shown.len(), 3);
    assert_eq!(shown[0]["pid"], service.master(), "the parent comes first");
    for worker in workers {
        let worker = of(&json, worker);
        assert_eq!(worker["ppid"], service.master());
        assert_eq!(worker["python"], shown[0]["python"]);
        assert!(
            worker["role"]
                .as_str()
                .expect("a role")
                .contains("gunicorn")
        );
        let threads = worker["threads"].as_array().expect("threads");
        assert!(threads.iter().any(|thread| !frames(thread).is_empty()));
    }
    let master = frames(&shown[0]["threads"][0]);
    let names: Vec<&str> = master.iter().map(|frame| frame.0.as_str()).collect();
    assert_eq!(names.last(), Some(&"<module>"));
    assert!(names.iter().any(|name| name.ends_with("run")), "{names:?}");
}

#[test]
fn what_is_not_python_has_its_memory_shown() {
    let Some(session) = Session::open() else {
        return;
    };
    let mut shell = Program::start(Command::new("sh").args(["-c", "echo ready; read line"]));
    // Before it waits it is still being loaded, and grows.
    shell.wait_stdout("ready");
    process::wait_asleep(shell.pid());
    let json = snapshot(&session, shell.pid());
    let process = of(&json, shell.pid());
    assert_eq!(process["python"], Value::Null);
    assert_eq!(process["threads"], Value::Null);
    assert_eq!(process["rss"].as_u64(), process::rss(shell.pid()));
    let text = session
        .run(&["snapshot", "-p", &shell.pid().to_string()])
        .stdout;
    assert!(text.contains("does not run Python"), "{text}");
}

#[test]
fn an_unsupported_python_has_its_memory_shown_and_its_version_named() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("2.7")) else {
        return;
    };
    let mut target = Program::start(Command::new(&python).arg(workload("on_command.py")));
    target.wait_stdout("ready ");
    process::wait_asleep(target.pid());
    let json = snapshot(&session, target.pid());
    let process = of(&json, target.pid());
    assert!(
        process["python"]
            .as_str()
            .expect("a version")
            .starts_with("2.7")
    );
    assert_eq!(process["threads"], Value::Null);
    assert!(process["note"].as_str().expect("a note").contains("3.15"));
    assert_eq!(process["rss"].as_u64(), process::rss(target.pid()));
    let text = session
        .run(&["snapshot", "-p", &target.pid().to_string()])
        .stdout;
    assert!(text.contains("CPython 2.7"), "{text}");
}

#[test]
fn bad_input() {
    let Some(session) = Session::open() else {
        return;
    };
    let refused = |args: &[&str], code| expect_error(session.start(args).finish(), code);
    refused(&["snapshot", "-p", "4194305"], 1).expect_words(&["4194305"]);
    for args in [
        &["snapshot"][..],
        &["snapshot", "-p", "0"],
        &["snapshot", "-p", "python"],
        &["snapshot", "-p", "1", "-d", "1"],
    ] {
        refused(args, 2);
    }
    let mut dead = Command::new("true").spawn().expect("true");
    let pid = dead.id();
    wait_until("a zombie", PATIENCE, || {
        (!process::alive(pid)).then_some(())
    });
    refused(&["snapshot", "-p", &pid.to_string()], 1).expect_words(&[&pid.to_string()]);
    dead.wait().expect("reap");
    // Kernel threads have pids and no memory.
    refused(&["snapshot", "-p", "2"], 1).expect_words(&["kernel thread"]);
}

#[test]
fn another_user_s_process_takes_privilege() {
    let Some(session) = Session::open() else {
        return;
    };
    // Where nobody may look: the binary's own folder may be in a home.
    let binary = session.file("memprof-ebpf");
    std::fs::copy(session.binary(), &binary).expect("copy the binary");
    for path in [session.dir(), &binary] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("chmod");
    }
    let nobody = |program: &Path| {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--bounding-set=-all",
            "--inh-caps=-all",
        ]);
        command.arg(program).current_dir(session.dir());
        command
    };
    let roots = Program::start(Command::new("sleep").arg("1000"));
    let look =
        |pid: u32| Program::start(nobody(&binary).args(["snapshot", "-p", &pid.to_string()]));
    let said = expect_error(look(roots.pid()).finish(), 3);
    said.expect_words(&["CAP_SYS_PTRACE"]);
    said.expect_words(&["sudo"]);

    // One's own process takes none, unless the machine's policy says so.
    let restricted = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope")
        .is_ok_and(|scope| scope.trim() != "0");
    if restricted {
        return;
    }
    let Some(python) = require(machine::debian_interpreter()) else {
        return;
    };
    let script = session.file("on_command.py");
    std::fs::copy(workload("on_command.py"), &script).expect("copy the workload");
    let mut own = Program::start(nobody(&python).arg(&script));
    own.wait_stdout("ready ");
    let text = look(own.pid()).finish().expect_code(0).stdout;
    assert!(
        text.contains("    main (") && text.contains("on_command.py:"),
        "{text}"
    );
}
