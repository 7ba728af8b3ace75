//! The one table of CPython versions: one row a minor version, with every offset that the
//! walk, the symbols and the detection use.
//!
//! Offsets are bytes in an LP64 little-endian build. They were read from the DWARF of CPython
//! 3.10.13, 3.11.7, 3.12.1 and 3.13.0 (tags v3.10.13 …) and are stable within a minor version.
//! The structures are the same on every 64-bit machine; what lies in `_PyRuntime` behind a
//! `pthread_mutex_t` is that of x86-64. From 3.13 on the process carries its own offsets
//! (`_Py_DebugOffsets`): a row then says where each stands, and what the process says wins.

/// Offsets of one version, named `structure_field` after CPython's own names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `_PyRuntimeState._finalizing`
    pub runtime_finalizing: u32,
    /// `_PyRuntimeState.interpreters.head`
    pub runtime_interpreters_head: u32,
    /// `_PyRuntimeState.gilstate.autoTSSkey` (`.autoTSSkey` from 3.12)
    pub runtime_auto_tss_key: u32,
    /// `PyInterpreterState.next`
    pub interpreter_next: u32,
    /// `PyInterpreterState.tstate_head` (`.threads.head` from 3.11)
    pub interpreter_threads_head: u32,
    /// `PyThreadState.next`
    pub tstate_next: u32,
    /// `PyThreadState.frame` / `.cframe` / `.current_frame`
    pub tstate_frame: u32,
    /// `PyThreadState.thread_id`
    pub tstate_thread_id: u32,
    /// `_PyCFrame.current_frame`, where `tstate_frame` leads to a `_PyCFrame`
    pub cframe_current_frame: Option<u32>,
    /// `PyFrameObject.f_code` / `_PyInterpreterFrame.f_code` / `.f_executable`
    pub frame_code: u32,
    /// `f_back` / `previous`
    pub frame_previous: u32,
    /// `f_lasti` / `prev_instr` / `instr_ptr`
    pub frame_instr: u32,
    /// `owner`, where there is one
    pub frame_owner: Option<u32>,
    /// `PyCodeObject.co_firstlineno`
    pub code_firstlineno: u32,
    /// `PyCodeObject.co_flags`
    pub code_flags: u32,
    /// `PyCodeObject.co_filename`
    pub code_filename: u32,
    /// `PyCodeObject.co_qualname`, or `.co_name` where there is none
    pub code_name: u32,
    /// `PyCodeObject.co_linetable`, or `.co_lnotab`
    pub code_linetable: u32,
    /// `PyCodeObject.co_code_adaptive`; None where the frame keeps an offset, not an address
    pub code_adaptive: Option<u32>,
    /// `PyASCIIObject.length`
    pub unicode_length: u32,
    /// `PyASCIIObject.state`
    pub unicode_state: u32,
    /// Size of `PyASCIIObject`: where the characters of an ASCII string begin
    pub unicode_ascii_data: u32,
    /// Size of `PyCompactUnicodeObject`: where those of another string begin
    pub unicode_compact_data: u32,
    /// `PyVarObject.ob_size` of bytes
    pub bytes_size: u32,
    /// `PyBytesObject.ob_sval`
    pub bytes_data: u32,
}

/// A field of [`Offsets`] and its place in `_Py_DebugOffsets`.
pub type DebugField = (usize, fn(&mut Offsets) -> &mut u32);

/// One minor version of CPython 3.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The `N` of 3.N.
    pub minor: u8,
    /// Where things are, unless the process itself says otherwise.
    pub offsets: Offsets,
    /// Where the process says it; empty before 3.13.
    pub debug_offsets: &'static [DebugField],
    /// Frames whose owner is at least this are shims of the interpreter; 255: there are none.
    pub shim_owner: u8,
    /// Frames lie together in the datastack (3.11+), not each in a heap object.
    pub frames_in_datastack: bool,
    /// A specialised call of a class pushes a frame whose code object `__init__` is static data
    /// of the interpreter (`_Py_InitCleanup`, Python/specialize.c of 3.13).
    pub init_shim_in_image: bool,
}

impl Row {
    /// `0xMMmm`, as in `PythonLayout::version`.
    pub const fn version(&self) -> u32 {
        0x0300 | self.minor as u32
    }
}

/// The versions that are supported, oldest first.
pub static VERSIONS: &[Row] = &[PY_3_10, PY_3_11, PY_3_12, PY_3_13];

/// The row of 3.`minor`.
pub fn row(minor: u8) -> Option<&'static Row> {
    VERSIONS.iter().find(|row| row.minor == minor)
}

const PY_3_10: Row = Row {
    minor: 10,
    offsets: Offsets {
        runtime_finalizing: 16,
        runtime_interpreters_head: 32,
        runtime_auto_tss_key: 584,
        interpreter_next: 0,
        interpreter_threads_head: 8,
        tstate_next: 8,
        tstate_frame: 24,
        tstate_thread_id: 176,
        cframe_current_frame: None,
        frame_code: 32,
        frame_previous: 24,
        frame_instr: 96,
        frame_owner: None,
        code_firstlineno: 40,
        code_flags: 36,
        code_filename: 104,
        code_name: 112,
        code_linetable: 120,
        code_adaptive: None,
        unicode_length: 16,
        unicode_state: 32,
        unicode_ascii_data: 48,
        unicode_compact_data: 72,
        bytes_size: 16,
        bytes_data: 32,
    },
    debug_offsets: &[],
    shim_owner: 255,
    frames_in_datastack: false,
    init_shim_in_image: false,
};

const PY_3_11: Row = Row {
    minor: 11,
    offsets: Offsets {
        runtime_finalizing: 24,
        runtime_interpreters_head: 40,
        runtime_auto_tss_key: 592,
        interpreter_next: 0,
        interpreter_threads_head: 16,
        tstate_next: 8,
        tstate_frame: 56,
        tstate_thread_id: 152,
        cframe_current_frame: Some(8),
        frame_code: 32,
        frame_previous: 48,
        frame_instr: 56,
        frame_owner: Some(69),
        code_firstlineno: 72,
        code_flags: 48,
        code_filename: 112,
        code_name: 128,
        code_linetable: 136,
        code_adaptive: Some(184),
        unicode_length: 16,
        unicode_state: 32,
        unicode_ascii_data: 48,
        unicode_compact_data: 72,
        bytes_size: 16,
        bytes_data: 32,
    },
    debug_offsets: &[],
    shim_owner: 255,
    frames_in_datastack: true,
    init_shim_in_image: false,
};

const PY_3_12: Row = Row {
    minor: 12,
    offsets: Offsets {
        runtime_finalizing: 24,
        runtime_interpreters_head: 40,
        runtime_auto_tss_key: 1544,
        interpreter_next: 0,
        interpreter_threads_head: 72,
        tstate_next: 8,
        tstate_frame: 56,
        tstate_thread_id: 136,
        cframe_current_frame: Some(0),
        frame_code: 0,
        frame_previous: 8,
        frame_instr: 56,
        frame_owner: Some(70),
        code_firstlineno: 68,
        code_flags: 48,
        code_filename: 112,
        code_name: 128,
        code_linetable: 136,
        code_adaptive: Some(192),
        unicode_length: 16,
        unicode_state: 32,
        unicode_ascii_data: 40,
        unicode_compact_data: 56,
        bytes_size: 16,
        bytes_data: 32,
    },
    debug_offsets: &[],
    shim_owner: 3,
    frames_in_datastack: true,
    init_shim_in_image: false,
};

const PY_3_13: Row = Row {
    minor: 13,
    offsets: Offsets {
        runtime_finalizing: 608,
        runtime_interpreters_head: 632,
        // Not in `_Py_DebugOffsets`: 3.13.0 and 3.13.18 have it here, `calibrate` checks it.
        runtime_auto_tss_key: 2160,
        interpreter_next: 7264,
        interpreter_threads_head: 7344,
        tstate_next: 8,
        tstate_frame: 72,
        tstate_thread_id: 152,
        cframe_current_frame: None,
        frame_code: 0,
        frame_previous: 8,
        frame_instr: 56,
        frame_owner: Some(70),
        code_firstlineno: 68,
        code_flags: 48,
        code_filename: 112,
        code_name: 128,
        code_linetable: 136,
        code_adaptive: Some(200),
        unicode_length: 16,
        unicode_state: 32,
        unicode_ascii_data: 40,
        unicode_compact_data: 56,
        bytes_size: 16,
        bytes_data: 32,
    },
    debug_offsets: DEBUG_OFFSETS_3_13,
    shim_owner: 3,
    frames_in_datastack: true,
    init_shim_in_image: true,
};

/// Include/internal/pycore_runtime.h of v3.13.0, `struct _Py_DebugOffsets`: position of each
/// field. The order changes with each minor version.
const DEBUG_OFFSETS_3_13: &[DebugField] = &[
    (32, |o| &mut o.runtime_finalizing),
    (40, |o| &mut o.runtime_interpreters_head),
    (64, |o| &mut o.interpreter_next),
    (72, |o| &mut o.interpreter_threads_head),
    (168, |o| &mut o.tstate_next),
    (184, |o| &mut o.tstate_frame),
    (192, |o| &mut o.tstate_thread_id),
    (232, |o| &mut o.frame_previous),
    (240, |o| &mut o.frame_code),
    (248, |o| &mut o.frame_instr),
    (264, |o| o.frame_owner.get_or_insert(0)),
    (280, |o| &mut o.code_filename),
    (296, |o| &mut o.code_name),
    (304, |o| &mut o.code_linetable),
    (312, |o| &mut o.code_firstlineno),
    (344, |o| o.code_adaptive.get_or_insert(0)),
    (520, |o| &mut o.bytes_size),
    (528, |o| &mut o.bytes_data),
    (544, |o| &mut o.unicode_state),
    (552, |o| &mut o.unicode_length),
    (560, |o| &mut o.unicode_ascii_data),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_order_and_found() {
        assert!(VERSIONS.windows(2).all(|w| w[0].minor < w[1].minor));
        for wanted in VERSIONS {
            assert_eq!(row(wanted.minor).unwrap().version(), wanted.version());
        }
        assert_eq!(row(13).unwrap().version(), 0x030d);
        assert!(row(9).is_none() && row(14).is_none());
    }
}
