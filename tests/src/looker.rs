//! Looking at recordings, which takes neither root nor a kernel.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::machine::{self, require};
use crate::program::{Ended, Program};
use crate::session::scratch;

/// A scratch folder, and the binary under test in it.
pub struct Looker {
    dir: TempDir,
    binary: PathBuf,
}

impl Looker {
    /// None when the binary is missing (a skip; a failure under CI).
    pub fn open() -> Option<Looker> {
        Some(Looker {
            binary: require(machine::binary())?,
            dir: scratch(),
        })
    }

    /// The binary under test.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The scratch folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `plot` with these arguments, in the scratch folder, of a user without a display.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("plot").args(args).current_dir(self.dir.path());
        for name in ["DISPLAY", "WAYLAND_DISPLAY", "SUDO_UID", "COLUMNS"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs `plot` to its end.
    #[track_caller]
    pub fn plot(&self, args: &[&str]) -> Ended {
        Program::start(&mut self.command(args)).finish()
    }

    /// A file in the scratch folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a text file in the scratch folder.
    #[track_caller]
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).expect("write into the scratch folder");
    }

    /// A text file of the scratch folder.
    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

/// Ten seconds of a process that grows by a MiB a second, from 100 MiB, in which `grow` ran once.
pub fn growing() -> String {
    let mut text = "CMDLINE python app.py\n".to_owned();
    for i in 0..=100 {
        let (mib, epoch_s) = (100.0 + f64::from(i) / 10.0, 1.7e9 + f64::from(i) / 10.0);
        text.push_str(&format!("MEM {mib:.6} {epoch_s:.4}\n"));
    }
    text + "FUNC app.grow 102.0000 1700000002.0000 106.0000 1700000006.0000 0\n"
}
