//! Answers for programs that wait: a file each, in a folder of ours.

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

/// Whether we are there is seen by whether it has a reader.
const PIPE: &str = "pipe";

/// Answers of one process that are kept; it waits for one a thread at most.
const KEPT: usize = 16;

/// The folder. Programs wait no more when this is dropped, or we have gone: the pipe then has no
/// reader.
pub struct Answers {
    folder: PathBuf,
    /// Nothing is read from it.
    _pipe: File,
    given: HashMap<u32, Vec<u64>>,
}

impl Answers {
    /// Makes the folder. An error: nobody waits.
    pub fn open(folder: PathBuf) -> io::Result<Answers> {
        fs::create_dir(&folder)?;
        // The programs' users need not be ours, nor the mask of new files what they need.
        fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
        let pipe = folder.join(PIPE);
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0)?;
        fs::set_permissions(&pipe, Permissions::from_mode(0o622))?;
        let without_writer = OFlags::NONBLOCK.bits() as i32;
        let reader = File::options()
            .read(true)
            .custom_flags(without_writer)
            .open(&pipe)?;
        Ok(Answers {
            folder,
            _pipe: reader,
            given: HashMap::new(),
        })
    }

    /// Answers what a process waits for. If that fails, it has waited in vain, and goes on.
    pub fn give(&mut self, pid: u32, token: u64) {
        let given = self.given.entry(pid).or_default();
        given.push(token);
        let old = match given.len() > KEPT {
            true => Some(given.remove(0)),
            false => None,
        };
        let _ = File::create(self.file(token));
        if let Some(old) = old {
            self.remove(old);
        }
    }

    /// The process has gone.
    pub fn forget(&mut self, pid: u32) {
        for token in self.given.remove(&pid).unwrap_or_default() {
            self.remove(token);
        }
    }

    fn remove(&self, token: u64) {
        // Another process may have had the same, and taken it away.
        let _ = fs::remove_file(self.file(token));
    }

    fn file(&self, token: u64) -> PathBuf {
        self.folder.join(format!("{token:x}"))
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        // What is left of it goes with the folder that it stands in.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
