//! The CPython frame walk, generic over how memory is read: the kernel side walks the live
//! thread, the tests walk recorded images, with this code.
//!
//! One read of the thread state finds the innermost frame; from 3.11 on frames lie together in
//! the datastack and are read through a window that ends with the wanted frame and begins at its
//! page, so that most steps read nothing. Nothing here trusts the target: every length is bound,
//! every address is only ever handed to the reader, which may refuse.

use crate::layout::{PythonLayout, thread_source};
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
    /// The eight bytes of the window at `base + field`: `base` below a page, `field` below 256, both
    /// multiples of 8. Others give unspecified bytes, never a fault.
    fn word(&self, base: u64, field: u64) -> u64;
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
/// all threads of a process once its interpreter is initialised, so the caller may keep it; but
/// not with [`thread_source::TLS_MODULE`].
#[inline(always)]
pub fn thread_slot<M: Memory>(
    layout: &PythonLayout,
    thread_pointer: u64,
    memory: &mut M,
) -> Result<u64, NoFrame> {
    match layout.thread_source {
        thread_source::TLS_OFFSET => Ok(layout.source_address),
        thread_source::TLS_MODULE => {
            let module = (layout.source_address >> 32) as u32;
            match module_variables(module, thread_pointer, memory) {
                Some(variables) => Ok(variables
                    .wrapping_add(layout.source_address & 0xffff_ffff)
                    .wrapping_sub(thread_pointer)),
                None => Err(NoFrame::NoThreadState),
            }
        }
        thread_source::PTHREAD_KEY => {
            // Py_tss_t { int _is_initialized; pthread_key_t _key; } (Include/cpython/pythread.h)
            // The page of `_PyRuntime` is not there before the interpreter first writes to it:
            // until then the loader is at work.
            if !memory.fill(layout.source_address, 8) {
                return Err(NoFrame::NoThreadState);
            }
            let tss = memory.word(0, 0);
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
            let key = memory.word(0, 0) as u32;
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
    match memory.word(0, 0) {
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
    let slot = thread_slot(layout, thread_pointer, memory)?;
    thread_state_in(slot, thread_pointer, memory)
}

/// Bit of `PyThreadState._status`, `bound_gilstate`: this thread state is the one in the storage of
/// its thread. CPython clears it before another one takes its place there and before the thread
/// state is freed (`bind_gilstate_tstate`, `unbind_gilstate_tstate` in Python/pystate.c, 3.12+).
pub const BOUND_GILSTATE: u64 = 1 << 3;

/// Address of the innermost frame, without a look into the thread's own storage; `NoThreadState`
/// when that is needed.
///
/// Up to 3.11 by the thread state that holds the GIL, if it is the running thread's. From 3.12 on
/// by `last`, the one that this thread had before (0: not known), if it says that it still is.
#[inline(always)]
pub fn likely_frame<M: Memory>(
    layout: &PythonLayout,
    last: u64,
    thread_pointer: u64,
    memory: &mut M,
) -> Result<u64, NoFrame> {
    let mut tstate = last;
    if layout.current_address != 0 {
        tstate = if memory.fill(layout.current_address, 8) {
            memory.word(0, 0)
        } else {
            0
        };
    } else if layout.tstate_status == 0 {
        tstate = 0;
    }
    if tstate == 0 {
        return Err(NoFrame::NoThreadState);
    }
    match frame_of(layout, tstate, thread_pointer, true, memory) {
        // Another thread's may be freed just now: what cannot be read is not ours.
        Err(NoFrame::Failed) => Err(NoFrame::NoThreadState),
        found => found,
    }
}

/// Address of the running thread's `PyThreadState`: the one that holds the GIL, if that is its own,
/// or the one in its storage.
#[inline(always)]
pub fn running_thread_state<M: Memory>(
    layout: &PythonLayout,
    thread_pointer: u64,
    memory: &mut M,
) -> Result<u64, NoFrame> {
    match attached_thread_state(layout, thread_pointer, memory) {
        Some(tstate) => Ok(tstate),
        None => thread_state(layout, thread_pointer, memory),
    }
}

/// Address of the thread state that holds the GIL, when that is the running thread's.
#[inline(always)]
fn attached_thread_state<M: Memory>(
    layout: &PythonLayout,
    thread_pointer: u64,
    memory: &mut M,
) -> Option<u64> {
    if layout.current_address == 0 || !memory.fill(layout.current_address, 8) {
        return None;
    }
    let tstate = memory.word(0, 0);
    let is_ours = tstate != 0
        && memory.fill(tstate.wrapping_add(layout.tstate_thread_id as u64), 8)
        && memory.word(0, 0) == thread_pointer;
    is_ours.then_some(tstate)
}

/// Address of the innermost frame of the thread state that was found in the thread's own storage.
#[inline(always)]
pub fn innermost_frame<M: Memory>(
    layout: &PythonLayout,
    tstate: u64,
    thread_pointer: u64,
    memory: &mut M,
) -> Result<u64, NoFrame> {
    frame_of(layout, tstate, thread_pointer, false, memory)
}

/// Address of the innermost frame of a thread state; `to_be_bound`: if it says that it is the one
/// in its thread's own storage, where it can say so.
#[inline(always)]
fn frame_of<M: Memory>(
    layout: &PythonLayout,
    tstate: u64,
    thread_pointer: u64,
    to_be_bound: bool,
    memory: &mut M,
) -> Result<u64, NoFrame> {
    let start = tstate.wrapping_add(layout.tstate_start as u64);
    if !memory.fill(start, layout.tstate_len as u32) {
        return Err(NoFrame::Failed);
    }
    let field = |offset: u16| memory.word(0, offset.wrapping_sub(layout.tstate_start) as u64);
    let frame = field(layout.tstate_frame);
    // glibc's pthread_self() is the thread pointer itself, and CPython stores it: a thread state
    // that belongs to another thread, or was freed and reused, is told by this.
    if field(layout.tstate_thread_id) != thread_pointer {
        return Err(NoFrame::NoThreadState);
    }
    if to_be_bound && layout.tstate_status != 0 && field(layout.tstate_status) & BOUND_GILSTATE == 0
    {
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
    match memory.word(0, 0) {
        0 => Err(NoFrame::NoFrame),
        frame => Ok(frame),
    }
}

/// Modules with thread-local variables that a process may have for one's to be found: their vector
/// is read at once, a page of it.
const MAX_TLS_MODULES: u32 = 254;

/// Address of the running thread's variables of a module that was opened at run time; None before
/// it first uses them, when they are made.
///
/// The thread's dynamic thread vector (`tcbhead_t.dtv`, sysdeps/x86_64/nptl/tls.h of glibc) has 16
/// bytes a module, before them its length and its generation.
#[inline(always)]
pub fn module_variables<M: Memory>(
    module: u32,
    thread_pointer: u64,
    memory: &mut M,
) -> Option<u64> {
    // The verifier loses the bound of a comparison with what is shifted out of a word.
    let module = module & 0xff;
    if module == 0 || module > MAX_TLS_MODULES || !memory.fill(thread_pointer.wrapping_add(8), 8) {
        return None;
    }
    let vector = memory.word(0, 0);
    if !memory.fill(vector.wrapping_sub(16), (module + 2) * 16) || memory.word(0, 0) < module as u64
    {
        return None;
    }
    let variables = memory.word((module as u64 + 1) * 16, 0);
    // TLS_DTV_UNALLOCATED is -1.
    (variables != 0 && variables != u64::MAX).then_some(variables)
}

/// Address of what greenlet keeps of the running thread (`greenlet::ThreadState`), the same as long
/// as the thread lives; None before its first greenlet.
#[inline(always)]
pub fn greenlet_state<M: Memory>(
    layout: &PythonLayout,
    thread_pointer: u64,
    memory: &mut M,
) -> Option<u64> {
    let variables = module_variables(layout.greenlet_module, thread_pointer, memory)?;
    if !memory.fill(variables.wrapping_add(layout.greenlet_offset as u64), 8) {
        return None;
    }
    // ThreadStateCreator: 1 before the thread's first greenlet, 0 when the thread ends.
    Some(memory.word(0, 0)).filter(|&state| state > 1)
}

/// True when a greenlet runs that is not the thread's main one, by what [`greenlet_state`] gave:
/// the stack then begins where the greenlet does.
#[inline(always)]
pub fn runs_greenlet<M: Memory>(state: u64, memory: &mut M) -> bool {
    // ThreadState { main_greenlet, current_greenlet, ... }
    if !memory.fill(state, 16) {
        return false;
    }
    let (main, running) = (memory.word(0, 0), memory.word(8, 0));
    main != 0 && running != 0 && main != running
}

/// Where a frame has its fields, made ready for the loop over frames: there every instruction counts.
#[derive(Clone, Copy, Debug)]
struct FrameFields {
    code: u64,
    /// Bits of that word that are the address.
    code_mask: u64,
    instr: u64,
    instr_mask: u64,
    previous: u64,
    /// The word that holds the owner.
    owner: u64,
    /// Bits below the owner in it.
    owner_shift: u64,
    /// Its bits after that; 0 where there is no owner.
    owner_mask: u64,
    /// Bytes of a frame.
    bytes: u64,
    /// Bits of a frame's address that are its window's.
    window_mask: u64,
}

impl FrameFields {
    #[inline(always)]
    fn new(layout: &PythonLayout) -> Self {
        let owner = layout.frame_owner as u64;
        FrameFields {
            code: layout.frame_code as u64,
            code_mask: !(layout.code_tag_mask as u64) & RawFrame::CODE_MASK,
            instr: layout.frame_instr as u64,
            instr_mask: u64::MAX >> (layout.frame_instr_unused_bits & 63),
            previous: layout.frame_previous as u64,
            owner: owner & !7,
            owner_shift: (owner & 7) * 8,
            owner_mask: layout.frame_owner_mask as u64,
            bytes: layout.frame_bytes as u64,
            window_mask: !(layout.frame_page_mask as u64),
        }
    }
}

/// A walk under way: the next frame, and the part of memory the window holds.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// Address of the frame to read next; 0 at the end.
    pub frame: u64,
    /// Mixed from all frames so far; the stack's id.
    pub hash: u64,
    /// Address of the window's first byte.
    window: u64,
    /// How far into the window a frame may begin. Nothing begins at 0 before the first read.
    last: u32,
    fields: FrameFields,
}

impl Walk {
    /// Begins at `frame`. `seed` goes into the hash: stacks of different processes never share
    /// an id.
    #[inline(always)]
    pub fn new(layout: &PythonLayout, frame: u64, seed: u64) -> Self {
        Walk {
            frame,
            hash: seed,
            window: 0,
            last: 0,
            fields: FrameFields::new(layout),
        }
    }

    /// Reads one frame into `out` and moves on to the frame that called it.
    #[inline(always)]
    pub fn step<M: Memory>(&mut self, memory: &mut M, out: &mut RawFrame) -> Step {
        let (frame, fields) = (self.frame, self.fields);
        if frame == 0 {
            return Step::End;
        }
        // A frame below the window wraps to a huge offset.
        let mut offset = frame.wrapping_sub(self.window);
        if offset > self.last as u64 {
            self.window = frame & fields.window_mask;
            offset = frame.wrapping_sub(self.window);
            self.last = offset as u32;
            if !memory.fill(self.window, (offset + fields.bytes) as u32) {
                return Step::Failed;
            }
        }
        let owner = memory.word(offset, fields.owner) >> fields.owner_shift;
        let code = memory.word(offset, fields.code) & fields.code_mask;
        let instr = memory.word(offset, fields.instr) & fields.instr_mask;
        let previous = memory.word(offset, fields.previous);
        *out = RawFrame {
            code: code | (owner & fields.owner_mask) << 56,
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
