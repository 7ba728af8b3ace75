//! Profile → capture.

use std::io::{self, Write};

use serde::Serialize;

use super::format::{Head, MAGIC, MAX_SECTION_BYTES, ROWS_A_SECTION, Tag, VERSION, checksum};
use crate::model::Profile;

/// Writes `profile` as a capture.
pub fn write(profile: &Profile, mut out: impl Write) -> io::Result<()> {
    out.write_all(&MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    value(&mut out, Tag::Head, &Head::of(profile))?;
    value(&mut out, Tag::Loss, &profile.loss)?;
    rows(&mut out, Tag::Processes, &profile.processes)?;
    rows(&mut out, Tag::Functions, &profile.functions)?;
    rows(&mut out, Tag::Frames, &profile.frames)?;
    rows(&mut out, Tag::Natives, &profile.natives)?;
    rows(&mut out, Tag::Stacks, &profile.stacks)?;
    rows(&mut out, Tag::Files, &profile.files)?;
    rows(&mut out, Tag::Owners, &profile.owners)?;
    rows(&mut out, Tag::Samples, &profile.samples)?;
    rows(&mut out, Tag::Shares, &profile.shares)?;
    rows(&mut out, Tag::Marked, &profile.marked)?;
    rows(&mut out, Tag::Marks, &profile.marks)?;
    section(&mut out, Tag::End, &[])?;
    out.flush()
}

fn value(out: &mut impl Write, tag: Tag, value: &impl Serialize) -> io::Result<()> {
    let payload = rmp_serde::to_vec_named(value).map_err(io::Error::other)?;
    section(out, tag, &payload)
}

fn rows<T: Serialize>(out: &mut impl Write, tag: Tag, rows: &[T]) -> io::Result<()> {
    for portion in rows.chunks(ROWS_A_SECTION) {
        rows_within_bound(out, tag, portion)?;
    }
    Ok(())
}

/// Rows have no bound of their own (a deep stack, a long name): a portion that came out too long
/// is halved.
fn rows_within_bound<T: Serialize>(out: &mut impl Write, tag: Tag, rows: &[T]) -> io::Result<()> {
    let payload = rmp_serde::to_vec_named(rows).map_err(io::Error::other)?;
    if payload.len() > MAX_SECTION_BYTES as usize && rows.len() > 1 {
        let (first, second) = rows.split_at(rows.len() / 2);
        rows_within_bound(out, tag, first)?;
        return rows_within_bound(out, tag, second);
    }
    section(out, tag, &payload)
}

fn section(out: &mut impl Write, tag: Tag, payload: &[u8]) -> io::Result<()> {
    let too_long = || io::Error::other(format!("the {} are too long for a capture", tag.name()));
    let length = u32::try_from(payload.len()).map_err(|_| too_long())?;
    if length > MAX_SECTION_BYTES {
        return Err(too_long());
    }
    out.write_all(&tag.bytes())?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&checksum(tag.bytes(), length, payload).to_le_bytes())?;
    out.write_all(payload)
}
