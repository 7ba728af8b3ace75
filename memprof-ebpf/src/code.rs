//! Reads a code object (name, file, line table) while its process still lives, so that a worker
//! of 50 ms has names. Only for code objects of stacks seen for the first time.

use memprof_common::{
    PythonLayout,
    records::{CODE_OBJECT_BYTES, Code, Header, LINETABLE_BYTES, Text, kind},
    walk,
};

use crate::{
    emit,
    maps::{CodeKey, WithTail},
    memory::{Buffer, read_user, user_word},
};

/// The fields of a code object, as bytes.
pub type Object = Buffer<CODE_OBJECT_BYTES>;

/// Room for a [`Code`] record.
pub type Record = WithTail<Code, u8, LINETABLE_BYTES>;

/// Reads a code object and mixes what identifies it as far as one read tells: where its name,
/// its file's name and its line table are.
#[inline(always)]
pub fn read(layout: &PythonLayout, object: &mut Object, address: u64) -> Option<u64> {
    if !object.fill(address, layout.code_bytes as u32) {
        return None;
    }
    let mut hash = walk::mix(0, object.word(layout.code_name as u32));
    hash = walk::mix(hash, object.word(layout.code_filename as u32));
    hash = walk::mix(hash, object.word(layout.code_linetable as u32));
    hash = walk::mix(hash, object.int(layout.code_firstlineno as u32) as u64);
    if layout.code_version != 0 {
        hash = walk::mix(hash, object.int(layout.code_version as u32) as u64);
    }
    Some(walk::finish(hash))
}

/// What identifies the code object that [`read`] left in `object`, with the names themselves: a
/// new name may stand where an old one was.
#[inline(always)]
pub fn identity(layout: &PythonLayout, object: &Object, by_one_read: u64) -> u64 {
    // PyASCIIObject.hash stands behind the length; names of code objects are interned, so that
    // it is there.
    let at = layout.unicode_length as u64 + 8;
    let name = object.word(layout.code_name as u32);
    let filename = object.word(layout.code_filename as u32);
    let hash = walk::mix(by_one_read, user_word(name.wrapping_add(at)));
    walk::finish(walk::mix(hash, user_word(filename.wrapping_add(at))))
}

/// Reads a `str` of at most `CAPACITY` bytes into `buffer`.
#[inline(always)]
fn read_text<const CAPACITY: usize>(
    layout: &PythonLayout,
    object: u64,
    buffer: &mut [u8; CAPACITY],
) -> Text {
    let length = user_word(object.wrapping_add(layout.unicode_length as u64));
    let state = user_word(object.wrapping_add(layout.unicode_state as u64)) as u32;
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
    let bytes = at_most(length * width as u64, CAPACITY as u32);
    if read_user(buffer, bytes, object.wrapping_add(data as u64)) {
        text.stored = bytes as u16;
        text.width = width as u16;
    }
    text
}

/// A length of the target, cut to what there is room for.
#[inline(always)]
fn at_most(length: u64, most: u32) -> u32 {
    if length < most as u64 {
        length as u32
    } else {
        most
    }
}

/// Sends the code object that [`read`] left in `object`.
#[inline(always)]
pub fn send(
    layout: &PythonLayout,
    object: &Object,
    record: &mut Record,
    key: CodeKey,
    tid: u32,
    identity: u64,
) -> bool {
    let linetable = object.word(layout.code_linetable as u32);
    let size = user_word(linetable.wrapping_add(layout.bytes_size as u64));
    let from = linetable.wrapping_add(layout.bytes_data as u64);
    let mut stored = at_most(size, LINETABLE_BYTES as u32);
    if !read_user(&mut record.tail, stored, from) {
        stored = 0;
    }
    let code = &mut record.head;
    code.header = Header {
        kind: kind::CODE,
        op: 0,
        pid: key.pid,
        tid,
        flags: 0,
        time_ns: emit::now(),
    };
    code.address = key.address;
    code.identity = identity;
    code.first_line = object.int(layout.code_firstlineno as u32) as i32;
    code.co_flags = object.int(layout.code_flags as u32);
    code.version = layout.version;
    code.linetable_len = size as u32;
    code.linetable_stored = stored;
    code.code_adaptive = layout.code_adaptive as u32;
    code.linetable_address = from;
    let name = object.word(layout.code_name as u32);
    code.name = read_text(layout, name, &mut code.name_data);
    let filename = object.word(layout.code_filename as u32);
    code.filename = read_text(layout, filename, &mut code.filename_data);
    emit::with_tail(record, stored)
}

/// True when the code object just sent comes from no file (`<string>`, `<template>`): such ones
/// come and go. Not so the frozen modules, and the `__init__` and `__eq__` of data classes.
#[inline(always)]
pub fn is_made_at_run_time(record: &Record) -> bool {
    let (file, name) = (&record.head.filename_data, &record.head.name_data);
    let is_frozen = file[1] == b'f' && file[2] == b'r';
    let is_special = name[0] == b'_' && name[1] == b'_';
    file[0] == b'<' && !is_frozen && !is_special
}
