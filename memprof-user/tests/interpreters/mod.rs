//! What the tests of the walk share: the interpreters of this machine, and a program whose
//! stacks are known.
#![allow(dead_code, reason = "each test binary uses a part")]

pub mod image;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use memprof_user::python::versions::VERSIONS;
use memprof_user::python::{SymbolFrame, Symbols};

/// The program, and the name that its code objects carry.
pub const DEEP: &str = include_str!("deep.py");
/// Runs the text in the first argument as `deep.py`.
pub const RUN_DEEP: &str =
    "import sys; exec(compile(sys.argv.pop(1), 'deep.py', 'exec', dont_inherit=True))";

/// An interpreter of this machine.
#[derive(Clone, Debug)]
pub struct Found {
    /// `3.11.7`, or `3.11` where the name does not say more.
    pub version: String,
    pub path: PathBuf,
}

impl Found {
    pub fn minor(&self) -> u8 {
        self.version.split('.').nth(1).unwrap().parse().unwrap()
    }
}

/// CPython 2.7, which is in no table: pyenv's, or the one that `cargo xtask test` unpacks.
pub fn python2() -> Option<PathBuf> {
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let pyenv = pyenv.or_else(|| Some(std::env::home_dir()?.join(".pyenv")));
    let versions = pyenv.and_then(|root| std::fs::read_dir(root.join("versions")).ok());
    let theirs = versions
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .map(|version| version.join("bin/python2.7"));
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/interpreters/bin");
    theirs
        .chain([unpacked.join("python2.7")])
        .find(|path| path.exists())
}

/// Every interpreter under pyenv's versions folder, oldest first, Debian's, and those that
/// `cargo xtask test` unpacks.
pub fn interpreters() -> Vec<Found> {
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let pyenv = pyenv.or_else(|| Some(std::env::home_dir()?.join(".pyenv")));
    let versions = pyenv.and_then(|root| std::fs::read_dir(root.join("versions")).ok());
    let mut found: Vec<Found> = versions
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let version = entry.ok()?;
            let path = version.path().join("bin/python3");
            let version = version.file_name().into_string().ok()?;
            let is_version = version.starts_with("3.") && path.exists();
            is_version.then_some(Found { version, path })
        })
        .collect();
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/interpreters/bin");
    for row in VERSIONS {
        for folder in [Path::new("/usr/bin"), &unpacked] {
            let path = folder.join(format!("python3.{}", row.minor));
            if path.exists() {
                let version = format!("3.{}", row.minor);
                found.push(Found { version, path });
            }
        }
    }
    found.sort_by_key(|found| found.minor());
    found
}

/// Those of the versions in the table. One that is missing is said, and fails under CI.
pub fn supported() -> Vec<Found> {
    let all = interpreters();
    for row in VERSIONS {
        if !all.iter().any(|found| found.minor() == row.minor) {
            missing(&format!("an interpreter of 3.{}", row.minor));
        }
    }
    let in_table = |found: &Found| VERSIONS.iter().any(|row| row.minor == found.minor());
    all.into_iter().filter(in_table).collect()
}

/// A test cannot run as meant: it says so, and fails where skips are not allowed.
pub fn missing(what: &str) {
    let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!is_ci, "{what} is missing on this machine");
    eprintln!("SKIPPED: {what} is missing on this machine");
}

/// What a thread of the program says of itself.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Truth {
    /// `pthread_self()`: the thread pointer.
    pub thread_id: u64,
    pub tid: u32,
    /// (name, file, line), leaf first.
    pub chain: Vec<(String, String, u32)>,
}

impl Truth {
    /// `name (file:line)`, root first, as the symbols are.
    pub fn rooted(&self) -> Vec<String> {
        let chain = self.chain.iter().rev();
        chain
            .map(|(name, file, line)| format!("{name} ({file}:{line})"))
            .collect()
    }
}

/// The same of the symbols that were found.
pub fn shown(symbols: &Symbols, frames: &[SymbolFrame]) -> Vec<String> {
    let functions = symbols.tables().functions();
    let shown = frames.iter().map(|frame| {
        let function = &functions[frame.function as usize];
        format!("{} ({}:{})", function.name, function.file, frame.line)
    });
    shown.collect()
}

/// A program that waits for the end of its stdin; dropped, it ends.
pub struct Program {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Program {
    pub fn start(command: &mut Command) -> Self {
        command
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // A program that was just written is busy while a child that another test has forked
        // meanwhile, and that has not executed yet, still has the file open.
        let mut child = loop {
            match command.spawn() {
                Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::yield_now();
                }
                child => break child.unwrap(),
            }
        };
        let output = BufReader::new(child.stdout.take().unwrap());
        Program { child, output }
    }

    /// `deep.py` under an interpreter; both threads wait.
    pub fn deep(python: &PathBuf, depth: u32) -> (Self, Vec<Truth>) {
        Self::deep_as(Command::new(python), depth)
    }

    /// The same with a command to which the interpreter's arguments are added.
    pub fn deep_as(mut command: Command, depth: u32) -> (Self, Vec<Truth>) {
        command.args(["-S", "-c", RUN_DEEP, DEEP, &depth.to_string()]);
        let mut program = Self::start(&mut command);
        let truths: Vec<Truth> = (0..2)
            .map(|_| serde_json::from_str(&program.line()).unwrap())
            .collect();
        for truth in &truths {
            program.await_read(truth.tid);
        }
        (program, truths)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it writes.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the program ended");
        line
    }

    /// Lets a waiting read of one byte return.
    pub fn go(&mut self) {
        use std::io::Write;
        self.child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    }

    /// Returns once the thread is inside read(0, …).
    pub fn await_read(&mut self, tid: u32) {
        await_read_of(self.pid(), tid);
    }
}

/// Returns once a thread is inside read(0, …): system call 0 on x86-64.
pub fn await_read_of(pid: u32, tid: u32) {
    let path = format!("/proc/{pid}/task/{tid}/syscall");
    loop {
        let now = std::fs::read_to_string(&path).expect("it has ended");
        if now.starts_with("0 0x0 ") {
            return;
        }
        std::thread::yield_now();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // A program that waits for something else does not end by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
