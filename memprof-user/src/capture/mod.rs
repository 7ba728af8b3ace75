//! The capture file, `BASE.memprof`: a profile on disk, from which every view is made later.
//!
//! A header (magic, version), then sections, each with its tag, its length and a checksum, then
//! an end mark. The most important come first, so that a file cut by a full disk loses the time
//! line before it loses the owners. Payloads are MessagePack with named fields: a later version
//! adds a field or a section without breaking this one.

mod format;
mod read;
mod validate;
mod write;

pub use read::{Capture, Damage, open, read};
pub use write::write;

/// Whether a file that begins so is a capture.
pub fn is_capture(beginning: &[u8]) -> bool {
    beginning.starts_with(&format::MAGIC)
}
