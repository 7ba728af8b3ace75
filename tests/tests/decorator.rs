//! How `@profile` comes to a program: the program sees nothing else of it, and mprof's own scripts
//! run as they do under mprof.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use memprof_tests::dat;
use memprof_tests::judge::{judge_functions, judge_plot_and_peak};
use memprof_tests::machine::{self, require, workload};
use memprof_tests::program::{Ended, Program};
use memprof_tests::session::Session;
use memprof_tests::truth;
use serde::Deserialize;

/// What environment.py prints.
#[derive(Debug, Deserialize)]
struct Seen {
    path: Vec<String>,
    modules: BTreeSet<String>,
    environment: BTreeMap<String, String>,
    sitecustomize: Option<String>,
    found_by: Vec<String>,
    profile: bool,
    flags: Vec<serde_json::Value>,
}

/// A folder of the scratch with a sitecustomize.py.
fn own_sitecustomize(session: &Session, text: &str) -> String {
    let folder = session.file("own");
    std::fs::create_dir_all(&folder).expect("a folder in the scratch");
    std::fs::write(folder.join("sitecustomize.py"), text).expect("a file in the scratch");
    folder.to_string_lossy().into_owned()
}

/// Runs a Python command as it is, or under the tracer, with a PYTHONPATH.
#[track_caller]
fn run(session: &Session, traced: bool, python: &Path, args: &[&str], path: Option<&str>) -> Ended {
    let python = python.to_string_lossy();
    let words = [&[&*python], args].concat();
    let mut command = match traced {
        true => session.command(
            &[
                &["run", "-q", "-E", "--force", "-o", "out", "--"],
                &words[..],
            ]
            .concat(),
        ),
        false => {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).current_dir(session.dir());
            command
        }
    };
    // Compiled files would be there only the second time.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("TMPDIR", session.dir());
    for name in ["SUDO_UID", "SUDO_GID", "SUDO_USER", "PYTHONPATH"] {
        command.env_remove(name);
    }
    if let Some(path) = path {
        command.env("PYTHONPATH", path);
    }
    Program::start(&mut command).finish()
}

#[track_caller]
fn seen(ended: &Ended) -> Seen {
    truth::parse::<Seen>(&ended.stdout).remove(0)
}

fn left_behind(session: &Session) -> Vec<String> {
    let entries = std::fs::read_dir(session.dir())
        .expect("the scratch folder")
        .flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| name.starts_with("memprof-ebpf"))
        .collect()
}

#[test]
fn the_program_sees_profile_and_nothing_else() {
    let Some(session) = Session::open() else {
        return;
    };
    let script = workload("environment.py");
    let script = script.to_string_lossy();
    let folder = own_sitecustomize(&session, "CUSTOM = 1\n");
    let own = Some(folder.as_str());
    // Each version with and without a path of its own would take the verifier's time twice.
    for (version, path) in [
        ("3.6", own),
        ("3.8", None),
        ("3.11", Some("")),
        ("3.11", own),
        ("3.13", None),
        ("3.15", own),
    ] {
        let Some(python) = require(machine::interpreter(version)) else {
            return;
        };
        let [bare, traced] =
            [false, true].map(|traced| seen(&run(&session, traced, &python, &[&script], path)));
        assert!(traced.profile && !bare.profile);
        assert_eq!(traced.path, bare.path, "sys.path of {version}");
        assert_eq!(traced.sitecustomize, bare.sitecustomize, "{version}");
        let is_own = bare
            .sitecustomize
            .is_some_and(|file| file.starts_with(&folder));
        assert_eq!(
            is_own,
            path == own,
            "the test's own is there where it should be"
        );
        assert_eq!(traced.flags, bare.flags);
        let ours: Vec<_> = traced.modules.difference(&bare.modules).collect();
        assert_eq!(ours, ["memprof_ebpf_profile"], "{version}");
        let found_by = (traced.found_by.len(), bare.found_by.len());
        assert_eq!(found_by.0, found_by.1 + 1, "{:?}", traced.found_by);
        // Children have to inherit it: our folder before what was there.
        let mut environments = [traced.environment, bare.environment];
        let python_path = environments[0].get("PYTHONPATH").expect("PYTHONPATH");
        let rest = python_path.split_once(':').map(|(_, rest)| rest);
        assert_eq!(rest, path.filter(|path| !path.is_empty()));
        for environment in &mut environments {
            // The last two are the shell's, of pyenv's shims.
            let varies = ["PYTHONPATH", "_", "SHLVL"];
            environment.retain(|name, _| !varies.contains(&name.as_str()));
        }
        assert_eq!(environments[0], environments[1], "environment of {version}");
    }
    assert_eq!(left_behind(&session), [""; 0], "removed at the end");
}

#[test]
fn a_sitecustomize_that_fails_fails_as_it_did() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    for text in ["raise ValueError('own fault')\n", "import no_such_module\n"] {
        let own = own_sitecustomize(&session, text);
        let code = ["-c", "print('{\"ran\": 1}')"];
        let [bare, traced] =
            [false, true].map(|traced| run(&session, traced, &python, &code, Some(&own)));
        assert!(bare.stderr.contains("sitecustomize"), "{}", bare.stderr);
        for line in bare.stderr.lines() {
            assert!(
                traced.stderr.contains(line),
                "{line:?} in {}",
                traced.stderr
            );
        }
        assert!(traced.stdout.contains("{\"ran\": 1}"), "{}", traced.stdout);
    }
}

#[test]
fn who_ignores_the_environment_has_no_profile_and_who_cannot_run_it_does_not_notice() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.11")) else {
        return;
    };
    for flag in ["-I", "-E", "-S"] {
        let ended = run(&session, true, &python, &[flag, "-c", "profile"], None);
        assert_eq!(ended.code(), Some(1), "{flag}: {}", ended.stderr);
        assert!(
            ended.stderr.contains("NameError"),
            "{flag}: {}",
            ended.stderr
        );
    }
    let Some(python) = require(machine::interpreter("2.7")) else {
        return;
    };
    let code = [
        "-c",
        "import sys; sys.stdout.write('%d\\n' % len(sys.path))",
    ];
    let [bare, traced] = [false, true].map(|traced| run(&session, traced, &python, &code, None));
    assert_eq!(bare.stdout.lines().next(), traced.stdout.lines().next());
    assert!(
        !traced.stderr.contains("sitecustomize"),
        "{}",
        traced.stderr
    );
}

#[test]
fn another_user_has_it_too_and_cannot_write_to_it() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::debian_interpreter()) else {
        return;
    };
    // Who called sudo may look into the scratch folder, which is the program's working directory.
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(session.dir(), mode).expect("chmod of the scratch folder");
    let code = "import memprof_ebpf_profile, os; file = memprof_ebpf_profile.__file__; \
                profile(len)(b''); \
                writable = os.access(file, os.W_OK) or os.access(os.path.dirname(file), os.W_OK); \
                print('{\"uid\": %d, \"writable\": %d}' % (os.getuid(), writable))";
    let mut command = session.command(&["run", "-o", "out", "--as-user", "--"]);
    command.arg(python).args(["-c", code]).env("TMPDIR", "/tmp");
    let nobody = [
        ("SUDO_UID", "65534"),
        ("SUDO_GID", "65534"),
        ("SUDO_USER", "nobody"),
    ];
    let ended = Program::start(command.envs(nobody)).finish().expect_code(0);
    let expected = "{\"uid\": 65534, \"writable\": 0}";
    assert!(ended.stdout.contains(expected), "{}", ended.stdout);
    let marks = session.report().marks;
    let marks: Vec<_> = marks
        .iter()
        .map(|mark| (&mark.function[..], mark.calls))
        .collect();
    assert_eq!(marks, [("builtins.len", 1)]);
}

#[test]
fn a_program_that_goes_on_running_keeps_profile_for_its_children() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.11")) else {
        return;
    };
    let done = memprof_tests::gate::Gate::new(session.dir(), "done");
    let go = memprof_tests::gate::Gate::new(session.dir(), "go");
    let code = "import subprocess, sys; open(sys.argv[1]).read(); \
                code = subprocess.call([sys.executable, '-c', 'profile(len)']); \
                open(sys.argv[2], 'w').write('code %d' % code)";
    let python = python.to_string_lossy();
    let args = [
        "run",
        "-q",
        "-t",
        "1",
        "-o",
        "out",
        "--",
        &python,
        "-c",
        code,
        go.path(),
        done.path(),
    ];
    let tracer = Program::start(session.command(&args).env("TMPDIR", session.dir()));
    let mut tracer = tracer;
    tracer.wait_end();
    go.open();
    assert_eq!(done.wait(), "code 0");
    assert_eq!(left_behind(&session).len(), 1);
}

#[test]
fn what_is_decorated_behaves_as_it_did() {
    let Some(session) = Session::open() else {
        return;
    };
    let script = workload("wrapped.py");
    let script = script.to_string_lossy();
    for version in ["3.6", "3.11", "3.15"] {
        let Some(python) = require(machine::interpreter(version)) else {
            return;
        };
        // A warning that the wrapper causes is an error.
        let args = ["-W", "error", &*script];
        let ended = run(&session, true, &python, &args, None).expect_code(0);
        assert!(ended.stdout.contains("as they were"), "{}", ended.stdout);
        let report = session.report();
        report.assert_nothing_lost();
        let calls: BTreeMap<&str, u64> = report
            .marks
            .iter()
            .map(|mark| (&mark.function[..], mark.calls))
            .collect();
        let expected = [
            ("__main__.Thing.fails", 1),
            ("__main__.Thing.made", 2),
            ("__main__.Thing.made_too", 1),
            ("__main__.Thing.static", 1),
            ("__main__.Thing.value", 1),
            ("__main__.async_generator", 2),
            ("__main__.block", 1),
            ("__main__.coroutine", 6),
            ("__main__.generator", 2),
            ("__main__.old_coroutine", 1),
            ("__main__.plain", 1),
            ("__main__.with_options", 1),
        ];
        assert_eq!(calls, BTreeMap::from(expected), "{version}");
    }
}

/// A script of memory_profiler, and what it decorates: function, calls.
type Script = (&'static str, &'static [(&'static str, u64)]);

const SCRIPTS: [Script; 9] = [
    ("test_func.py", &[("test_1", 2)]),
    ("test_mprofile.py", &[("test1", 1), ("test2", 1)]),
    ("test_loop_decorated.py", &[("test_1", 1), ("test_2", 1)]),
    ("test_as.py", &[("f", 1)]),
    ("test_unicode.py", &[("test_unicode", 1)]),
    ("test_nested.py", &[("test_1", 1)]),
    (
        "test_gen.py",
        &[
            ("my_func", 1),
            ("test_comprehension", 1),
            ("test_generator", 1),
        ],
    ),
    ("test_async.py", &[("my_func", 1)]),
    ("test_import.py", &[("my_func", 1)]),
];

#[test]
fn memory_profilers_own_scripts_have_their_func_lines() {
    let Some(session) = Session::open() else {
        return;
    };
    let (Some(mprof), Some(with), Some(without)) = (
        require(machine::venv("mprof")),
        require(machine::venv("python")),
        require(machine::interpreter("3.13")),
    ) else {
        return;
    };
    // With memory_profiler installed; those that import it, without as well.
    for python in [&with, &without] {
        for (name, functions) in SCRIPTS {
            let imports = matches!(name, "test_async.py" | "test_import.py");
            if python == &without && !imports {
                continue;
            }
            let Some(script) = require(machine::mprof_script(name)) else {
                return;
            };
            let ended = run(&session, true, python, &[&script.to_string_lossy()], None);
            ended.expect_code(0);
            let report = session.report();
            report.assert_nothing_lost();
            let calls: BTreeMap<&str, u64> = report
                .marks
                .iter()
                .map(|mark| (&mark.function[..], mark.calls))
                .collect();
            let expected: Vec<(String, u64)> = functions
                .iter()
                .map(|&(f, calls)| (format!("__main__.{f}"), calls))
                .collect();
            let expected: BTreeMap<&str, u64> =
                expected.iter().map(|(f, calls)| (&f[..], *calls)).collect();
            assert_eq!(calls, expected, "{name}");
            let dat = dat::parse(&session.read("out.dat"));
            let drawn: BTreeSet<&str> = dat.funcs.iter().map(|func| &func.name[..]).collect();
            assert_eq!(drawn, calls.keys().copied().collect(), "{name}");
            judge_plot_and_peak(&mprof, session.dir(), "out.dat", &dat);
            if name == "test_mprofile.py" {
                judge_functions(&mprof, session.dir(), "out.dat", &dat);
            }
            if name == "test_async.py" {
                // It sleeps for 10 ms: marked before and after, not meanwhile.
                let mark = &report.marks[0];
                let ran = mark.last_end - mark.first_begin - mark.running_s;
                assert!(ran >= 0.01, "{mark:?}");
                assert_eq!(dat.funcs.len(), 2, "{:?}", dat.funcs);
            }
        }
    }
}
