//! The one table of CPython versions: one row a minor version, with every offset that the
//! walk, the symbols and the detection use.
//!
//! Offsets are bytes in an LP64 little-endian build. They were read from the DWARF of CPython
//! 3.6.15, 3.7.16, 3.8.18, 3.9.18, 3.10.13, 3.11.7, 3.12.1 and 3.13.0 (tags v3.6.15 …), and from
//! the `_Py_DebugOffsets` of Debian's 3.14.10 and 3.15.2; they are stable within a minor version.
//! The structures are the same on every 64-bit machine; what lies in `_PyRuntime` behind a
//! `pthread_mutex_t` is that of x86-64. From 3.13 on the process carries its own offsets: a row
//! then says where each stands (`debug_offsets`), and what the process says wins.

use super::debug_offsets::Positions;

/// Offsets of one version, named `structure_field` after CPython's own names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `_PyRuntimeState._finalizing`. This and the next three are 0 in 3.6, which has no
    /// `_PyRuntime`: see [`super::roots`].
    pub runtime_finalizing: u32,
    /// `_PyRuntimeState.interpreters.head`
    pub runtime_interpreters_head: u32,
    /// `_PyRuntimeState.gilstate.autoTSSkey` (`.autoTSSkey` from 3.12); 0 in 3.15
    pub runtime_auto_tss_key: u32,
    /// `_PyRuntimeState.gilstate.tstate_current`; None from 3.12 on
    pub runtime_tstate_current: Option<u32>,
    /// `PyInterpreterState.next`
    pub interpreter_next: u32,
    /// `PyInterpreterState.tstate_head` (`.threads.head` from 3.11)
    pub interpreter_threads_head: u32,
    /// `PyInterpreterState._code_object_generation` (3.14+), or `.func_state.next_version` (3.13)
    pub interpreter_code_generation: Option<u32>,
    /// `PyThreadState.next`
    pub tstate_next: u32,
    /// `PyThreadState.frame` / `.cframe` / `.current_frame`
    pub tstate_frame: u32,
    /// `PyThreadState.thread_id`
    pub tstate_thread_id: u32,
    /// `PyThreadState._status` (3.12+)
    pub tstate_status: Option<u32>,
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
    /// `PyCodeObject.co_version` (3.12+)
    pub code_version: Option<u32>,
    /// `PyFunctionObject.func_code`
    pub function_code: u32,
    /// `PyFunctionObject.func_qualname`
    pub function_qualname: u32,
    /// `PyFunctionObject.func_module`
    pub function_module: u32,
    /// `PyThreadState.datastack_chunk` (3.11+); `datastack_top` follows
    pub tstate_datastack: Option<u32>,
    /// `PyCodeObject.co_framesize` (3.12+), or `.co_nlocalsplus` (3.11)
    pub code_frame_words: Option<u32>,
    /// `PyCodeObject.co_stacksize`, where it is not in the above (3.11)
    pub code_stack_words: Option<u32>,
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

/// Where the running thread's `PyThreadState` is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadKey {
    /// `pthread_getspecific` of an int (3.6).
    Int,
    /// `pthread_getspecific` of a `Py_tss_t` (3.7–3.14).
    Tss,
    /// The thread-local variable `_Py_tss_gilstate` (3.15).
    Tls,
}

/// One minor version of CPython 3.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The `N` of 3.N.
    pub minor: u8,
    /// Where things are, unless the process itself says otherwise.
    pub offsets: Offsets,
    /// `PyCode_Type.tp_basicsize`: `sizeof(PyCodeObject)`, from 3.11 on without the byte code.
    pub code_basic_size: u32,
    /// Where the process says it, in `_Py_DebugOffsets` (3.13+).
    pub debug_offsets: Option<&'static Positions>,
    /// `interpreter_state.size` less `thread_state.size` of the builds that are known to have
    /// `interpreter_code_generation` where the row says, where the process does not say it.
    pub interpreter_own_bytes: &'static [u64],
    /// How a thread leads to its `PyThreadState`.
    pub thread_key: ThreadKey,
    /// Bits of a code word that are a tag (`_PyStackRef`, 3.14+).
    pub code_tag_mask: u8,
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
pub static VERSIONS: &[Row] = &[
    PY_3_6, PY_3_7, PY_3_8, PY_3_9, PY_3_10, PY_3_11, PY_3_12, PY_3_13, PY_3_14, PY_3_15,
];

/// The row of 3.`minor`.
pub fn row(minor: u8) -> Option<&'static Row> {
    VERSIONS.iter().find(|row| row.minor == minor)
}

const PY_3_6: Row = Row {
    minor: 6,
    offsets: Offsets {
        runtime_finalizing: 0,
        runtime_interpreters_head: 0,
        runtime_auto_tss_key: 0,
        runtime_tstate_current: None,
        interpreter_next: 0,
        interpreter_threads_head: 8,
        interpreter_code_generation: None,
        tstate_next: 8,
        tstate_frame: 24,
        tstate_thread_id: 152,
        tstate_status: None,
        cframe_current_frame: None,
        frame_code: 32,
        frame_previous: 24,
        frame_instr: 120,
        frame_owner: None,
        code_firstlineno: 36,
        code_flags: 32,
        code_filename: 96,
        code_name: 104,
        code_linetable: 112,
        code_adaptive: None,
        code_version: None,
        function_code: 16,
        function_qualname: 104,
        function_module: 88,
        tstate_datastack: None,
        code_frame_words: None,
        code_stack_words: None,
        unicode_length: 16,
        unicode_state: 32,
        unicode_ascii_data: 48,
        unicode_compact_data: 72,
        bytes_size: 16,
        bytes_data: 32,
    },
    code_basic_size: 144,
    debug_offsets: None,
    interpreter_own_bytes: &[],
    thread_key: ThreadKey::Int,
    code_tag_mask: 0,
    shim_owner: 255,
    frames_in_datastack: false,
    init_shim_in_image: false,
};

const PY_3_7: Row = Row {
    minor: 7,
    offsets: Offsets {
        runtime_finalizing: 8,
        runtime_interpreters_head: 24,
        // 3.7.4 to 3.7.17; `calibrate` finds those of 3.7.0 to 3.7.3 nearby.
        runtime_auto_tss_key: 1504,
        runtime_tstate_current: Some(1480),
        tstate_thread_id: 176,
        frame_instr: 104,
        ..PY_3_6.offsets
    },
    thread_key: ThreadKey::Tss,
    ..PY_3_6
};

const PY_3_8: Row = Row {
    minor: 8,
    offsets: Offsets {
        runtime_finalizing: 16,
        runtime_interpreters_head: 32,
        runtime_auto_tss_key: 1392,
        runtime_tstate_current: Some(1368),
        code_firstlineno: 40,
        code_flags: 36,
        code_filename: 104,
        code_name: 112,
        code_linetable: 120,
        ..PY_3_7.offsets
    },
    code_basic_size: 176,
    ..PY_3_7
};

const PY_3_9: Row = Row {
    minor: 9,
    offsets: Offsets {
        runtime_auto_tss_key: 584,
        runtime_tstate_current: Some(568),
        ..PY_3_8.offsets
    },
    ..PY_3_8
};

const PY_3_10: Row = Row {
    minor: 10,
    offsets: Offsets {
        frame_instr: 96,
        function_code: 48,
        function_qualname: 40,
        function_module: 104,
        ..PY_3_9.offsets
    },
    ..PY_3_9
};

const PY_3_11: Row = Row {
    minor: 11,
    offsets: Offsets {
        runtime_finalizing: 24,
        runtime_interpreters_head: 40,
        runtime_auto_tss_key: 592,
        runtime_tstate_current: Some(576),
        interpreter_threads_head: 16,
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
        tstate_datastack: Some(296),
        code_frame_words: Some(76),
        code_stack_words: Some(68),
        ..PY_3_10.offsets
    },
    code_basic_size: 184,
    frames_in_datastack: true,
    ..PY_3_10
};

const PY_3_12: Row = Row {
    minor: 12,
    offsets: Offsets {
        runtime_auto_tss_key: 1544,
        runtime_tstate_current: None,
        interpreter_threads_head: 72,
        tstate_thread_id: 136,
        tstate_status: Some(24),
        cframe_current_frame: Some(0),
        frame_code: 0,
        frame_previous: 8,
        frame_owner: Some(70),
        code_firstlineno: 68,
        code_adaptive: Some(192),
        code_version: Some(92),
        tstate_datastack: Some(232),
        code_stack_words: None,
        unicode_ascii_data: 40,
        unicode_compact_data: 56,
        ..PY_3_11.offsets
    },
    code_basic_size: 192,
    shim_owner: 3,
    ..PY_3_11
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
        // From the DWARF of 3.13.0; 3.13.5, 3.13.15 and 3.13.18 have it here too. Each code object
        // takes the number as its `co_version` when it is made, and counts it up.
        interpreter_code_generation: Some(17000),
        tstate_frame: 72,
        tstate_thread_id: 152,
        tstate_status: Some(32),
        cframe_current_frame: None,
        code_adaptive: Some(200),
        ..PY_3_12.offsets
    },
    code_basic_size: 200,
    debug_offsets: Some(&DEBUG_OFFSETS_3_13),
    // 3.13.0; 3.13.5 to 3.13.18. Debug builds have 16 more, and the counter elsewhere.
    interpreter_own_bytes: &[194_664, 194_672],
    init_shim_in_image: true,
    ..PY_3_12
};

const PY_3_14: Row = Row {
    minor: 14,
    offsets: Offsets {
        runtime_finalizing: 784,
        runtime_interpreters_head: 808,
        // As for 3.13; of 3.14.10.
        runtime_auto_tss_key: 2336,
        interpreter_next: 7272,
        interpreter_code_generation: Some(7992),
        frame_owner: Some(74),
        code_adaptive: Some(208),
        ..PY_3_13.offsets
    },
    code_basic_size: 208,
    debug_offsets: Some(&DEBUG_OFFSETS_3_14),
    interpreter_own_bytes: &[],
    code_tag_mask: 3,
    ..PY_3_13
};

const PY_3_15: Row = Row {
    minor: 15,
    offsets: Offsets {
        runtime_finalizing: 912,
        runtime_interpreters_head: 936,
        runtime_auto_tss_key: 0,
        interpreter_next: 7264,
        interpreter_threads_head: 7336,
        interpreter_code_generation: Some(7944),
        tstate_thread_id: 176,
        tstate_datastack: Some(256),
        ..PY_3_14.offsets
    },
    debug_offsets: Some(&DEBUG_OFFSETS_3_15),
    thread_key: ThreadKey::Tls,
    ..PY_3_14
};

/// `struct _Py_DebugOffsets` of Include/internal/pycore_runtime.h (v3.13.0) and
/// Include/internal/pycore_debug_offsets.h (v3.14.0, v3.15.0): position of each of
/// [`debug_offsets::FIELDS`](super::debug_offsets::FIELDS). The order of the structure changes
/// with each minor version.
const DEBUG_OFFSETS_3_13: Positions = [
    32, 40, 64, 72, 168, 184, 192, 216, 232, 240, 248, 264, 280, 296, 304, 312, 344, 520, 528, 544,
    552, 560,
];

/// See [`DEBUG_OFFSETS_3_13`].
const DEBUG_OFFSETS_3_14: Positions = [
    32, 40, 64, 72, 192, 208, 216, 240, 256, 264, 272, 288, 320, 336, 344, 352, 384, 600, 608, 624,
    632, 640,
];

/// See [`DEBUG_OFFSETS_3_13`].
const DEBUG_OFFSETS_3_15: Positions = [
    32, 40, 64, 72, 192, 208, 240, 264, 320, 328, 336, 352, 384, 400, 408, 416, 448, 696, 704, 720,
    728, 736,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_order_and_found() {
        assert!(VERSIONS.windows(2).all(|w| w[0].minor + 1 == w[1].minor));
        for wanted in VERSIONS {
            assert_eq!(row(wanted.minor).unwrap().version(), wanted.version());
        }
        assert_eq!(row(13).unwrap().version(), 0x030d);
        assert!(row(5).is_none() && row(16).is_none());
    }

    #[test]
    fn the_byte_code_begins_where_the_code_object_ends() {
        for row in VERSIONS {
            let size = row.code_basic_size;
            assert_eq!(row.offsets.code_adaptive.unwrap_or(size), size);
        }
    }
}
