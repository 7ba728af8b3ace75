//! Reads a code object (name, file, line table) while its process still lives, so that a worker
//! of 50 ms has names. Only for code objects of stacks seen for the first time.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use memprof_common::{
    PythonLayout,
    records::{
        CODE_OBJECT_BYTES, Code, FILENAME_BYTES, Header, LINETABLE_BYTES, NAME_BYTES, Text, kind,
    },
    walk,
};

use crate::{emit, maps::Scratch};

/// A word of the code object in scratch.
#[inline(always)]
fn word(scratch: *const Scratch, offset: u16) -> u64 {
    let object = unsafe { (&raw const (*scratch).code_object).cast::<u8>() };
    unsafe {
        *object
            .add(offset as usize & (CODE_OBJECT_BYTES - 8))
            .cast::<u64>()
    }
}

/// An int of the code object in scratch.
#[inline(always)]
fn int(scratch: *const Scratch, offset: u16) -> u32 {
    let object = unsafe { (&raw const (*scratch).code_object).cast::<u8>() };
    unsafe {
        *object
            .add(offset as usize & (CODE_OBJECT_BYTES - 4))
            .cast::<u32>()
    }
}

/// Reads the code object into scratch and mixes what identifies it.
#[inline(always)]
pub fn read(layout: &PythonLayout, scratch: *mut Scratch, address: u64) -> Option<u64> {
    let len = layout.code_bytes as usize & (2 * CODE_OBJECT_BYTES - 1);
    if len > CODE_OBJECT_BYTES {
        return None;
    }
    let buffer = unsafe { (&raw mut (*scratch).code_object).cast() };
    if unsafe { bpf_probe_read_user(buffer, len as u32, address as *const _) } != 0 {
        return None;
    }
    let mut hash = walk::mix(0, word(scratch, layout.code_name));
    hash = walk::mix(hash, word(scratch, layout.code_filename));
    hash = walk::mix(hash, word(scratch, layout.code_linetable));
    hash = walk::mix(hash, int(scratch, layout.code_firstlineno) as u64);
    Some(walk::finish(hash))
}

/// Reads one word of the target; 0 when it cannot.
#[inline(always)]
fn target_word(address: u64) -> u64 {
    let mut value = 0u64;
    unsafe { bpf_probe_read_user((&raw mut value).cast(), 8, address as *const _) };
    value
}

/// Reads a `str` of at most `CAPACITY` bytes into `buffer`.
#[inline(always)]
fn read_text<const CAPACITY: usize>(layout: &PythonLayout, object: u64, buffer: *mut u8) -> Text {
    let length = target_word(object.wrapping_add(layout.unicode_length as u64));
    let state = target_word(object.wrapping_add(layout.unicode_state as u64)) as u32;
    // PyASCIIObject.state of builds with the GIL: kind in bits 2-4, compact 5, ascii 6
    // (Include/cpython/unicodeobject.h). A str that is not compact has its data elsewhere; no
    // compiler output is one.
    let width = (state >> 2) & 7;
    let mut text = Text {
        length: length as u32,
        stored: 0,
        width: 0,
    };
    if state & (1 << 5) == 0 || length > u32::MAX as u64 {
        return text;
    }
    let data = if state & (1 << 6) != 0 {
        layout.unicode_ascii_data
    } else {
        layout.unicode_compact_data
    };
    let wanted = length * width as u64;
    let mut bytes = CAPACITY as u64;
    if wanted < bytes {
        bytes = wanted;
    }
    // The mask is for the verifier: bytes is at most CAPACITY, a power of two.
    let bytes = bytes & (2 * CAPACITY as u64 - 1);
    if bytes > CAPACITY as u64 {
        return text;
    }
    let from = object.wrapping_add(data as u64);
    if unsafe { bpf_probe_read_user(buffer.cast(), bytes as u32, from as *const _) } == 0 {
        text.stored = bytes as u16;
        text.width = width as u16;
    }
    text
}

/// Sends the code object that [`read`] left in scratch.
#[inline(always)]
pub fn send(
    layout: &PythonLayout,
    scratch: *mut Scratch,
    pid: u32,
    tid: u32,
    address: u64,
    identity: u64,
) -> bool {
    let record = unsafe { &raw mut (*scratch).code };
    unsafe {
        let linetable = word(scratch, layout.code_linetable);
        let size = target_word(linetable.wrapping_add(layout.bytes_size as u64));
        let from = linetable.wrapping_add(layout.bytes_data as u64);
        let mut stored = LINETABLE_BYTES as u64;
        if size < stored {
            stored = size;
        }
        let mut stored = stored & (2 * LINETABLE_BYTES as u64 - 1);
        if stored > LINETABLE_BYTES as u64 {
            return false;
        }
        let table = (&raw mut (*scratch).linetable).cast();
        if bpf_probe_read_user(table, stored as u32, from as *const _) != 0 {
            stored = 0;
        }
        (*record).header = Header {
            kind: kind::CODE,
            op: 0,
            pid,
            tid,
            flags: 0,
            time_ns: emit::now(),
        };
        (*record).address = address;
        (*record).identity = identity;
        (*record).first_line = int(scratch, layout.code_firstlineno) as i32;
        (*record).co_flags = int(scratch, layout.code_flags);
        (*record).version = layout.version;
        (*record).linetable_len = size as u32;
        (*record).linetable_stored = stored as u32;
        (*record).code_adaptive = layout.code_adaptive as u32;
        (*record).linetable_address = from;
        (*record).name = read_text::<NAME_BYTES>(
            layout,
            word(scratch, layout.code_name),
            (&raw mut (*record).name_data).cast(),
        );
        (*record).filename = read_text::<FILENAME_BYTES>(
            layout,
            word(scratch, layout.code_filename),
            (&raw mut (*record).filename_data).cast(),
        );
        let stored = (*record).linetable_stored as usize & (2 * LINETABLE_BYTES - 1);
        if stored > LINETABLE_BYTES {
            return false;
        }
        emit::bytes(core::slice::from_raw_parts(
            record.cast::<u8>(),
            size_of::<Code>() + stored,
        ))
    }
}
