//! `@profile`, and a word in time about the functions of `--func`, for the programs that `run`
//! starts: a folder that stands first on their Python path while they run.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::patterns::Pattern;

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
const MODULE_FILE: &str = "memprof_ebpf_profile.py";

/// What tells of functions before they are defined, where some are asked for.
const FUNCTIONS_FILE: &str = "memprof_ebpf_functions.py";
const FUNCTIONS: &str = include_str!("decorator/memprof_ebpf_functions.py");

/// Whether a source file is ours: nobody looks for frames of it.
pub fn is_ours(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or_default();
    name == MODULE_FILE || name == FUNCTIONS_FILE
}

/// The folder. It is removed when this is dropped.
pub struct Decorator {
    folder: TempDir,
}

impl Decorator {
    /// Makes the folder, for everybody to read: the program may become another user at any time.
    /// Nobody but us writes to it, so that nobody can give code to a program of somebody else.
    /// `patterns`: functions of which the program is to tell; its children too where they are
    /// followed.
    pub fn provide(patterns: &[Pattern], follow: bool) -> io::Result<Decorator> {
        let folder = tempfile::Builder::new().prefix("memprof-ebpf-").tempdir()?;
        for (name, text) in FILES {
            write(&folder.path().join(name), text)?;
        }
        if !patterns.is_empty() {
            write(
                &folder.path().join(FUNCTIONS_FILE),
                &functions(patterns, follow)?,
            )?;
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Decorator { folder })
    }

    /// The folder, to be made, in which the program waits for answers to what it tells.
    pub fn answers(&self) -> PathBuf {
        self.folder.path().join("answers")
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

/// The module that tells of these functions. The text of JSON is one of Python.
fn functions(patterns: &[Pattern], follow: bool) -> io::Result<String> {
    let (parts, whole): (Vec<_>, Vec<_>) = patterns
        .iter()
        .map(Pattern::last_part)
        .partition(|(_, end)| end.is_some());
    let whole: Vec<&str> = whole.into_iter().map(|(name, _)| name).collect();
    let whole = format!("_WHOLE = {}", serde_json::to_string(&whole)?);
    let parts = format!("_PARTS = {}", serde_json::to_string(&parts)?);
    let parent = match follow {
        true => 0,
        // The program is our child.
        false => std::process::id(),
    };
    let parent = format!("_PARENT = {parent}");
    Ok(FUNCTIONS
        .replace("_WHOLE = []", &whole)
        .replace("_PARTS = []", &parts)
        .replace("_PARENT = 0", &parent))
}

/// A file for everybody to read.
fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}
