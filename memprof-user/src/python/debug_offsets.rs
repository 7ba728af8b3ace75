//! `_Py_DebugOffsets`: what a CPython 3.13+ says about its own structures.
//!
//! It is initialised data at the start of `_PyRuntime`, so the file has it as well as the
//! process. Either way it comes from outside: a number that no CPython could have is refused.

use super::versions::{Offsets, Row};

/// Bytes that cover `_Py_DebugOffsets` of every version known (3.15 has 108 fields).
pub const BYTES: usize = 1024;

/// Starts the structure (Include/internal/pycore_runtime.h).
const COOKIE: &[u8; 8] = b"xdebugpy";
/// Position of `version`.
const VERSION: usize = 8;
/// Position of `free_threaded`.
const FREE_THREADED: usize = 16;
/// No structure of CPython is larger; `_PyRuntimeState` has 283 320 bytes in 3.13.0, most of
/// it behind what is used here.
const LARGEST: u64 = 1 << 20;

/// What is read of it, in this order.
pub const FIELDS: [fn(&mut Offsets) -> &mut u32; 22] = [
    |o| &mut o.runtime_finalizing,
    |o| &mut o.runtime_interpreters_head,
    |o| &mut o.interpreter_next,
    |o| &mut o.interpreter_threads_head,
    |o| &mut o.tstate_next,
    |o| &mut o.tstate_frame,
    |o| &mut o.tstate_thread_id,
    |o| o.tstate_status.get_or_insert(0),
    |o| &mut o.frame_previous,
    |o| &mut o.frame_code,
    |o| &mut o.frame_instr,
    |o| o.frame_owner.get_or_insert(0),
    |o| &mut o.code_filename,
    |o| &mut o.code_name,
    |o| &mut o.code_linetable,
    |o| &mut o.code_firstlineno,
    |o| o.code_adaptive.get_or_insert(0),
    |o| &mut o.bytes_size,
    |o| &mut o.bytes_data,
    |o| &mut o.unicode_state,
    |o| &mut o.unicode_length,
    |o| &mut o.unicode_ascii_data,
];

/// Position of `interpreter_state.code_object_generation`, in 3.14 and 3.15.
const CODE_GENERATION: usize = 160;

/// Positions of `interpreter_state.size` and `thread_state.size`, in 3.13.
const SIZES: (usize, usize) = (48, 152);

/// Where each of [`FIELDS`] stands in the structure of one minor version.
pub type Positions = [u16; FIELDS.len()];

/// The fields of a version with their positions.
fn fields(row: &Row) -> impl Iterator<Item = (usize, fn(&mut Offsets) -> &mut u32)> {
    let positions = row.debug_offsets.into_iter().flatten();
    let listed = positions.zip(FIELDS).map(|(&at, field)| (at.into(), field));
    let generation: fn(&mut Offsets) -> &mut u32 =
        |o| o.interpreter_code_generation.get_or_insert(0);
    let says_generation =
        row.offsets.interpreter_code_generation.is_some() && row.interpreter_own_bytes.is_empty();
    listed.chain(says_generation.then_some((CODE_GENERATION, generation)))
}

/// What its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// As `Py_Version`: `0xMMmmpprs`.
    pub version: u32,
    /// A build without the GIL.
    pub free_threaded: bool,
}

/// Reads the head; None when this is no `_Py_DebugOffsets`.
pub fn head(bytes: &[u8]) -> Option<Head> {
    if !bytes.starts_with(COOKIE) {
        return None;
    }
    Some(Head {
        version: u32::try_from(number(bytes, VERSION)?).ok()?,
        free_threaded: number(bytes, FREE_THREADED)? != 0,
    })
}

/// The offsets of a process: the row's, with what the process says instead where it says it.
/// None when it says something impossible.
pub fn offsets(row: &Row, bytes: &[u8]) -> Option<Offsets> {
    let mut offsets = row.offsets;
    for (position, field) in fields(row) {
        let value = number(bytes, position).filter(|&value| value < LARGEST)?;
        *field(&mut offsets) = value as u32;
    }
    if !row.interpreter_own_bytes.is_empty() {
        let (interpreter, thread) = (number(bytes, SIZES.0)?, number(bytes, SIZES.1)?);
        let own_bytes = interpreter.wrapping_sub(thread);
        if !row.interpreter_own_bytes.contains(&own_bytes) {
            offsets.interpreter_code_generation = None;
        }
    }
    // PyCompactUnicodeObject only adds to PyASCIIObject.
    let added = row.offsets.unicode_compact_data - row.offsets.unicode_ascii_data;
    offsets.unicode_compact_data = offsets.unicode_ascii_data + added;
    Some(offsets)
}

fn number(bytes: &[u8], position: usize) -> Option<u64> {
    let bytes = bytes.get(position..position.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::versions::row;

    /// A structure that says of every field what the row says, and of one something else.
    fn structure(row: &Row) -> Vec<u8> {
        let mut bytes = vec![0; BYTES];
        bytes[..8].copy_from_slice(COOKIE);
        bytes[8..12].copy_from_slice(&0x030d_00f0_u32.to_le_bytes());
        let mut offsets = row.offsets;
        for (position, field) in fields(row) {
            let value = u64::from(*field(&mut offsets));
            bytes[position..position + 8].copy_from_slice(&value.to_le_bytes());
        }
        let own_bytes = row.interpreter_own_bytes.first().copied().unwrap_or(0);
        let interpreter = (own_bytes + 304).to_le_bytes();
        bytes[SIZES.0..SIZES.0 + 8].copy_from_slice(&interpreter);
        bytes[SIZES.1..SIZES.1 + 8].copy_from_slice(&304_u64.to_le_bytes());
        bytes
    }

    #[test]
    fn what_the_process_says_wins() {
        let row = row(13).unwrap();
        let mut bytes = structure(row);
        assert_eq!(offsets(row, &bytes), Some(row.offsets));
        bytes[192] = 160; // tstate_thread_id
        bytes[560] = 48; // unicode_ascii_data
        let read = offsets(row, &bytes).unwrap();
        assert_eq!(read.tstate_thread_id, 160);
        assert_eq!(
            (read.unicode_ascii_data, read.unicode_compact_data),
            (48, 64)
        );
    }

    #[test]
    fn a_build_of_another_size_has_its_counter_elsewhere() {
        let row = row(13).unwrap();
        let mut bytes = structure(row);
        let counter = |bytes: &[u8]| offsets(row, bytes).unwrap().interpreter_code_generation;
        assert_eq!(counter(&bytes), Some(17000));
        bytes[SIZES.0] += 16;
        assert_eq!(counter(&bytes), None);
    }

    #[test]
    fn the_head_tells_the_build() {
        let mut bytes = structure(row(13).unwrap());
        let want = |free_threaded| {
            Some(Head {
                version: 0x030d_00f0,
                free_threaded,
            })
        };
        assert_eq!(head(&bytes), want(false));
        bytes[16] = 1;
        assert_eq!(head(&bytes), want(true));
        bytes[0] = 0;
        assert_eq!(head(&bytes), None);
        assert_eq!(head(b"xdebugpy"), None);
    }

    #[test]
    fn impossible_and_cut_structures_are_refused() {
        let row = row(13).unwrap();
        let mut bytes = structure(row);
        assert_eq!(offsets(row, &bytes[..300]), None);
        bytes[40 + 7] = 0x80;
        assert_eq!(offsets(row, &bytes), None);
    }
}
