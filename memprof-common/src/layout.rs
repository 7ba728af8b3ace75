//! Where things lie in one CPython process: everything the frame walk needs, as numbers.
//!
//! The user side fills a [`PythonLayout`] in (from its table of versions, or from the process's
//! own `_Py_DebugOffsets`) and hands it to the kernel side, one a process. The kernel side and
//! the tests walk with the same numbers.

/// How the kernel side finds the `PyThreadState` of the running thread.
pub mod thread_source {
    /// The process has no usable layout (yet): nothing is walked.
    pub const NONE: u32 = 0;
    /// `pthread_getspecific(autoTSSkey)`: CPython 3.7–3.14. `source_address` is the address of
    /// the `Py_tss_t`.
    pub const PTHREAD_KEY: u32 = 1;
    /// A word at a fixed offset from the thread pointer (`_Py_tss_gilstate`): CPython 3.15.
    /// `source_address` is that offset, as a two's complement number.
    pub const TLS_OFFSET: u32 = 2;
    /// `pthread_getspecific(autoTLSkey)`: CPython 3.6. `source_address` is the address of an int,
    /// negative before there is a key.
    pub const PTHREAD_INT_KEY: u32 = 3;
    /// The same variable of CPython 3.15 in a library that was opened at run time: each thread has
    /// the library's variables in a block of its own. `source_address` is the library's number
    /// among the modules with thread-local variables in the upper half, and the variable's offset
    /// in the block in the lower.
    pub const TLS_MODULE: u32 = 4;
}

/// Offsets of one CPython process. All in bytes; `0` in `thread_source` means "not usable".
///
/// Names follow CPython's structures. The sources of the numbers stand in the user side's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PythonLayout {
    /// One of [`thread_source`].
    pub thread_source: u32,
    /// `0xMMmm`: major and minor version, e.g. `0x030b` for 3.11.
    pub version: u32,
    /// Meaning depends on [`thread_source`].
    pub source_address: u64,
    /// Address of the pointer to the `PyThreadState` that holds the GIL (3.11 and older); 0 where
    /// there is none. It goes before [`thread_source`] when it is the running thread's: in these
    /// versions a thread that runs a sub-interpreter has its main state in its own storage.
    pub current_address: u64,
    /// Address of the runtime's `_finalizing` pointer; 0 when unknown. Non-NULL there means that
    /// the interpreter is shutting down.
    pub finalizing_address: u64,
    /// Start and end of the mapping that holds the interpreter's own static code objects (the
    /// shim of `__init__` in 3.13+): frames with such a code are not shown. 0, 0 when unused.
    pub image_start: u64,
    /// See [`Self::image_start`].
    pub image_end: u64,
    /// Thread pointer to `pthread_key_data` of key 0 (`data` field), e.g. `0x318` on glibc x86-64.
    pub pthread_data: u32,
    /// First byte of `PyThreadState` that the walk reads, and how many: one read covers the
    /// frame word and `thread_id`. At most [`crate::walk::THREAD_STATE_BYTES`].
    pub tstate_start: u16,
    /// See [`Self::tstate_start`].
    pub tstate_len: u16,
    /// `PyThreadState.frame` / `.cframe` / `.current_frame`.
    pub tstate_frame: u16,
    /// `PyThreadState.thread_id`.
    pub tstate_thread_id: u16,
    /// 1 when `tstate_frame` is a `_PyCFrame *` (3.11, 3.12).
    pub has_cframe: u16,
    /// `_PyCFrame.current_frame`.
    pub cframe_current_frame: u16,
    /// Bytes of a frame that must be readable: the highest field used plus its size, a multiple
    /// of 8.
    pub frame_bytes: u16,
    /// Bits of a frame's address that say where it is in what is read at once. 0xfff: frames lie
    /// together in the datastack and are read a page at a time (3.11+). 0: they are heap objects,
    /// read one by one (3.10 and older). This and the other masks are numbers from outside, not
    /// made of a condition, so that the verifier follows one way through the loop over frames.
    pub frame_page_mask: u16,
    /// `f_code` / `f_executable`.
    pub frame_code: u16,
    /// `f_back` / `previous`.
    pub frame_previous: u16,
    /// `f_lasti` / `prev_instr` / `instr_ptr`.
    pub frame_instr: u16,
    /// Bits above the instruction in its word: 32 where it is an int (`f_lasti`), else 0.
    pub frame_instr_unused_bits: u16,
    /// `owner` (u8).
    pub frame_owner: u16,
    /// 0xff, or 0 where there is no `owner`.
    pub frame_owner_mask: u16,
    /// Owners from this value up are shims of the interpreter (3 in 3.12+; 255: none).
    pub frame_shim_owner: u16,
    /// Bits to clear in the code word (3 for the tagged references of 3.14+).
    pub code_tag_mask: u16,
    /// `PyCodeObject`: bytes to read to cover the fields below, a multiple of 8, at most
    /// [`crate::records::CODE_OBJECT_BYTES`].
    pub code_bytes: u16,
    /// `co_firstlineno` (i32).
    pub code_firstlineno: u16,
    /// `co_flags` (i32).
    pub code_flags: u16,
    /// `co_filename`.
    pub code_filename: u16,
    /// `co_qualname` (3.11+) or `co_name`.
    pub code_name: u16,
    /// `co_linetable` (3.10+) or `co_lnotab`.
    pub code_linetable: u16,
    /// `co_code_adaptive` (3.11+): start of the byte code inside the code object. 0 when the
    /// instruction word already is an offset.
    pub code_adaptive: u16,
    /// `PyASCIIObject.length`.
    pub unicode_length: u16,
    /// `PyASCIIObject.state`.
    pub unicode_state: u16,
    /// Characters of a compact ASCII string.
    pub unicode_ascii_data: u16,
    /// Characters of a compact non-ASCII string.
    pub unicode_compact_data: u16,
    /// `PyBytesObject.ob_size`.
    pub bytes_size: u16,
    /// `PyBytesObject.ob_sval`.
    pub bytes_data: u16,
    /// `PyThreadState._status` (3.12+), or 0 where there is none: see
    /// [`crate::walk::BOUND_GILSTATE`].
    pub tstate_status: u16,
    /// `PyThreadState.interp`; read with the fields above where `code_generation` is used.
    pub tstate_interp: u16,
    /// `PyInterpreterState._code_object_generation` (u64, 3.14+), which changes whenever a code
    /// object dies, or `.func_state.next_version` (u32 and padding, 3.13), which does whenever one
    /// is made; 0 where there is none.
    pub code_generation: u16,
    /// `co_version` (u32, 3.12+): another one for each code object of a process, or 0. 0: the
    /// version has none.
    pub code_version: u16,
    /// Aligns the next.
    pub _padding: u16,
    /// Number of greenlet's extension module among the modules with thread-local variables: index
    /// into a thread's vector of them. 0: the process has none.
    pub greenlet_module: u32,
    /// Where among that module's variables the pointer to the thread's `greenlet::ThreadState` is.
    pub greenlet_offset: u32,
}

const _: () = assert!(size_of::<PythonLayout>() == 128);

impl PythonLayout {
    /// The same layout of a process whose image lies `by` bytes further on. What is no address
    /// in the image stays.
    #[inline(always)]
    pub fn moved(&self, by: u64) -> PythonLayout {
        let mut layout = *self;
        if !matches!(
            layout.thread_source,
            thread_source::TLS_OFFSET | thread_source::TLS_MODULE
        ) {
            layout.source_address = layout.source_address.wrapping_add(by);
        }
        if layout.current_address != 0 {
            layout.current_address = layout.current_address.wrapping_add(by);
        }
        if layout.finalizing_address != 0 {
            layout.finalizing_address = layout.finalizing_address.wrapping_add(by);
        }
        if layout.image_end != 0 {
            layout.image_start = layout.image_start.wrapping_add(by);
            layout.image_end = layout.image_end.wrapping_add(by);
        }
        layout
    }
}
