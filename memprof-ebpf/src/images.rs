//! Recognises an interpreter at the moment at which a process maps it, by its file: the user
//! side's own look may come milliseconds after the first Python frame.

use memprof_common::{
    ImageKey, KnownImage, PAGE_BYTES, Process,
    layout::thread_source,
    records::{Header, Interpreter, kind},
};

use crate::{
    emit,
    kernel::{Structure, current, file_of_descriptor, file_of_program, image_key, mm_of, name_of},
    maps::{self, config},
};

#[inline(always)]
fn page(number: u64) -> u64 {
    number & !(PAGE_BYTES - 1)
}

/// Takes over the layout of a process that maps `image` at `base`, and tells the user side.
#[inline(always)]
fn adopt(process: &mut Process, image: &KnownImage, key: ImageKey, base: u64, ids: (u32, u32)) {
    process.layout = image.layout_at(base);
    emit::interpreter(&Interpreter {
        header: Header {
            kind: kind::INTERPRETER,
            op: 0,
            pid: ids.0,
            tid: ids.1,
            flags: 0,
            time_ns: emit::now(),
        },
        key,
        base,
    });
}

/// How the name of greenlet's extension module begins.
const GREENLET: u64 = u64::from_le_bytes(*b"_greenle");

/// A file was mapped executable: `offset` of `descriptor`'s file at `address`. True when the user
/// side has to look at the process: it may be an interpreter, or is greenlet's library.
#[inline(always)]
pub fn wants_a_look(
    process: &mut Process,
    descriptor: u64,
    offset: u64,
    address: u64,
    ids: (u32, u32),
) -> bool {
    let file = file_of_descriptor(current(), descriptor);
    if process.layout.thread_source == thread_source::NONE {
        return !is_known(process, file, offset, address, ids);
    }
    if process.layout.greenlet_module != 0 || name_of(file) != GREENLET {
        return false;
    }
    process.awaits_greenlet = 1;
    true
}

/// True when the file is a known interpreter.
#[inline(always)]
fn is_known(process: &mut Process, file: u64, offset: u64, address: u64, ids: (u32, u32)) -> bool {
    let Some(key) = image_key(file) else {
        return false;
    };
    let Some(image) = maps::known_image(&key) else {
        return false;
    };
    // Of a library's mappings only the code segment tells the base.
    if page(image.code_offset) != offset || image.fixed != 0 {
        return false;
    }
    let base = address.wrapping_sub(page(image.code_address));
    adopt(process, image, key, base, ids);
    true
}

/// A program was executed that the kernel itself has mapped.
#[inline(always)]
pub fn executed(process: &mut Process, task: Structure, ids: (u32, u32)) {
    let mm = mm_of(task);
    let Some(key) = image_key(file_of_program(mm)) else {
        return;
    };
    let Some(image) = maps::known_image(&key) else {
        return;
    };
    let base = if image.fixed != 0 {
        0
    } else {
        // start_code: the lowest executable segment, where it came to lie (fs/binfmt_elf.c).
        let start: u64 = mm.field(config!(mm_start_code) as usize);
        start.wrapping_sub(image.code_address)
    };
    adopt(process, image, key, base, ids);
}
