//! Programs that embed the interpreter: linked to its library, or opening it when they run; found
//! before it is initialised, and after.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use memprof_tests::chains::{self, Told};
use memprof_tests::checkpoint::Checkpoints;
use memprof_tests::http;
use memprof_tests::machine::{self, require, workload};
use memprof_tests::process::{PATIENCE, wait_until};
use memprof_tests::program::Program;
use memprof_tests::session::Session;
use rustix::process::Signal;

/// A shared library of the interpreter.
struct Library {
    file: PathBuf,
    /// `PYTHONHOME`
    home: PathBuf,
    /// The loader and the folder of the C library that it needs, where that is not the system's.
    loader: Option<(PathBuf, PathBuf)>,
}

impl Library {
    /// Debian's own.
    fn of_debian() -> Result<Library, String> {
        Library::new("/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0", "/usr")
            .ok_or_else(|| "no libpython3.11: apt-get install libpython3.11".into())
    }

    /// Of a release that `cargo xtask test` unpacks: it runs with that release's C library.
    fn unpacked(version: &str) -> Result<Library, String> {
        let python = machine::packaged_interpreter(version)?;
        let python = python.canonicalize().map_err(|e| e.to_string())?;
        let usr = python.ancestors().nth(2).unwrap_or(Path::new("/"));
        let folder = usr.join("lib/x86_64-linux-gnu");
        let file = folder.join(format!("libpython{version}.so.1.0"));
        let mut library = Library::new(&file, usr)
            .ok_or_else(|| format!("no {}: cargo xtask interpreters", file.display()))?;
        library.loader = Some((folder.join("ld-linux-x86-64.so.2"), folder));
        Ok(library)
    }

    /// Of a shared build, if that is what the interpreter of this version is here.
    fn of(version: &str) -> Option<Library> {
        let python = machine::interpreter(version).ok()?.canonicalize().ok()?;
        let home = python.ancestors().nth(2)?;
        let file = ["", "m"].map(|flags| format!("lib/libpython{version}{flags}.so.1.0"));
        file.iter()
            .find_map(|file| Library::new(home.join(file), home))
    }

    fn new(file: impl Into<PathBuf>, home: impl Into<PathBuf>) -> Option<Library> {
        let file = file.into();
        file.is_file().then(|| Library {
            file,
            home: home.into(),
            loader: None,
        })
    }
}

#[derive(Clone, Copy, PartialEq)]
enum By {
    /// It is linked to the library.
    Linking,
    /// It calls dlopen.
    Opening,
}

#[derive(Clone, Copy, PartialEq)]
enum Attach {
    /// To a process that executes the program then, which maps the library and initialises the
    /// interpreter under the tracer's eyes.
    Before,
    /// To the process, when its script runs.
    After,
}

/// Builds the program that embeds.
#[track_caller]
fn build(library: &Library, by: By, folder: &Path) -> PathBuf {
    let program = folder.join("embed");
    let mut cc = Command::new("cc");
    cc.arg(workload("embed.c")).arg("-o").arg(&program);
    if by == By::Linking {
        let libraries = library.file.parent().expect("a folder");
        // The program names none of its functions, and what it needs itself may be newer than
        // what is here.
        cc.arg("-Wl,--no-as-needed,--allow-shlib-undefined")
            .arg(&library.file)
            .arg(format!("-Wl,-rpath,{}", libraries.display()));
    }
    let built = cc.args(["-ldl", "-lpthread"]).status();
    assert!(built.is_ok_and(|status| status.success()), "cc failed");
    program
}

/// Executes what its arguments say, after a line.
const EXECUTE: &str = "
import os, sys
os.write(1, b'waits\\n')
while os.read(0, 1) != b'\\n':
    pass
os.execvp(sys.argv[1], sys.argv[1:])
";

/// The variable of the environment by which a library finds its modules.
fn home(library: &Library) -> OsString {
    let mut home = OsString::from("PYTHONHOME=");
    home.push(&library.home);
    home
}

fn embedded(library: Result<Library, String>, by: By, attach: Attach) {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(library) = require(library) else {
        return;
    };
    let program = build(&library, by, session.dir());
    let mut command = match &library.loader {
        Some((loader, libraries)) => {
            let mut command = Command::new(loader);
            command.arg("--library-path").arg(libraries).arg(program);
            command
        }
        None => Command::new(program),
    };
    match by {
        By::Linking => command.arg("linked"),
        By::Opening => command.arg(&library.file),
    };
    command.arg(workload("embedded.py"));
    let (mut target, tracer) = match attach {
        Attach::Before => {
            let Some(python) = require(machine::debian_interpreter()) else {
                return;
            };
            let mut first = Command::new(python);
            first.args(["-S", "-c", EXECUTE, "env"]).arg(home(&library));
            first.arg(command.get_program()).args(command.get_args());
            let mut target = Program::start(&mut first);
            target.wait_stdout("waits");
            let mut tracer = session.attach(target.pid(), &[]);
            target.say("go");
            target.wait_stdout("begun");
            target.say("go");
            target.wait_stdout("ready");
            // Once it has taken what the program has done so far, it has looked at it.
            Checkpoints::new(&session.file("out")).ask(&mut tracer);
            (target, tracer)
        }
        Attach::After => {
            let mut target = Program::start(command.env("PYTHONHOME", &library.home));
            target.wait_stdout("begun");
            target.say("go");
            target.wait_stdout("ready");
            let tracer = session.attach(target.pid(), &[]);
            (target, tracer)
        }
    };
    target.say("go");
    let ended = target.finish().expect_code(0);
    tracer.finish().expect_code(0);
    let report = session.report();
    let loss = &report.loss;
    let lost = [loss.events_lost, loss.stacks_truncated, loss.stacks_failed];
    assert_eq!((lost, loss.unknown_threads), ([0; 3], 0));
    chains::check(&chains::parse(&ended.stdout), &session.folded(&report));
}

#[test]
fn a_program_linked_to_debians_library() {
    embedded(Library::of_debian(), By::Linking, Attach::Before);
    embedded(Library::of_debian(), By::Linking, Attach::After);
}

#[test]
fn a_program_that_opens_debians_library() {
    embedded(Library::of_debian(), By::Opening, Attach::Before);
    embedded(Library::of_debian(), By::Opening, Attach::After);
}

#[test]
fn a_program_that_opens_3_13_with_another_c_library() {
    embedded(Library::unpacked("3.13"), By::Opening, Attach::Before);
}

#[test]
fn a_program_that_opens_3_14_with_another_c_library() {
    embedded(Library::unpacked("3.14"), By::Opening, Attach::After);
}

#[test]
fn a_program_linked_to_3_15_has_its_thread_states_below_the_thread_pointer() {
    embedded(Library::unpacked("3.15"), By::Linking, Attach::Before);
    embedded(Library::unpacked("3.15"), By::Linking, Attach::After);
}

#[test]
fn a_program_that_opens_3_15_has_its_thread_states_in_blocks_of_their_own() {
    embedded(Library::unpacked("3.15"), By::Opening, Attach::Before);
    embedded(Library::unpacked("3.15"), By::Opening, Attach::After);
}

#[test]
fn programs_linked_to_the_shared_builds_of_this_machine() {
    for version in ["3.6", "3.8", "3.10", "3.12", "3.13"] {
        if let Some(library) = Library::of(version) {
            embedded(Ok(library), By::Linking, Attach::After);
        }
    }
}

/// A real one: uWSGI, whose program is not called python, with its HTTP router and two workers.
#[test]
fn uwsgi_and_its_workers() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(uwsgi) = require(machine::venv("uwsgi")) else {
        return;
    };
    let application = workload("uwsgi_app.py");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.expect("a free port");
    let mut command = Command::new(uwsgi);
    command
        .args(["--http", &address.to_string(), "--wsgi-file"])
        .arg(&application)
        .args(["--master", "--processes", "2", "--die-on-term"])
        .env("PYTHONPATH", application.parent().expect("a folder"));
    let service = Program::start(&mut command);
    let answer = || http::get(address, "/").body().ok();
    wait_until("an answer", PATIENCE, answer);
    let tracer = session.attach(service.pid(), &[]);
    let mut told: Vec<Told> = Vec::new();
    wait_until("two answers by each of two workers", PATIENCE, || {
        told.push(serde_json::from_str(&answer()?).expect("its stacks"));
        let mut answers: BTreeMap<u32, u32> = BTreeMap::new();
        told.iter()
            .for_each(|one| *answers.entry(one.pid).or_default() += 1);
        (answers.values().filter(|&&answers| answers >= 2).count() == 2).then_some(())
    });
    tracer.signal(Signal::INT);
    tracer.finish().expect_code(0);
    service.signal(Signal::TERM);
    service.finish();
    let report = session.report();
    let loss = &report.loss;
    assert_eq!((loss.stacks_failed, loss.events_lost), (0, 0));
    chains::check(&told, &session.folded(&report));
}
