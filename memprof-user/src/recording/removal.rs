//! Taking recordings away, with all files of the same run, and nothing else.
//!
//! A file goes when its name is one that a run gives (or a user's word, for a recording) and its
//! content is what that name promises; both are asked of the file itself, so that a link leads
//! nowhere. mprof removes whatever it is given.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{self, AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::folder::{self, Folder};
use super::is_dat;
use crate::sink::{escape, flamegraph};
use crate::{Error, Exit, Result, capture};

/// Files that are to go.
#[derive(Debug, Default)]
pub struct Removal {
    files: Vec<Place>,
    /// Their paths.
    known: HashSet<PathBuf>,
    /// Files that have a name of the same run and a content of something else, and why they stay.
    kept: Vec<String>,
    /// Folders that were opened, by their paths: a run's files are many, and open files few.
    opened: HashMap<PathBuf, Rc<Opened>>,
}

impl Removal {
    /// These recordings, numbers first (as for mprof) and files else, with what belongs to them.
    /// Fails when one is missing or is not a recording; then nothing is to go.
    pub fn of(folder: &Folder, wanted: &[PathBuf]) -> Result<Removal> {
        let mut recordings = Vec::new();
        for word in wanted {
            let path = match folder::number(word) {
                Some(number) => folder.numbered(number)?,
                None => word.clone(),
            };
            if !recordings.contains(&path) {
                recordings.push(path);
            }
        }
        let mut removal = Removal::default();
        for path in &recordings {
            let place = removal.place(path)?;
            let kind = Kind::of_recording(&place.name).ok_or_else(|| not_one(path, NOT_NAMED))?;
            place.check(kind).map_err(|why| not_one(path, &why))?;
            removal.add(place);
        }
        for path in &recordings {
            removal.add_siblings(path)?;
        }
        Ok(removal)
    }

    /// Every run of a folder that has mprof's default name, also where only a part of its files
    /// is left. What is not what its name promises is passed over.
    pub fn all(folder: &Folder) -> Result<Removal> {
        let mut removal = Removal::default();
        let recordings = folder.recordings().iter();
        let recordings: Vec<PathBuf> = recordings.map(|name| folder.path_of(name)).collect();
        for path in &recordings {
            removal.add_if_made_by_a_run(path.clone(), Kind::Dat)?;
        }
        let place = removal.place(&folder.path_of("any"))?;
        for name in &place.folder.names {
            let rest = name.strip_prefix("mprofile_");
            let stamp = rest.and_then(|rest| rest.get(..folder::STAMP_CHARS));
            let Some(stamp) = stamp.filter(|stamp| stamp.bytes().all(|b| b.is_ascii_digit()))
            else {
                continue;
            };
            let ending = &name["mprofile_".len() + stamp.len()..];
            if let Some(kind) = Kind::of(ending) {
                removal.add_if_made_by_a_run(folder.path_of(name), kind)?;
            }
        }
        Ok(removal)
    }

    /// What is to go, as the user would write it: the recordings, then what belongs to them.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// Sentences on files that stay although their names are of the same run.
    pub fn kept(&self) -> &[String] {
        &self.kept
    }

    /// Removes the files. A failure does not keep the others; the first is returned.
    pub fn carry_out(self) -> Result<()> {
        let mut first = Ok(());
        for file in self.files {
            match fs::unlinkat(&file.folder.fd, &file.name, AtFlags::empty()) {
                // Somebody else was faster.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    let folder = parent(&file.path);
                    let failed = Error::failed(
                        format!("cannot remove {}", file.path.display()),
                        std::io::Error::from(errno),
                        format!("ls -ld {}", escape::shell(folder)),
                    );
                    first = first.and(Err(failed));
                }
            }
        }
        first
    }

    fn add(&mut self, place: Place) {
        if self.known.insert(place.path.clone()) {
            self.files.push(place);
        }
    }

    fn place(&mut self, path: &Path) -> Result<Place> {
        let Some(name) = path.file_name() else {
            return Err(not_one(path, "the path does not end in a file name"));
        };
        let parent = parent(path);
        let folder = match self.opened.get(parent) {
            Some(folder) => Rc::clone(folder),
            None => {
                let folder = Opened::open(parent).map_err(|errno| missing(path, errno))?;
                let folder = Rc::new(folder);
                self.opened.insert(parent.to_owned(), Rc::clone(&folder));
                folder
            }
        };
        Ok(Place {
            folder,
            name: name.to_owned(),
            path: path.to_owned(),
        })
    }

    fn add_siblings(&mut self, recording: &Path) -> Result<()> {
        let place = self.place(recording)?;
        let Some(name) = place.name.to_str() else {
            return Ok(());
        };
        let base = ENDINGS_OF_A_RECORDING
            .iter()
            .find_map(|ending| name.strip_suffix(ending));
        let Some(base) = base else {
            return Ok(());
        };
        for name in &place.folder.names {
            let Some(kind) = name.strip_prefix(base).and_then(Kind::of) else {
                continue;
            };
            self.add_if_made_by_a_run(recording.with_file_name(name), kind)?;
        }
        Ok(())
    }

    fn add_if_made_by_a_run(&mut self, path: PathBuf, kind: Kind) -> Result<()> {
        let place = self.place(&path)?;
        match place.check(kind) {
            Ok(()) => self.add(place),
            Err(why) => {
                let shown = escape::terminal(&path.to_string_lossy()).into_owned();
                self.kept.push(format!("{shown} stays: {why}"));
            }
        }
        Ok(())
    }
}

const ENDINGS_OF_A_RECORDING: [&str; 2] = [".dat", ".memprof"];

const NOT_NAMED: &str = "its name ends neither in .dat nor in .memprof";

/// What a run, or a view of it, leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// mprof's time series.
    Dat,
    /// A capture.
    Capture,
    /// Folded stacks.
    Folded,
    /// A picture of ours.
    Svg,
    /// A plot.
    Png,
    /// A checkpoint.
    Json,
}

impl Kind {
    /// By what stands behind the base of a run's names; None for what no run writes.
    fn of(ending: &str) -> Option<Kind> {
        let numbered = |before: &str, after: &str| {
            let number = ending.strip_prefix(before)?.strip_suffix(after)?;
            (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(())
        };
        Some(match ending {
            // The second is of mprof before 0.31.
            ".dat" | "_ts.dat" => Kind::Dat,
            ".memprof" => Kind::Capture,
            ".folded" => Kind::Folded,
            ".svg" | "-plot.svg" | "-flame.svg" => Kind::Svg,
            "-plot.png" | "-flame.png" => Kind::Png,
            _ if numbered(".trigger-", ".memprof").is_some() => Kind::Capture,
            _ if numbered(".checkpoint-", ".json").is_some() => Kind::Json,
            _ => return None,
        })
    }

    /// By the whole name of what a user calls a recording.
    fn of_recording(name: &OsStr) -> Option<Kind> {
        let name = name.to_str()?;
        let ending = ENDINGS_OF_A_RECORDING
            .iter()
            .find(|ending| name.ends_with(**ending))?;
        Kind::of(ending)
    }

    /// Whether a file that begins so is of this kind.
    fn begins(self, beginning: &[u8]) -> bool {
        let text = || String::from_utf8_lossy(beginning);
        match self {
            // mprof was killed at once; nothing grew.
            Kind::Dat | Kind::Folded if beginning.is_empty() => true,
            Kind::Dat => is_dat(beginning),
            Kind::Capture => capture::is_capture(beginning),
            Kind::Folded => text().lines().next().is_some_and(|line| {
                let weight = line.rsplit(' ').next();
                let whole = beginning.contains(&b'\n');
                // A stack may be longer than what was read.
                !whole || weight.is_some_and(|weight| weight.parse::<u64>().is_ok())
            }),
            Kind::Svg => text().contains(flamegraph::MADE_BY),
            Kind::Png => beginning.starts_with(b"\x89PNG\r\n\x1a\n"),
            Kind::Json => beginning.starts_with(b"{"),
        }
    }
}

/// An open folder. All that follows goes through its descriptor, so that nobody can exchange it
/// between the check and the use.
#[derive(Debug)]
struct Opened {
    fd: OwnedFd,
    /// Of its files, those that are text, sorted.
    names: Vec<String>,
}

impl Opened {
    fn open(path: &Path) -> rustix::io::Result<Opened> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::openat(CWD, path, flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd)? {
            names.extend(entry?.file_name().to_str().map(str::to_owned));
        }
        names.sort();
        Ok(Opened { fd, names })
    }
}

/// A name in an open folder.
#[derive(Debug)]
struct Place {
    folder: Rc<Opened>,
    name: OsString,
    path: PathBuf,
}

impl Place {
    /// Whether the file is what `kind` says; why not.
    fn check(&self, kind: Kind) -> std::result::Result<(), String> {
        // A pipe without a writer must not keep us waiting, a link not lead away.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match fs::openat(&self.folder.fd, &self.name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::LOOP) => return Err("it is a link".to_owned()),
            Err(errno) => return Err(std::io::Error::from(errno).to_string()),
        };
        match folder::beginning_of(file) {
            None => Err("it is not a plain file".to_owned()),
            Some(beginning) if kind.begins(&beginning) => Ok(()),
            Some(_) => Err(match kind {
                Kind::Dat | Kind::Capture => "its content is not a recording's".to_owned(),
                _ => "its content is not of a run's file of this name".to_owned(),
            }),
        }
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn missing(path: &Path, errno: Errno) -> Error {
    Error::failed(
        format!("cannot remove {}", path.display()),
        std::io::Error::from(errno),
        "memprof-ebpf list",
    )
}

fn not_one(path: &Path, why: &str) -> Error {
    Error::failed(
        format!("{} is not removed", path.display()),
        why,
        format!(
            "memprof-ebpf list; if you mean it: rm {}",
            escape::shell(path)
        ),
    )
    .with_exit(Exit::Failed)
}
