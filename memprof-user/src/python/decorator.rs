//! `@profile` for the programs that `run` starts: a folder that stands first on their Python path
//! while they run.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

/// Imported by every interpreter at start-up, and what it imports.
const FILES: [(&str, &str); 2] = [
    (
        "sitecustomize.py",
        include_str!("decorator/sitecustomize.py"),
    ),
    (
        MODULE_FILE,
        include_str!("decorator/memprof_ebpf_profile.py"),
    ),
];

/// The file of the wrappers around decorated functions.
pub const MODULE_FILE: &str = "memprof_ebpf_profile.py";

/// The folder. It is removed when this is dropped.
pub struct Decorator {
    folder: TempDir,
}

impl Decorator {
    /// Makes the folder, for everybody to read: the program may become another user at any time.
    /// Nobody but us writes to it, so that nobody can give code to a program of somebody else.
    pub fn provide() -> io::Result<Decorator> {
        let folder = tempfile::Builder::new().prefix("memprof-ebpf-").tempdir()?;
        for (name, text) in FILES {
            let path = folder.path().join(name);
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Decorator { folder })
    }

    /// The PYTHONPATH of the program: ours with this folder before it.
    pub fn python_path(&self) -> OsString {
        let mut path = self.folder.path().as_os_str().to_owned();
        let rest = env::var_os("PYTHONPATH");
        if let Some(rest) = rest.as_deref().filter(|rest| *rest != OsStr::new("")) {
            path.push(":");
            path.push(rest);
        }
        path
    }

    /// Leaves the folder: the program goes on running, and starts other ones.
    pub fn leave(self) {
        // Its path is of no use to us any more.
        let _ = self.folder.keep();
    }
}
