//! What reader and writer of a capture agree on.

use serde::{Deserialize, Serialize};

use crate::model::{Metric, Profile};

/// The first bytes of every capture. As in PNG, a byte that is not text and a line end in both
/// styles: a file spoiled by a transfer as text is told from a damaged one.
pub const MAGIC: [u8; 12] = *b"\x89memprof\r\n\x1a\n";

/// Raised when older readers could not make sense of the file any more: they refuse a version
/// above theirs. What they may pass over (a section, a field) does not raise it.
///
/// 2: owners may have a cause that version 1 does not know.
pub const VERSION: u32 = 2;

/// The oldest version that is read. What it lacks reads as empty or not known.
pub const OLDEST_VERSION: u32 = 1;

/// Tag, length of the payload, checksum of tag, length and payload.
pub const SECTION_HEADER_BYTES: usize = 12;

/// No writer makes a longer section (rows are written in portions), so a longer one is damage.
pub const MAX_SECTION_BYTES: u32 = 64 << 20;

/// Rows in one section. A few hundred KiB each: what is lost to a cut is at most that.
pub const ROWS_A_SECTION: usize = 4096;

/// The kinds of sections, in their order in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// [`Head`].
    Head,
    /// The loss counters: small, and without them the rest would claim that nothing was lost.
    Loss,
    /// Rows of `Profile::processes`.
    Processes,
    /// Rows of `Profile::functions`.
    Functions,
    /// Rows of `Profile::frames`.
    Frames,
    /// Rows of `Profile::natives`. Since version 2.
    Natives,
    /// Rows of `Profile::stacks`.
    Stacks,
    /// Rows of `Profile::files`. Since version 2.
    Files,
    /// Rows of `Profile::owners`.
    Owners,
    /// Rows of `Profile::samples`.
    Samples,
    /// Rows of `Profile::shares`. Since version 2.
    Shares,
    /// Rows of `Profile::marked`.
    Marked,
    /// Rows of `Profile::marks`.
    Marks,
    /// Nothing follows: the file is whole.
    End,
}

impl Tag {
    /// Every tag, in the order of the file.
    pub const ALL: [Tag; 14] = [
        Tag::Head,
        Tag::Loss,
        Tag::Processes,
        Tag::Functions,
        Tag::Frames,
        Tag::Natives,
        Tag::Stacks,
        Tag::Files,
        Tag::Owners,
        Tag::Samples,
        Tag::Shares,
        Tag::Marked,
        Tag::Marks,
        Tag::End,
    ];

    /// The four bytes in the file.
    pub const fn bytes(self) -> [u8; 4] {
        match self {
            Tag::Head => *b"HEAD",
            Tag::Loss => *b"LOSS",
            Tag::Processes => *b"PROC",
            Tag::Functions => *b"FUNC",
            Tag::Frames => *b"FRAM",
            Tag::Natives => *b"NATV",
            Tag::Stacks => *b"STAK",
            Tag::Files => *b"FILE",
            Tag::Owners => *b"OWNR",
            Tag::Samples => *b"SMPL",
            Tag::Shares => *b"SHAR",
            Tag::Marked => *b"MRKD",
            Tag::Marks => *b"MARK",
            Tag::End => *b"END.",
        }
    }

    /// What it holds, for a message.
    pub const fn name(self) -> &'static str {
        match self {
            Tag::Head => "command and times",
            Tag::Loss => "loss counters",
            Tag::Processes => "processes",
            Tag::Functions => "functions",
            Tag::Frames => "frames",
            Tag::Natives => "native code",
            Tag::Stacks => "stacks",
            Tag::Files => "files",
            Tag::Owners => "owners",
            Tag::Samples => "RSS over time",
            Tag::Shares => "PSS and USS over time",
            Tag::Marked => "marked functions",
            Tag::Marks => "function marks",
            Tag::End => "end mark",
        }
    }
}

/// The profile's single values.
#[derive(Debug, Serialize, Deserialize)]
pub struct Head {
    /// `Profile::command`
    pub command: String,
    /// `Profile::started_epoch_s`
    pub started_epoch_s: f64,
    /// `Profile::duration_s`
    pub duration_s: f64,
    /// `Profile::metric`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<Metric>,
    /// The program that wrote the file, for a report of a fault.
    pub written_by: String,
}

impl Head {
    /// The head of `profile`.
    pub fn of(profile: &Profile) -> Head {
        Head {
            command: profile.command.clone(),
            started_epoch_s: profile.started_epoch_s,
            duration_s: profile.duration_s,
            metric: profile.metric,
            written_by: concat!("memprof-ebpf ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// The checksum of a section.
pub fn checksum(tag: [u8; 4], length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&tag);
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}
