//! Offsets of a version + addresses of a process → the [`PythonLayout`] that the walk uses.

use memprof_common::PythonLayout;
use memprof_common::layout::thread_source;
use memprof_common::records::CODE_OBJECT_BYTES;
use memprof_common::walk::THREAD_STATE_BYTES;

use super::roots::Roots;
use super::tls_code::TlsCode;
use super::versions::{Offsets, Row, ThreadKey};

/// glibc x86-64: `struct pthread.specific_1stblock` is at 0x310, and the value is the second
/// word of its `struct pthread_key_data` (nptl/descr.h, unchanged since 2.4).
pub const PTHREAD_DATA_GLIBC_X86_64: u32 = 0x310 + 8;

/// `PyThreadState.interp`, in all versions (Include/pystate.h).
pub const TSTATE_INTERP: u32 = 16;

/// Largest frame that is read: the window of the walk ends with at most this much over a page.
const FRAME_BYTES: u32 = 256;

/// Where one process has things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The interpreter's variables.
    pub roots: Roots,
    /// Range of the interpreter's image.
    pub image: (u64, u64),
    /// What the interpreter's code tells of its thread-local variables.
    pub tls: Option<TlsCode>,
}

/// The layout of a process. None when an offset is impossible (they may come from the process).
pub fn layout(row: &Row, offsets: &Offsets, at: Addresses) -> Option<PythonLayout> {
    let o = offsets;
    let interp = match o.interpreter_code_generation {
        Some(_) => TSTATE_INTERP,
        None => o.tstate_frame,
    };
    let status = o.tstate_status.unwrap_or(o.tstate_frame);
    let tstate = span([o.tstate_frame, o.tstate_thread_id, interp, status].map(word));
    let frame_end = [
        word(o.frame_code),
        word(o.frame_previous),
        instr(o),
        (o.frame_owner.unwrap_or(0), 1),
    ];
    let code_end = [
        (o.code_firstlineno, 4),
        (o.code_flags, 4),
        word(o.code_filename),
        word(o.code_name),
        word(o.code_linetable),
    ];
    let (image_start, image_end) = match row.init_shim_in_image {
        true => at.image,
        false => (0, 0),
    };
    let (thread_source, source_address) = thread_source(row, at);
    Some(PythonLayout {
        thread_source,
        version: row.version(),
        source_address,
        current_address: at.roots.current,
        finalizing_address: at.roots.finalizing,
        image_start,
        image_end,
        pthread_data: PTHREAD_DATA_GLIBC_X86_64,
        tstate_start: short(tstate.0)?,
        tstate_len: bound(tstate.1 - tstate.0, THREAD_STATE_BYTES as u32)?,
        tstate_frame: short(o.tstate_frame)?,
        tstate_thread_id: short(o.tstate_thread_id)?,
        has_cframe: o.cframe_current_frame.is_some().into(),
        cframe_current_frame: short(o.cframe_current_frame.unwrap_or(0))?,
        frame_bytes: bound(span(frame_end).1, FRAME_BYTES)?,
        frame_page_mask: if row.frames_in_datastack { 0xfff } else { 0 },
        frame_code: short(o.frame_code)?,
        frame_previous: short(o.frame_previous)?,
        frame_instr: short(o.frame_instr)?,
        frame_instr_unused_bits: if o.code_adaptive.is_some() { 0 } else { 32 },
        frame_owner: short(o.frame_owner.unwrap_or(0))?,
        frame_owner_mask: if o.frame_owner.is_some() { 0xff } else { 0 },
        frame_shim_owner: row.shim_owner.into(),
        code_tag_mask: row.code_tag_mask.into(),
        code_bytes: bound(span(code_end).1, CODE_OBJECT_BYTES as u32)?,
        code_firstlineno: short(o.code_firstlineno)?,
        code_flags: short(o.code_flags)?,
        code_filename: short(o.code_filename)?,
        code_name: short(o.code_name)?,
        code_linetable: short(o.code_linetable)?,
        code_adaptive: short(o.code_adaptive.unwrap_or(0))?,
        unicode_length: short(o.unicode_length)?,
        unicode_state: short(o.unicode_state)?,
        unicode_ascii_data: short(o.unicode_ascii_data)?,
        unicode_compact_data: short(o.unicode_compact_data)?,
        bytes_size: short(o.bytes_size)?,
        bytes_data: short(o.bytes_data)?,
        tstate_status: short(o.tstate_status.unwrap_or(0))?,
        tstate_interp: short(TSTATE_INTERP)?,
        code_generation: short(o.interpreter_code_generation.unwrap_or(0))?,
        code_version: short(o.code_version.unwrap_or(0))?,
        _padding: 0,
    })
}

/// Where the thread state is found, as far as it is known before the process runs.
fn thread_source(row: &Row, at: Addresses) -> (u32, u64) {
    let none = (thread_source::NONE, 0);
    match (row.thread_key, at.roots.thread_key) {
        (ThreadKey::Tls, _) => match at.tls.filter(|tls| tls.from_thread_pointer) {
            Some(tls) => (thread_source::TLS_OFFSET, i64::from(tls.gilstate) as u64),
            None => none,
        },
        (_, 0) => none,
        (ThreadKey::Int, key) => (thread_source::PTHREAD_INT_KEY, key),
        (ThreadKey::Tss, key) => (thread_source::PTHREAD_KEY, key),
    }
}

/// A field of a pointer's size.
fn word(offset: u32) -> (u32, u32) {
    (offset, 8)
}

/// `f_lasti` is an int, the later words are pointers; the walk reads eight bytes of either.
fn instr(offsets: &Offsets) -> (u32, u32) {
    word(offsets.frame_instr)
}

/// First byte and one past the last of these (offset, size) fields, in whole words.
fn span<const N: usize>(fields: [(u32, u32); N]) -> (u32, u32) {
    let start = fields.iter().map(|field| field.0).min().unwrap_or(0) & !7;
    let end = fields.iter().map(|field| field.0 + field.1).max();
    (start, (end.unwrap_or(0) + 7) & !7)
}

fn short(offset: u32) -> Option<u16> {
    u16::try_from(offset)
        .ok()
        .filter(|&offset| offset != u16::MAX)
}

fn bound(bytes: u32, limit: u32) -> Option<u16> {
    short(bytes).filter(|_| bytes <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::versions::{VERSIONS, row};

    #[test]
    fn every_row_gives_a_layout_within_the_walk_s_bounds() {
        for row in VERSIONS {
            let at = Addresses {
                roots: Roots::in_runtime(&row.offsets, 0x1000),
                image: (0x1000, 0x2000),
                tls: None,
            };
            let layout = layout(row, &row.offsets, at).unwrap();
            assert_eq!(layout.version, row.version());
            assert!(layout.tstate_len as usize <= THREAD_STATE_BYTES);
            let status = match layout.tstate_status {
                0 => layout.tstate_frame,
                status => status,
            };
            for field in [layout.tstate_frame, layout.tstate_thread_id, status] {
                let end = layout.tstate_start + layout.tstate_len;
                assert!(layout.tstate_start <= field && field + 8 <= end);
            }
            assert_eq!(layout.frame_bytes % 8, 0);
            for field in [layout.frame_code, layout.frame_previous, layout.frame_instr] {
                assert!(field + 8 <= layout.frame_bytes);
            }
            assert!(layout.frame_owner < layout.frame_bytes);
            assert!(layout.code_bytes as usize <= CODE_OBJECT_BYTES);
            assert_eq!(layout.image_end != 0, row.minor >= 13);
        }
    }

    #[test]
    fn impossible_offsets_are_refused() {
        let row = row(13).unwrap();
        for break_one in [
            (|o| o.frame_code = 5000) as fn(&mut Offsets),
            |o| o.tstate_thread_id = 0xffff,
            |o| o.code_name = 1 << 19,
            |o| o.frame_owner = Some(0xfff0),
        ] {
            let mut offsets = row.offsets;
            break_one(&mut offsets);
            assert_eq!(layout(row, &offsets, Addresses::default()), None);
        }
    }
}
