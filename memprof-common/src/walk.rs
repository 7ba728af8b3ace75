//! The CPython frame walk, generic over how memory is read: the kernel side walks the live
//! thread, the tests walk recorded images, with this code.
//!
//! One read of the thread state finds the innermost frame; from 3.11 on frames lie together in
//! the datastack and are read through a window that ends with the wanted frame and begins at its
//! page, so that most steps read nothing. Nothing here trusts the target: every length is bound,
//! every address is only ever handed to the reader, which may refuse.

use crate::layout::{NO_FIELD, PythonLayout, thread_source};
use crate::records::RawFrame;

/// Frames of one stack at most. The interpreter's default recursion limit is 1000.
pub const MAX_FRAMES: u32 = 1024;

/// Largest window: one page, plus the frame that begins at its end.
pub const WINDOW_BYTES: usize = 4096 + 256;

/// Largest read of a thread state.
pub const THREAD_STATE_BYTES: usize = 256;

/// glibc keeps the first 32 `pthread_key_data` inside `struct pthread`; CPython creates its key
/// early, so larger numbers are refused rather than followed.
pub const MAX_PTHREAD_KEY: u32 = 32;

/// How the walker reads the target: one buffer that is filled in bulk and then read by offset.
pub trait Memory {
    /// Fills the window with `len` (≤ [`WINDOW_BYTES`]) bytes from `address`; false if refused.
    fn fill(&mut self, address: u64, len: u32) -> bool;
    /// Eight bytes of the window; offsets beyond it give unspecified bytes, never a fault.
    fn word(&self, offset: u32) -> u64;
    /// One byte of the window, likewise.
    fn byte(&self, offset: u32) -> u8;
}

/// Why there is no innermost frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum NoFrame {
    /// The layout is not usable.
    NoLayout,
    /// The thread has no `PyThreadState`.
    NoThreadState,
    /// It has one, without a frame.
    NoFrame,
    /// A read was refused, or what was read contradicts itself.
    Failed,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Step {
    /// A frame; there may be more.
    Frame,
    /// No more frames: the stack is whole.
    End,
    /// A read was refused: the stack is cut.
    Failed,
}

/// Distance from the thread pointer to the word that holds the `PyThreadState *`. The same for
/// all threads of a process once its interpreter is initialised, so the caller may keep it.
#[inline(always)]
pub fn thread_slot<M: Memory>(layout: &PythonLayout, memory: &mut M) -> Result<u64, NoFrame> {
    match layout.thread_source {
        thread_source::TLS_OFFSET => Ok(layout.source_address),
        thread_source::PTHREAD_KEY => {
            // Py_tss_t { int _is_initialized; pthread_key_t _key; } (Include/cpython/pythread.h)
            // The page of `_PyRuntime` is not there before the interpreter first writes to it:
            // until then the loader is at work.
            if !memory.fill(layout.source_address, 8) {
                return Err(NoFrame::NoThreadState);
            }
            let tss = memory.word(0);
            if tss as u32 == 0 {
                return Err(NoFrame::NoThreadState);
            }
            let key = (tss >> 32) as u32;
            if key >= MAX_PTHREAD_KEY {
                return Err(NoFrame::Failed);
            }
            Ok(layout.pthread_data as u64 + key as u64 * 16)
        }
        thread_source::PTHREAD_INT_KEY => {
            if !memory.fill(layout.source_address, 8) {
                return Err(NoFrame::NoThreadState);
            }
            // Its neighbour is another variable.
            let key = memory.word(0) as u32;
            if (key as i32) < 0 {
                return Err(NoFrame::NoThreadState);
            }
            if key >= MAX_PTHREAD_KEY {
                return Err(NoFrame::Failed);
            }
            Ok(layout.pthread_data as u64 + key as u64 * 16)
        }
        _ => Err(NoFrame::NoLayout),
    }
}

/// Address of the running thread's `PyThreadState`. `thread_pointer` is the base of its TLS
/// (`fsbase` on x86-64), `slot` what [`thread_slot`] gave.
#[inline(always)]
pub fn thread_state_in<M: Memory>(
    slot: u64,
    thread_pointer: u64,
    memory: &mut M,
) -> Result<u64, NoFrame> {
    if !memory.fill(thread_pointer.wrapping_add(slot), 8) {
        // A variable below the thread pointer has a page only once the thread has written there:
        // until then the loader is at work, or the thread is none of Python's.
        return Err(if (slot as i64) < 0 {
            NoFrame::NoThreadState
        } else {
            NoFrame::Failed
        });
    }
    match memory.word(0) {
        0 => Err(NoFrame::NoThreadState),
        tstate => Ok(tstate),
    }
}

/// [`thread_slot`] and [`thread_state_in`] in one.
#[inline(always)]
pub fn thread_state<M: Memory>(
    layout: &PythonLayout,
    thread_pointer: u64,
    memory: &mut M,
) -> Result<u64, NoFrame> {
    let slot = thread_slot(layout, memory)?;
    thread_state_in(slot, thread_pointer, memory)
}

/// Address of the innermost frame by the thread state that holds the GIL; `NoThreadState` when
/// that is not the running thread's, or the version does not keep it.
#[inline(always)]
pub fn attached_frame<M: Memory>(
    layout: &PythonLayout,
    thread_pointer: u64,
    memory: &mut M,
) -> Result<u64, NoFrame> {
    if layout.current_address == 0 || !memory.fill(layout.current_address, 8) {
        return Err(NoFrame::NoThreadState);
    }
    match memory.word(0) {
        0 => Err(NoFrame::NoThreadState),
        // Another thread's may be freed just now: what cannot be read is not ours.
        tstate => match innermost_frame(layout, tstate, thread_pointer, memory) {
            Err(NoFrame::Failed) => Err(NoFrame::NoThreadState),
            found => found,
        },
    }
}

/// Address of the thread state that holds the GIL, when that is the running thread's.
#[inline(always)]
pub fn attached_thread_state<M: Memory>(
    layout: &PythonLayout,
    thread_pointer: u64,
    memory: &mut M,
) -> Option<u64> {
    if layout.current_address == 0 || !memory.fill(layout.current_address, 8) {
        return None;
    }
    let tstate = memory.word(0);
    let is_ours = tstate != 0
        && memory.fill(tstate.wrapping_add(layout.tstate_thread_id as u64), 8)
        && memory.word(0) == thread_pointer;
    is_ours.then_some(tstate)
}

/// Address of the innermost frame of a thread state.
#[inline(always)]
pub fn innermost_frame<M: Memory>(
    layout: &PythonLayout,
    tstate: u64,
    thread_pointer: u64,
    memory: &mut M,
) -> Result<u64, NoFrame> {
    let start = layout.tstate_start as u32;
    if !memory.fill(tstate.wrapping_add(start as u64), layout.tstate_len as u32) {
        return Err(NoFrame::Failed);
    }
    let frame = memory.word((layout.tstate_frame as u32).wrapping_sub(start));
    // glibc's pthread_self() is the thread pointer itself, and CPython stores it: a thread state
    // that belongs to another thread, or was freed and reused, is told by this.
    if memory.word((layout.tstate_thread_id as u32).wrapping_sub(start)) != thread_pointer {
        return Err(NoFrame::NoThreadState);
    }
    if frame == 0 {
        return Err(NoFrame::NoFrame);
    }
    if layout.has_cframe == 0 {
        return Ok(frame);
    }
    if !memory.fill(frame.wrapping_add(layout.cframe_current_frame as u64), 8) {
        return Err(NoFrame::Failed);
    }
    match memory.word(0) {
        0 => Err(NoFrame::NoFrame),
        frame => Ok(frame),
    }
}

/// A walk under way: the next frame, and the part of memory the window holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    /// Address of the frame to read next; 0 at the end.
    pub frame: u64,
    /// Address of the window's first byte.
    pub window: u64,
    /// Bytes in the window; 0 before the first read.
    pub window_len: u32,
    /// Keeps the size a multiple of 8.
    pub _padding: u32,
    /// Mixed from all frames so far; the stack's id.
    pub hash: u64,
}

impl Walk {
    /// Begins at `frame`. `seed` goes into the hash: stacks of different processes never share
    /// an id.
    #[inline(always)]
    pub fn new(frame: u64, seed: u64) -> Self {
        Walk {
            frame,
            window: 0,
            window_len: 0,
            _padding: 0,
            hash: seed,
        }
    }

    /// Reads one frame into `out` and moves on to the frame that called it.
    #[inline(always)]
    pub fn step<M: Memory>(
        &mut self,
        layout: &PythonLayout,
        memory: &mut M,
        out: &mut RawFrame,
    ) -> Step {
        let frame = self.frame;
        if frame == 0 {
            return Step::End;
        }
        let frame_bytes = layout.frame_bytes as u64;
        let mut offset = frame.wrapping_sub(self.window);
        // Both comparisons: a frame below the window wraps to a huge offset.
        if offset > self.window_len as u64 || offset + frame_bytes > self.window_len as u64 {
            let window = if layout.frame_paged != 0 {
                frame & !0xfff
            } else {
                frame
            };
            offset = frame.wrapping_sub(window);
            let len = (offset + frame_bytes) as u32;
            if !memory.fill(window, len) {
                self.window_len = 0;
                return Step::Failed;
            }
            self.window = window;
            self.window_len = len;
        }
        let offset = offset as u32;
        let owner = if layout.frame_owner == NO_FIELD {
            0
        } else {
            memory.byte(offset.wrapping_add(layout.frame_owner as u32))
        };
        let code = memory.word(offset.wrapping_add(layout.frame_code as u32));
        let code = code & !(layout.code_tag_mask as u64) & RawFrame::CODE_MASK;
        let mut instr = memory.word(offset.wrapping_add(layout.frame_instr as u32));
        if layout.code_adaptive == 0 {
            instr &= 0xffff_ffff; // f_lasti is an int; its neighbour is f_lineno
        }
        let previous = memory.word(offset.wrapping_add(layout.frame_previous as u32));
        *out = RawFrame {
            code: code | ((owner as u64) << 56),
            instr,
        };
        // Both words in one round: what depends on the frame before is the costly part.
        self.hash = mix(self.hash, out.code.wrapping_mul(CODE_WEIGHT) ^ instr);
        // A frame that names itself would loop until the limit: the chain is damaged.
        if previous == frame {
            self.frame = 0;
            return Step::Failed;
        }
        self.frame = previous;
        Step::Frame
    }
}

/// Spreads a code object's address before an instruction is mixed in (a prime of xxHash64).
const CODE_WEIGHT: u64 = 0x1656_67b1_9e37_79f9;

/// One round of a 64-bit multiply-and-rotate hash; the constants are those of xxHash64's primes.
#[inline(always)]
pub fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word.wrapping_mul(0xc2b2_ae3d_27d4_eb4f))
        .rotate_left(31)
        .wrapping_mul(0x9e37_79b1_85eb_ca87)
}

/// Spreads the bits of a finished hash (xxHash64's avalanche); never 0, which means "no stack".
#[inline(always)]
pub fn finish(hash: u64) -> u64 {
    let mut h = hash ^ (hash >> 33);
    h = h.wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    h ^= h >> 29;
    h = h.wrapping_mul(0x1656_67b1_9e37_79f9);
    (h ^ (h >> 32)) | 1
}
