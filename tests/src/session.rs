//! One test's tracer: a scratch folder, the binary under test in it, and what it wrote.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::folded::{self, Row};
use crate::machine::{self, require};
use crate::program::{Ended, Program};
use crate::report::Report;

/// A scratch folder and the binary under test.
pub struct Session {
    dir: TempDir,
    binary: PathBuf,
}

impl Session {
    /// None when the binary is missing or the caller is not root (a skip; a failure under CI).
    pub fn open() -> Option<Session> {
        require(machine::root())?;
        let binary = require(machine::binary())?;
        Some(Session {
            dir: scratch(),
            binary,
        })
    }

    /// The scratch folder; the tracer's working directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file in the scratch folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// A command that runs memprof-ebpf in the scratch folder.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Command {
        // A shell starts background jobs with SIGINT ignored, and what they start inherits that:
        // Ctrl-C before the tracer's own handler is set would be lost.
        let mut command = Command::new("env");
        command.arg("--default-signal=INT").arg(&self.binary);
        command.args(args).current_dir(self.dir());
        // The caller's own sudo, if any, is not the one under test.
        for name in ["SUDO_UID", "SUDO_GID", "SUDO_USER"] {
            command.env_remove(name);
        }
        command
    }

    /// The binary under test.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Starts memprof-ebpf.
    #[track_caller]
    pub fn start<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Program {
        Program::start(&mut self.command(args))
    }

    /// Runs memprof-ebpf to its end, which must be a good one.
    #[track_caller]
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Ended {
        self.start(args).finish().expect_code(0)
    }

    /// Attaches to a process and waits until all probes are on. Writes `out.*`.
    #[track_caller]
    pub fn attach(&self, pid: u32, options: &[&str]) -> Program {
        let pid = pid.to_string();
        let mut args = vec!["trace", "-p", &pid, "-o", "out"];
        args.extend(options);
        let mut tracer = self.start(&args);
        tracer.wait_stderr("attached");
        tracer
    }

    /// `report --json` of `out.memprof`.
    #[track_caller]
    pub fn report(&self) -> Report {
        Report::parse(&self.run(&["report", "out.memprof", "--json"]).stdout)
    }

    /// The same for one process.
    #[track_caller]
    pub fn report_of(&self, pid: u32) -> Report {
        let pid = pid.to_string();
        Report::parse(
            &self
                .run(&["report", "out.memprof", "--json", "--pid", &pid])
                .stdout,
        )
    }

    /// A text file of the scratch folder.
    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        let path = self.file(name);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
    }

    /// `out.folded`, whose weights must add up to the report's net.
    #[track_caller]
    pub fn folded(&self, report: &Report) -> Vec<Row> {
        let rows = folded::parse(&self.read("out.folded"));
        let sum: u64 = rows.iter().map(|row| row.bytes).sum();
        assert_eq!(sum, report.net(), "folded weights and the report's net");
        rows
    }
}

/// An empty folder, removed at the end.
#[track_caller]
pub fn scratch() -> TempDir {
    tempfile::Builder::new()
        .prefix("memprof-test-")
        .tempdir()
        .unwrap_or_else(|e| panic!("no scratch folder: {e}"))
}
