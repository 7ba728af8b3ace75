//! A code object read from memory, for those that the kernel side could not send whole.
//!
//! Only what is still there can be read, and an address may have found a new owner meanwhile:
//! the result is checked to be a code object, and whoever completes a known one compares them.

use memprof_common::PythonLayout;
use memprof_common::records::{FILENAME_BYTES, Header, NAME_BYTES, Text};

use super::symbolize::FallbackReader;
use crate::decode::{CodeObject, text};
use crate::target::{ProcessMemory, ReadMemory};

/// Longest line table that is read: a module of some 200 000 lines.
const LINETABLE_BYTES: u64 = 4 << 20;

/// Reads the code object at `address`; None when what is there cannot be one.
pub fn read(memory: &impl ReadMemory, layout: &PythonLayout, address: u64) -> Option<CodeObject> {
    let code = memory.bytes(address, layout.code_bytes.into())?;
    let first_line = i32::from_ne_bytes(field(&code, layout.code_firstlineno)?);
    let co_flags = u32::from_ne_bytes(field(&code, layout.code_flags)?);
    let pointer = |offset| Some(u64::from_ne_bytes(field(&code, offset)?));
    let table = pointer(layout.code_linetable)?;
    let linetable_len = memory
        .word(table.wrapping_add(layout.bytes_size.into()))
        .filter(|&len| len <= LINETABLE_BYTES)?;
    let linetable_address = table.wrapping_add(layout.bytes_data.into());
    Some(CodeObject {
        header: Header::default(),
        address,
        identity: 0,
        first_line,
        co_flags,
        version: layout.version,
        code_adaptive: layout.code_adaptive.into(),
        linetable_address,
        linetable_len: linetable_len as u32,
        linetable: memory.bytes(linetable_address, linetable_len as usize)?,
        name: Some(string(
            memory,
            layout,
            pointer(layout.code_name)?,
            NAME_BYTES,
        )?),
        filename: string(
            memory,
            layout,
            pointer(layout.code_filename)?,
            FILENAME_BYTES,
        ),
    })
}

fn field<const N: usize>(bytes: &[u8], offset: u16) -> Option<[u8; N]> {
    let offset = usize::from(offset);
    bytes.get(offset..offset + N)?.try_into().ok()
}

/// A compact `str`, cut to `limit` bytes. None: another object, or a legacy string, which no
/// code object has.
pub(super) fn string(
    memory: &impl ReadMemory,
    layout: &PythonLayout,
    address: u64,
    limit: usize,
) -> Option<String> {
    let length = memory.word(address.wrapping_add(layout.unicode_length.into()))?;
    let state = memory.word(address.wrapping_add(layout.unicode_state.into()))? as u32;
    // PyASCIIObject.state: kind in bits 2–4, compact in bit 5, ascii in bit 6.
    let (kind, is_compact, is_ascii) = ((state >> 2) & 7, state & 0x20 != 0, state & 0x40 != 0);
    if !is_compact || !matches!(kind, 1 | 2 | 4) {
        return None;
    }
    let data = match is_ascii {
        true => layout.unicode_ascii_data,
        false => layout.unicode_compact_data,
    };
    let stored = length.checked_mul(kind.into())?.min(limit as u64);
    let bytes = memory.bytes(address.wrapping_add(data.into()), stored as usize)?;
    let head = Text {
        length: u32::try_from(length).ok()?,
        stored: stored as u16,
        width: kind as u16,
    };
    text(head, &bytes)
}

/// Reads code objects from the live processes.
#[derive(Clone, Copy, Debug, Default)]
pub struct LiveCode;

impl FallbackReader for LiveCode {
    fn code_object(&mut self, pid: u32, layout: &PythonLayout, address: u64) -> Option<CodeObject> {
        read(&ProcessMemory::new(pid), layout, address)
    }
}
