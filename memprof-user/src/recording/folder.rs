//! Recordings that lie in a folder: which there are, in mprof's order and with mprof's numbers,
//! and which of them a user means.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::is_dat;
use crate::sink::escape;
use crate::{Error, Exit, Result};

/// Characters between `mprofile_` and `.dat`: year, month, day, hour, minute, second.
pub const STAMP_CHARS: usize = 14;

/// Bytes of a file that are looked at to tell what it is.
const BEGINNING_BYTES: u64 = 4096;

/// Files with names of their own that are looked into: a folder may hold thousands.
const MAX_LOOKS: usize = 256;

/// What lies in one folder.
#[derive(Clone, Debug, Default)]
pub struct Folder {
    path: PathBuf,
    /// Names like `mprofile_YYYYMMDDhhmmss.dat`, sorted, as mprof numbers them from 0.
    recordings: Vec<String>,
    /// Captures that have such a name but for their ending, sorted. (Those of a trigger have more
    /// in theirs.)
    captures: Vec<String>,
    /// Other recordings, sorted: `-o` gave them names of their own.
    others: Vec<String>,
}

impl Folder {
    /// Looks into the working directory.
    pub fn here() -> Result<Folder> {
        Folder::read(Path::new("."))
    }

    /// Looks into a folder.
    pub fn read(path: &Path) -> Result<Folder> {
        let failed = |error| {
            Error::failed(
                format!("cannot look into {}", path.display()),
                error,
                format!("ls -ld {}", escape::shell(path)),
            )
        };
        let mut folder = Folder {
            path: path.to_owned(),
            ..Folder::default()
        };
        let mut candidates = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)? {
            // A name that is not text cannot be one of ours.
            let Ok(name) = entry.map_err(failed)?.file_name().into_string() else {
                continue;
            };
            if is_default(&name, ".memprof") {
                folder.captures.push(name);
            } else if is_default(&name, ".dat") {
                folder.recordings.push(name);
            } else if name.ends_with(".dat") {
                candidates.push(name);
            }
        }
        folder.recordings.sort();
        folder.captures.sort();
        candidates.sort();
        let looked = candidates.into_iter().take(MAX_LOOKS);
        let holds = |name: &String| beginning(&path.join(name)).is_some_and(|start| is_dat(&start));
        folder.others = looked.filter(holds).collect();
        Ok(folder)
    }

    /// Names with mprof's numbers: their places.
    pub fn recordings(&self) -> &[String] {
        &self.recordings
    }

    /// One sentence on recordings that mprof's verbs do not see, when there are any.
    pub fn note_on_others(&self, verb: &str) -> Option<String> {
        let (first, rest) = self.others.split_first()?;
        let names = match rest.len() {
            0 => format!("{first} has a name of its own"),
            more => format!("{first} and {more} more have names of their own"),
        };
        let note = format!("{names}: {}", command(verb, first));
        Some(escape::terminal(&note).into_owned())
    }

    /// The recordings that are meant for `verb` to look at: files, or else numbers (below zero,
    /// from the end), each once; without any, the last by name. What was chosen without being
    /// asked is told on stderr.
    pub fn select(&self, wanted: &[PathBuf], verb: &str) -> Result<Vec<PathBuf>> {
        if wanted.is_empty() {
            let Some(last) = self.recordings.last() else {
                return Err(self.nothing_here(verb));
            };
            eprintln!("Using last profile data: {}", escape::terminal(last));
            if let Some(note) = self.note_on_others(verb) {
                eprintln!("note: {note}");
            }
            return Ok(vec![self.path_of(last)]);
        }
        let mut selected = Vec::new();
        for word in wanted {
            let path = match (word.exists(), number(word)) {
                (false, Some(number)) => self.numbered(number)?,
                // That it is missing is for the one who opens it to say.
                _ => word.clone(),
            };
            if !selected.contains(&path) {
                selected.push(path);
            }
        }
        Ok(selected)
    }

    /// The capture that is meant when none is named: the last by name.
    pub fn last_capture(&self) -> Result<PathBuf> {
        let last = self.captures.last().ok_or_else(|| {
            Error::failed(
                "there is no capture here",
                "no file here is named mprofile_YYYYMMDDhhmmss.memprof",
                "name one: ls *.memprof; or make one: sudo memprof-ebpf trace -p PID",
            )
        })?;
        Ok(self.path_of(last))
    }

    /// The recording with this number.
    pub fn numbered(&self, number: i64) -> Result<PathBuf> {
        let count = self.recordings.len() as i64;
        let place = if number < 0 { count + number } else { number };
        let name = usize::try_from(place).ok();
        let name = name.and_then(|place| self.recordings.get(place));
        name.map(|name| self.path_of(name)).ok_or_else(|| {
            let cause = match count {
                0 => "no file here is named mprofile_YYYYMMDDhhmmss.dat".to_owned(),
                1 => "the only one is number 0".to_owned(),
                _ => format!("they are numbered from 0 to {}", count - 1),
            };
            Error::failed(
                format!("there is no recording number {number}"),
                cause,
                "memprof-ebpf list",
            )
            .with_exit(Exit::Usage)
        })
    }

    /// The path of a file of this folder, as a user here would write it.
    pub fn path_of(&self, name: &str) -> PathBuf {
        match self.path.as_os_str() == "." {
            true => PathBuf::from(name),
            false => self.path.join(name),
        }
    }

    fn nothing_here(&self, verb: &str) -> Error {
        let cause = "no file here is named mprofile_YYYYMMDDhhmmss.dat";
        match self.others.first() {
            Some(other) => Error::failed("which recording?", cause, command(verb, other)),
            None => Error::failed(
                "there are no recordings here",
                cause,
                "make one: sudo memprof-ebpf run -- CMD",
            ),
        }
    }
}

fn command(verb: &str, file: &str) -> String {
    format!("memprof-ebpf {verb} {}", escape::shell(file.as_ref()))
}

/// What stands for the time in mprof's default name; None for any other name.
pub fn stamp(name: &str) -> Option<&str> {
    stamp_before(name, ".dat")
}

fn is_default(name: &str, ending: &str) -> bool {
    stamp_before(name, ending).is_some()
}

fn stamp_before<'a>(name: &'a str, ending: &str) -> Option<&'a str> {
    let stamp = name.strip_prefix("mprofile_")?.strip_suffix(ending)?;
    (stamp.chars().count() == STAMP_CHARS).then_some(stamp)
}

/// A word that is a number and no file.
pub fn number(word: &Path) -> Option<i64> {
    word.to_str()?.parse().ok()
}

/// How a file begins. None for what is not a plain file, or cannot be read; a link is followed.
fn beginning(path: &Path) -> Option<Vec<u8>> {
    // A pipe without a writer must not keep us waiting.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    beginning_of(File::from(file))
}

/// How an open file begins. None for what is not a plain file, or cannot be read.
pub(super) fn beginning_of(file: File) -> Option<Vec<u8>> {
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut beginning = Vec::new();
    file.take(BEGINNING_BYTES)
        .read_to_end(&mut beginning)
        .ok()?;
    Some(beginning)
}
