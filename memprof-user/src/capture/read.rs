//! Capture → profile. A file may be cut, damaged or hostile: what is whole before the first fault
//! is used, and the fault is told.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use serde::de::DeserializeOwned;

use super::format::{
    Head, MAGIC, MAX_SECTION_BYTES, OLDEST_VERSION, SECTION_HEADER_BYTES, Tag, VERSION, checksum,
};
use super::validate;
use crate::model::Profile;
use crate::sink::escape;
use crate::{Error, Exit, Result};

/// What a capture file held.
#[derive(Clone, Debug)]
pub struct Capture {
    /// The profile, as far as the file was whole. Every index in it is in range.
    pub profile: Profile,
    /// Set when the file was not whole: to be shown as a warning.
    pub damage: Option<Damage>,
}

/// Where and why reading ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Offset of the section that could not be used.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
    /// What is missing from the profile, from here on in part or as a whole.
    pub missing: Vec<&'static str>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the capture is damaged at byte {}: {}",
            self.offset, self.what
        )?;
        if self.missing.is_empty() {
            write!(f, "; all of the result before it was read")
        } else {
            write!(
                f,
                "; missing, in part or as a whole: {}",
                self.missing.join(", ")
            )
        }
    }
}

/// Reads the capture at `path`.
pub fn open(path: &Path) -> Result<Capture> {
    let shown = path.display();
    let file = File::open(path).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "ls *.memprof".to_owned(),
            _ => format!("ls -l {}", escape::shell(path)),
        };
        Error::failed(format!("cannot open {shown}"), error, hint)
    })?;
    read(BufReader::new(file)).map_err(|mut error| {
        error.error = format!("cannot read {shown}: {}", error.error);
        error
    })
}

/// Reads a capture.
pub fn read(mut input: impl Read) -> Result<Capture> {
    header(&mut input)?;
    let mut reader = Reader {
        input,
        offset: (MAGIC.len() + size_of_val(&VERSION)) as u64,
        profile: Profile::default(),
        has_head: false,
        last: Tag::Head,
    };
    let stop = reader.sections();
    let damage = match stop {
        Stop::End => None,
        Stop::Io(error) => return Err(unreadable(error)),
        Stop::Damage(what) => Some(reader.damage(what)),
    };
    if !reader.has_head {
        return Err(nothing_whole(damage));
    }
    let mut profile = reader.profile;
    validate::validate(&profile).map_err(inconsistent)?;
    if damage.is_some() {
        // Goes with the profile into every output: a warning on stderr is soon forgotten.
        profile
            .loss
            .other
            .push(("capture file damaged".to_owned(), 1));
    }
    Ok(Capture { profile, damage })
}

fn header(input: &mut impl Read) -> Result<()> {
    let mut bytes = Vec::new();
    let length = MAGIC.len() + size_of_val(&VERSION);
    let taken = input.by_ref().take(length as u64).read_to_end(&mut bytes);
    taken.map_err(unreadable)?;
    let Some((magic, version)) = bytes.split_at_checked(MAGIC.len()) else {
        return Err(not_a_capture("it is too short"));
    };
    if magic != MAGIC {
        return Err(not_a_capture("it does not begin as a capture does"));
    }
    let Ok(version) = version.try_into().map(u32::from_le_bytes) else {
        return Err(not_a_capture("it is cut inside its header"));
    };
    if !(OLDEST_VERSION..=VERSION).contains(&version) {
        return Err(Error::failed(
            format!("unknown version {version} of the capture format"),
            format!("this memprof-ebpf reads versions {OLDEST_VERSION} to {VERSION}"),
            "read it with the memprof-ebpf that wrote it, or trace again",
        )
        .with_exit(Exit::Failed));
    }
    Ok(())
}

/// Why the sections ended.
enum Stop {
    End,
    Io(io::Error),
    Damage(String),
}

struct Reader<R> {
    input: R,
    /// Where the section that is read begins.
    offset: u64,
    profile: Profile,
    has_head: bool,
    /// The kind of the last whole section.
    last: Tag,
}

impl<R: Read> Reader<R> {
    fn sections(&mut self) -> Stop {
        loop {
            let (tag, payload) = match self.section() {
                Ok(section) => section,
                Err(stop) => return stop,
            };
            // A tag of a later writer is passed over: it cannot matter to this version's views.
            if let Some(tag) = Tag::ALL.into_iter().find(|known| known.bytes() == tag) {
                if tag == Tag::End {
                    return self.end();
                }
                if let Err(error) = self.take(tag, &payload) {
                    return Stop::Damage(format!("unreadable {}: {error}", tag.name()));
                }
                self.last = tag;
            }
            self.offset += (SECTION_HEADER_BYTES + payload.len()) as u64;
        }
    }

    fn section(&mut self) -> std::result::Result<([u8; 4], Vec<u8>), Stop> {
        let head = self.bytes(SECTION_HEADER_BYTES as u64)?;
        let word = |at: usize| -> Option<[u8; 4]> { head.get(at..at + 4)?.try_into().ok() };
        let (Some(tag), Some(length), Some(crc)) = (word(0), word(4), word(8)) else {
            return Err(Stop::Damage("the file is cut".to_owned()));
        };
        let length = u32::from_le_bytes(length);
        if length > MAX_SECTION_BYTES {
            return Err(Stop::Damage(format!("a section of {length} bytes")));
        }
        let payload = self.bytes(length.into())?;
        if payload.len() < length as usize {
            return Err(Stop::Damage("the file is cut".to_owned()));
        }
        if checksum(tag, length, &payload) != u32::from_le_bytes(crc) {
            return Err(Stop::Damage("a checksum does not match".to_owned()));
        }
        Ok((tag, payload))
    }

    /// At most `length` bytes; memory grows with what is there, not with what is promised.
    fn bytes(&mut self, length: u64) -> std::result::Result<Vec<u8>, Stop> {
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(length).read_to_end(&mut bytes);
        read.map_err(Stop::Io)?;
        Ok(bytes)
    }

    fn end(&mut self) -> Stop {
        self.last = Tag::End;
        match self.bytes(1) {
            Ok(rest) if rest.is_empty() => Stop::End,
            Ok(_) => Stop::Damage("something follows its end".to_owned()),
            Err(stop) => stop,
        }
    }

    fn take(&mut self, tag: Tag, payload: &[u8]) -> std::result::Result<(), Undecodable> {
        let profile = &mut self.profile;
        match tag {
            Tag::Head => {
                let head: Head = rmp_serde::from_slice(payload)?;
                profile.command = head.command;
                profile.started_epoch_s = head.started_epoch_s;
                profile.duration_s = head.duration_s;
                profile.metric = head.metric;
                self.has_head = true;
            }
            Tag::Loss => profile.loss = rmp_serde::from_slice(payload)?,
            Tag::Processes => append(&mut profile.processes, payload)?,
            Tag::Functions => append(&mut profile.functions, payload)?,
            Tag::Frames => append(&mut profile.frames, payload)?,
            Tag::Natives => append(&mut profile.natives, payload)?,
            Tag::Stacks => append(&mut profile.stacks, payload)?,
            Tag::Files => append(&mut profile.files, payload)?,
            Tag::Owners => append(&mut profile.owners, payload)?,
            Tag::Samples => append(&mut profile.samples, payload)?,
            Tag::Shares => append(&mut profile.shares, payload)?,
            Tag::Marked => append(&mut profile.marked, payload)?,
            Tag::Marks => append(&mut profile.marks, payload)?,
            Tag::End => {}
        }
        Ok(())
    }

    /// The kind that was being read may go on, so it counts as missing in part.
    fn damage(&self, what: String) -> Damage {
        let missing = Tag::ALL
            .into_iter()
            .skip_while(|&tag| tag != self.last)
            .filter(|&tag| !matches!(tag, Tag::Head | Tag::Loss | Tag::End))
            .map(Tag::name);
        Damage {
            offset: self.offset,
            what,
            missing: missing.collect(),
        }
    }
}

type Undecodable = rmp_serde::decode::Error;

fn append<T: DeserializeOwned>(
    rows: &mut Vec<T>,
    payload: &[u8],
) -> std::result::Result<(), Undecodable> {
    rows.append(&mut rmp_serde::from_slice(payload)?);
    Ok(())
}

fn not_a_capture(cause: &str) -> Error {
    Error::failed(
        "not a memprof-ebpf capture",
        cause,
        "give the file that trace or run wrote: memprof-ebpf report BASE.memprof",
    )
}

fn unreadable(error: io::Error) -> Error {
    Error::failed("reading failed", error, "dmesg | tail")
}

fn nothing_whole(damage: Option<Damage>) -> Error {
    let cause = match damage {
        Some(damage) => format!("byte {}: {}", damage.offset, damage.what),
        None => "it has no head".to_owned(),
    };
    Error::failed(
        "nothing in the capture is whole",
        cause,
        "trace again: memprof-ebpf trace -p PID",
    )
}

fn inconsistent(cause: String) -> Error {
    Error::failed(
        "the capture contradicts itself",
        cause,
        "trace again: memprof-ebpf trace -p PID",
    )
}
