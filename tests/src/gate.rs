//! A FIFO on which a workload and a test wait for each other.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use crate::process::{PATIENCE, wait_until};

/// A FIFO in a scratch directory.
pub struct Gate {
    path: PathBuf,
}

impl Gate {
    /// Makes the FIFO.
    pub fn new(dir: &Path, name: &str) -> Gate {
        let path = dir.join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .unwrap_or_else(|e| panic!("mkfifo {}: {e}", path.display()));
        Gate { path }
    }

    /// Where it is, for the workload's command line.
    pub fn path(&self) -> &str {
        self.path.to_str().expect("scratch paths are UTF-8")
    }

    /// Waits until the workload has written to it and closed it; what it wrote.
    #[track_caller]
    pub fn wait(&self) -> String {
        self.wait_for(PATIENCE)
    }

    /// The same for a workload that needs its time.
    #[track_caller]
    pub fn wait_for(&self, patience: Duration) -> String {
        // Not blocking, so that a workload that died is a message and no hang. A read of a FIFO
        // without a writer gives 0 bytes, one with a silent writer gives EAGAIN.
        let mut fifo = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(&self.path)
            .unwrap_or_else(|e| panic!("open {}: {e}", self.path.display()));
        let mut text = String::new();
        wait_until(
            &format!("a word on {}", self.path.display()),
            patience,
            || {
                let mut chunk = [0; 256];
                match fifo.read(&mut chunk) {
                    Ok(0) => (!text.is_empty()).then_some(()),
                    Ok(n) => {
                        text.push_str(&String::from_utf8_lossy(&chunk[..n]));
                        None
                    }
                    Err(_) => None,
                }
            },
        );
        text
    }

    /// Lets the workload, which waits in `open(…).read()`, go on.
    #[track_caller]
    pub fn open(&self) {
        // Opening for writing without blocking fails until there is a reader.
        let mut fifo = wait_until(
            &format!("a reader of {}", self.path.display()),
            PATIENCE,
            || {
                OpenOptions::new()
                    .write(true)
                    .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
                    .open(&self.path)
                    .ok()
            },
        );
        fifo.write_all(b"go")
            .expect("write to a FIFO with a reader");
    }
}
