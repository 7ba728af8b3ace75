//! Where files come to lie and whom they belong to.
//!
//! The tool runs as root in folders of other users: a file is made anew (never through a link at
//! its name), an existing one is replaced only when that was asked for, and under sudo it is
//! handed to the user who typed the command.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;

use crate::sink::{clock, escape};
use crate::{Error, Result};

/// Unfinished files of killed runs beside which a new one still finds a name.
const MAX_LEFT_BEHIND: u32 = 100;

/// The common beginning of a run's files: `BASE.dat`, `BASE.folded`, `BASE.memprof`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputBase {
    base: PathBuf,
    force: bool,
    /// The time in a name of our choice.
    stamp: Option<String>,
}

impl OutputBase {
    /// Settles the base before the trace begins: the default name when there is none, `.dat` at
    /// its end taken away. Fails when one of a run's three files exists (but with `force`), or
    /// when the folder cannot be written to.
    pub fn resolve(base: Option<PathBuf>, force: bool) -> Result<OutputBase> {
        let resolved = match base {
            None => OutputBase::stamped(clock::file_stamp()).free(),
            Some(base) => OutputBase {
                base: match base.extension() {
                    Some(extension) if extension == "dat" => base.with_extension(""),
                    _ => base,
                },
                force,
                stamp: None,
            },
        };
        for path in resolved.files() {
            check(&path, resolved.force)?;
        }
        Ok(resolved)
    }

    fn stamped(stamp: String) -> OutputBase {
        OutputBase {
            base: PathBuf::from(format!("mprofile_{stamp}")),
            // Whatever has this name is another run's.
            force: false,
            stamp: Some(stamp),
        }
    }

    /// Itself, but where another run has taken a name of our choice: runs may begin in one second.
    /// Then it is that of the next second that is free.
    pub fn free(mut self) -> OutputBase {
        while let Some(stamp) = &self.stamp
            && self
                .files()
                .iter()
                .any(|path| path.symlink_metadata().is_ok())
            && let Some(next) = clock::next_file_stamp(stamp)
        {
            self = OutputBase::stamped(next);
        }
        self
    }

    fn files(&self) -> [PathBuf; 3] {
        [self.memprof(), self.dat(), self.folded()]
    }

    /// `BASE`
    pub fn path(&self) -> &Path {
        &self.base
    }

    /// `BASE.dat`
    pub fn dat(&self) -> PathBuf {
        self.with("dat")
    }

    /// `BASE.folded`
    pub fn folded(&self) -> PathBuf {
        self.with("folded")
    }

    /// `BASE.memprof`
    pub fn memprof(&self) -> PathBuf {
        self.with("memprof")
    }

    /// `BASE.svg`
    pub fn svg(&self) -> PathBuf {
        self.with("svg")
    }

    /// Whether existing files may be replaced.
    pub fn force(&self) -> bool {
        self.force
    }

    // Not `with_extension`, which would cut `run.v2` to `run`.
    fn with(&self, extension: &str) -> PathBuf {
        let mut name = self.base.clone().into_os_string();
        name.push(".");
        name.push(extension);
        name.into()
    }
}

/// Fails when `path` could not be created later: it exists (but with `force`), it is not a plain
/// file, or its folder is missing or not writable.
pub fn check(path: &Path, force: bool) -> Result<()> {
    let place = Place::open(path)?;
    place.refuse_existing(path, force)?;
    // Root passes every question of access(2), also on /proc: only making a file tells.
    let failed = |errno: Errno| cannot_write(path, errno.into());
    let (probe, _) = place.create_temporary().map_err(failed)?;
    fs::unlinkat(&place.folder, &probe, AtFlags::empty()).map_err(failed)
}

/// A file being written. It carries its final name once [`OutputFile::finish`] has returned;
/// dropped before, it leaves nothing behind.
#[derive(Debug)]
pub struct OutputFile {
    file: File,
    path: PathBuf,
    place: Place,
    /// Its name until it is finished.
    temporary: Option<OsString>,
    force: bool,
}

impl OutputFile {
    /// A file that appears under its name when it is whole.
    pub fn create(path: &Path, force: bool) -> Result<OutputFile> {
        let place = Place::open(path)?;
        place.refuse_existing(path, force)?;
        let failed = |errno: Errno| cannot_write(path, errno.into());
        let (temporary, file) = place.create_temporary().map_err(failed)?;
        Ok(OutputFile {
            file,
            path: path.to_owned(),
            place,
            temporary: Some(temporary),
            force,
        })
    }

    /// Gives the file its name.
    pub fn finish(mut self) -> Result<()> {
        let Some(temporary) = self.temporary.take() else {
            return Ok(());
        };
        let renamed = self.place.rename(&temporary, self.force);
        if renamed.is_err() {
            self.temporary = Some(temporary);
        }
        renamed.map_err(|errno| match errno {
            Errno::EXIST => exists(&self.path),
            errno => cannot_write(&self.path, errno.into()),
        })
    }

    /// The error to show when writing to this file has failed.
    pub fn write_error(&self, error: io::Error) -> Error {
        cannot_write(&self.path, error)
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Nothing can be done about a failure here, and the file is only a rest.
            let _ = fs::unlinkat(&self.place.folder, temporary, AtFlags::empty());
        }
    }
}

/// Makes the file `path` from what `write` produces: whole or not at all.
pub fn write_file(
    path: &Path,
    force: bool,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let mut out = io::BufWriter::new(OutputFile::create(path, force)?);
    let written = write(&mut out).and_then(|()| out.flush());
    // On failure the buffer must not be written once more by the drop of the BufWriter.
    let (file, _) = out.into_parts();
    match written {
        Ok(()) => file.finish(),
        Err(error) => Err(file.write_error(error)),
    }
}

/// A name in an open folder. All that follows goes through the folder's descriptor, so that
/// nobody can exchange the folder between the check and the use.
#[derive(Debug)]
struct Place {
    folder: OwnedFd,
    name: OsString,
}

impl Place {
    fn open(path: &Path) -> Result<Place> {
        let Some(name) = path.file_name() else {
            return Err(Error::failed(
                format!("cannot write to {}", path.display()),
                "the path does not end in a file name",
                "give a file name: -o NAME",
            ));
        };
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = fs::openat(CWD, folder, flags, Mode::empty());
        Ok(Place {
            folder: opened.map_err(|errno| no_folder(path, folder, errno))?,
            name: name.to_owned(),
        })
    }

    fn refuse_existing(&self, path: &Path, force: bool) -> Result<()> {
        let stat = match fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(cannot_write(path, errno.into())),
            Ok(stat) => stat,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let why = match kind {
            FileType::RegularFile => None,
            FileType::Symlink => self.leads_to_no_file(),
            other => Some(format!("it is not a plain file but {other:?}")),
        };
        match why {
            Some(why) => Err(Error::failed(
                format!("cannot replace {}", path.display()),
                why,
                "give another name: -o NAME",
            )),
            None if !force => Err(exists(path)),
            None => Ok(()),
        }
    }

    /// Why a link is not to be replaced: root would take /dev/stdout away from the whole machine.
    fn leads_to_no_file(&self) -> Option<String> {
        let text = fs::readlinkat(&self.folder, &self.name, Vec::new()).ok()?;
        let text = text.to_string_lossy();
        // Those of /proc lead to what a process has open, a plain file or not.
        if text.starts_with("/proc/") {
            return Some(format!("it is a link to {text}"));
        }
        // A link to nothing stands in nobody's way.
        let stat = fs::statat(&self.folder, &self.name, AtFlags::empty()).ok()?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => None,
            other => Some(format!(
                "it is a link to {text}, which is no plain file but {other:?}"
            )),
        }
    }

    /// A file that is not whole yet, and its name. One that a killed run left behind (in a
    /// container every run may have pid 1) is passed over.
    fn create_temporary(&self) -> rustix::io::Result<(OsString, File)> {
        let pid = std::process::id();
        for attempt in 0..MAX_LEFT_BEHIND {
            let mut name = OsString::from(".");
            name.push(&self.name);
            name.push(format!(".{pid}-{attempt}.part"));
            match self.create(&name) {
                Err(Errno::EXIST) => {}
                created => return Ok((name, created?)),
            }
        }
        Err(Errno::EXIST)
    }

    fn create(&self, name: &OsStr) -> rustix::io::Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let created = fs::openat(&self.folder, name, flags, Mode::from_raw_mode(0o644))?;
        if let Some((user, group)) = sudo_user() {
            fs::fchown(&created, Some(user), Some(group))?;
        }
        Ok(File::from(created))
    }

    fn rename(&self, from: &OsStr, force: bool) -> rustix::io::Result<()> {
        let folder = &self.folder;
        if force {
            return fs::renameat(folder, from, folder, &self.name);
        }
        match fs::renameat_with(folder, from, folder, &self.name, RenameFlags::NOREPLACE) {
            // A file system without RENAME_NOREPLACE: a hard link refuses an existing name too.
            Err(Errno::INVAL | Errno::NOSYS) => {
                fs::linkat(folder, from, folder, &self.name, AtFlags::empty())?;
                fs::unlinkat(folder, from, AtFlags::empty())
            }
            renamed => renamed,
        }
    }
}

/// The user who called sudo, when this process is root by it.
fn sudo_user() -> Option<(Uid, Gid)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let id = |name| env::var(name).ok()?.parse::<u32>().ok();
    // The highest value is the kernel's "do not change" (chown(2)), not an id.
    let valid = |&id: &u32| id != u32::MAX;
    let user = id("SUDO_UID").filter(valid)?;
    let group = id("SUDO_GID").filter(valid)?;
    Some((Uid::from_raw(user), Gid::from_raw(group)))
}

fn exists(path: &Path) -> Error {
    Error::failed(
        format!("{} exists already", path.display()),
        "an existing file is not overwritten",
        "add --force, or give another name: -o NAME",
    )
}

fn no_folder(path: &Path, folder: &Path, errno: Errno) -> Error {
    let hint = match errno {
        Errno::NOENT => format!("mkdir -p {}", escape::shell(folder)),
        _ => "give a name in another folder: -o NAME".to_owned(),
    };
    Error::failed(
        format!("cannot write {}", path.display()),
        format!("{}: {}", folder.display(), io::Error::from(errno)),
        hint,
    )
}

fn cannot_write(path: &Path, error: io::Error) -> Error {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!(
                "make room (df -h {}), or write elsewhere: -o NAME",
                escape::shell(folder)
            )
        }
        _ => format!(
            "write to a folder of yours: -o NAME (ls -ld {})",
            escape::shell(folder)
        ),
    };
    Error::failed(format!("cannot write {}", path.display()), error, hint)
}
