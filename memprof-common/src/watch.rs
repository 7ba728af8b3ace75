//! Watched functions: what a write to the reference count of a function's code object means.
//!
//! A frame holds a reference to its code object, so each call writes the count twice: when its
//! frame is made and when that is cleared. A hardware watchpoint stops at both. Others take
//! references too (`f.__code__`, `inspect`); what tells a call from them is the frame.
//!
//! From 3.11 on ([`frames::DATASTACK`]) a call's frame is the last thing on the thread's datastack
//! at both moments, and is not, or no longer, linked into the chain of running frames; whoever
//! else touches the count does so while the innermost frame is linked and ends where the datastack
//! does. Before ([`frames::OBJECTS`]) a frame is an object of its own: the code that makes or
//! frees it has its address in a register.
//!
//! Nothing here trusts the target: addresses are only ever handed to the reader.

use crate::layout::PythonLayout;
use crate::walk::Memory;

/// Functions watched exactly in one process: x86-64 has four debug registers.
pub const WATCHED_FUNCTIONS: usize = 4;

/// Chunks of a datastack, or frames between the innermost one and the datastack's last, that are
/// followed at most.
pub const MAX_STEPS: u32 = 1024;

/// Bits of [`crate::records::Mark::key`] that hold the frame's address. Above them is how deep it
/// lies: of two keys of one lane the greater one is of the inner call.
pub const KEY_ADDRESS: u64 = (1 << 48) - 1;

/// Values of [`WatchOffsets::frames`].
pub mod frames {
    /// 3.11 and newer.
    pub const DATASTACK: u32 = 1;
    /// 3.10 and older.
    pub const OBJECTS: u32 = 2;
}

/// Bits of [`Watched::flags`].
pub mod watched_flag {
    /// A call makes a generator or a coroutine (`co_flags`).
    pub const GENERATOR: u32 = 1;
}

/// A function whose calls are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Watched {
    /// Address of its code object, whose first word is the reference count; 0: none.
    pub code: u64,
    /// Bytes of its frames on the datastack.
    pub frame_bytes: u32,
    /// Bits of [`watched_flag`].
    pub flags: u32,
}

/// Key of the `COUNTS` map, which has the low half of each watched code object's reference count
/// as it was last seen; 0: the object has died. `slot` is an index into [`Watches::functions`]. By
/// itself, so that the user side can add a function while the kernel side counts the others.
#[inline(always)]
pub fn count_key(pid: u32, slot: usize) -> u64 {
    (pid as u64) << 32 | slot as u64
}

/// Offsets that telling calls apart needs besides those of the walk, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct WatchOffsets {
    /// One of [`frames`].
    pub frames: u32,
    /// `PyThreadState.datastack_chunk`; `datastack_top` follows.
    pub tstate_datastack: u32,
    /// `PyCodeObject`: two counts of words (i32) whose sum, with `frame_specials`, is the size
    /// of a frame: `co_framesize` (3.12+) and nothing, or `co_nlocalsplus` and `co_stacksize`.
    pub code_frame_words: u32,
    /// See [`Self::code_frame_words`]; 0: nothing.
    pub code_stack_words: u32,
    /// `FRAME_SPECIALS_SIZE`, where it is not part of the above.
    pub frame_specials: u32,
    /// 1: a frame may still be linked when it is cleared (3.11.0 and 3.11.1), so that the
    /// instruction has to tell.
    pub linked_at_end: u32,
    /// Address of `PyFrame_Type` (3.10 and older).
    pub frame_type: u64,
}

/// Value of the `WATCHES` map, keyed by pid. Written by the user side, copied at fork.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Watches {
    /// The functions.
    pub functions: [Watched; WATCHED_FUNCTIONS],
    /// How their calls are told.
    pub offsets: WatchOffsets,
}
const _: () = assert!(size_of::<Watches>() == 4 * 16 + 32);

/// `_PyStackChunk.data` (Include/cpython/pystate.h of 3.11): where a chunk's first frame begins.
const CHUNK_DATA: u64 = 24;

/// The end of a thread's datastack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datastack {
    /// Its last chunk.
    pub chunk: u64,
    /// One past the last byte in use.
    pub top: u64,
}

/// Reads the datastack of a thread state.
#[inline(always)]
pub fn datastack<M: Memory>(
    offsets: &WatchOffsets,
    tstate: u64,
    memory: &mut M,
) -> Option<Datastack> {
    if !memory.fill(tstate.wrapping_add(offsets.tstate_datastack as u64), 16) {
        return None;
    }
    Some(Datastack {
        chunk: memory.word(0, 0),
        top: memory.word(0, 8),
    })
}

/// The search for the last frame of a datastack that is linked into the chain.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastLinked {
    /// The frame to look at next.
    pub frame: u64,
    /// Where the last linked frame ends; 0 while it is not found.
    pub end: u64,
}

impl LastLinked {
    /// Looks at one frame, from the innermost outwards; true when the search is over. Frames of
    /// generators, and shims, lie elsewhere.
    #[inline(always)]
    pub fn step<M: Memory>(
        &mut self,
        layout: &PythonLayout,
        offsets: &WatchOffsets,
        stack: Datastack,
        memory: &mut M,
    ) -> bool {
        let frame = self.frame;
        if frame == 0 {
            self.end = stack.chunk.wrapping_add(CHUNK_DATA);
            return true;
        }
        if !memory.fill(frame, layout.frame_bytes as u32) {
            return true;
        }
        if frame <= stack.chunk || frame >= stack.top {
            self.frame = memory.word(0, layout.frame_previous as u64);
            return false;
        }
        let code = memory.word(0, layout.frame_code as u64) & !(layout.code_tag_mask as u64);
        if let Some(bytes) = frame_bytes(offsets, code, memory) {
            self.end = frame.wrapping_add(bytes);
        }
        true
    }
}

/// Bytes of a frame of this code object.
#[inline(always)]
fn frame_bytes<M: Memory>(offsets: &WatchOffsets, code: u64, memory: &mut M) -> Option<u64> {
    let mut words = offsets.frame_specials as u64;
    if !memory.fill(code.wrapping_add(offsets.code_frame_words as u64), 8) {
        return None;
    }
    words += memory.word(0, 0) as u32 as u64;
    if offsets.code_stack_words != 0 {
        if !memory.fill(code.wrapping_add(offsets.code_stack_words as u64), 8) {
            return None;
        }
        words += memory.word(0, 0) as u32 as u64;
    }
    // Both are ints of the target: a sum that no datastack has is no size.
    if words > 1 << 24 {
        None
    } else {
        Some(words * 8)
    }
}

/// Opcode of `RETURN_VALUE` in 3.11 (Include/opcode.h).
const RETURN_VALUE_3_11: u8 = 83;

/// What stands where a frame of `watched` would, if it were the last on the datastack: true when
/// it is one and on its way out. `linked_end` is of [`LastLinked`], `innermost` the innermost
/// linked frame.
#[inline(always)]
pub fn is_ending<M: Memory>(
    layout: &PythonLayout,
    offsets: &WatchOffsets,
    watched: &Watched,
    frame: u64,
    (innermost, linked_end): (u64, u64),
    memory: &mut M,
) -> bool {
    if !memory.fill(frame, layout.frame_bytes as u32) {
        return false;
    }
    let code = memory.word(0, layout.frame_code as u64) & !(layout.code_tag_mask as u64);
    let previous = memory.word(0, layout.frame_previous as u64);
    if linked_end <= frame {
        // From 3.14 on the word is cleared before the reference is given back (PyStackRef_CLEAR in
        // clear_thread_frame, Python/ceval.c).
        let is_cleared = layout.code_tag_mask != 0 && code == 0;
        // A variable of another frame that goes may be this code object, and stand right there.
        return (code == watched.code || is_cleared) && previous == innermost;
    }
    if code != watched.code {
        return false;
    }
    if offsets.linked_at_end == 0 || innermost != frame {
        return false;
    }
    let instr = memory.word(0, layout.frame_instr as u64);
    memory.fill(instr, 8) && memory.word(0, 0) as u8 == RETURN_VALUE_3_11
}

/// `ob_refcnt` and `ob_type` of an object.
const OB_REFCNT: u64 = 0;
const OB_TYPE: u64 = 8;

/// True when `object` is a frame object of `watched` that is being made (`begins`: it has one
/// reference) or freed (it has none). `innermost` is the innermost linked frame, its caller.
#[inline(always)]
pub fn is_frame_object<M: Memory>(
    layout: &PythonLayout,
    offsets: &WatchOffsets,
    watched: &Watched,
    object: u64,
    (innermost, begins): (u64, bool),
    memory: &mut M,
) -> bool {
    // Neither in the first page, nor in the kernel's half, and aligned like an object.
    if object < 4096 || object >> 47 != 0 || object & 7 != 0 || object == innermost {
        return false;
    }
    if !memory.fill(object, layout.frame_bytes as u32)
        || memory.word(0, OB_TYPE) != offsets.frame_type
        || memory.word(0, OB_REFCNT) != begins as u64
    {
        return false;
    }
    // 3.10 takes the reference before it stores it, and has stored the caller then
    // (`_PyFrame_New_NoTrack`, Objects/frameobject.c).
    memory.word(0, layout.frame_code as u64) == watched.code
        || (begins && memory.word(0, layout.frame_previous as u64) == innermost)
}
