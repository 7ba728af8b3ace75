//! Pages that are swapped out and come back. In a file of its own: swap space is the machine's.

use std::path::PathBuf;
use std::process::Command;

use memprof_tests::machine::{self, require};
use memprof_tests::session::{self, Session};
use memprof_tests::torture::Walk;
use tempfile::TempDir;

/// Swap space of the test's own; taken back at the end, whatever the test did.
struct Swap {
    file: PathBuf,
    _dir: TempDir,
}

/// Bytes of it.
const SIZE: u64 = 64 << 20;

impl Swap {
    fn new() -> Result<Swap, String> {
        let dir = session::scratch();
        let file = dir.path().join("swap");
        // Not sparse: the kernel refuses files with holes.
        std::fs::write(&file, vec![0; SIZE as usize]).map_err(|e| e.to_string())?;
        let swap = Swap { file, _dir: dir };
        for command in ["chmod 600", "mkswap", "swapon"] {
            let mut words = command.split(' ');
            let mut command = Command::new(words.next().unwrap_or_default());
            let output = command.args(words).arg(&swap.file).output();
            let output = output.map_err(|e| format!("{command:?}: {e}"))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                return Err(format!("{command:?}: {said}"));
            }
        }
        Ok(swap)
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        let _ = Command::new("swapoff").arg(&self.file).output();
    }
}

#[test]
fn what_is_swapped_out_is_not_resident_and_comes_back_as_growth() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    let Some(_swap) = require(Swap::new()) else {
        return;
    };
    let compared = Walk::start(&session, &python, "swapped.py", &[]).compare();
    compared.assert_exact();
    let report = session.report_of(compared.pid);
    report.assert_nothing_lost();
    let name = |function: &str| report.function(function, "swapped.py");
    // 32 MiB, and 4 MiB that came back to be written; 8 MiB and 2 MiB that were read.
    assert!(name("write").gross >= 36 << 20, "{:?}", name("write"));
    assert!(name("read").gross >= 10 << 20, "{:?}", name("read"));
}
