//! Captures the Python stack of the current thread: walks it, names it by a hash, and sends it
//! once.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use memprof_common::{
    Loss, Process, PythonLayout, Thread,
    layout::thread_source,
    records::{Header, RawFrame, Stack, flag, kind, walk_result},
    walk::{self, MAX_FRAMES, NoFrame, Step, Walk},
};

use crate::{
    code, emit,
    maps::{CODES, CodeKey, LAYOUTS, SCRATCH, STACKS, Scratch, lose},
    memory::UserWindow,
};

/// What the walk of one thread gave.
#[derive(Clone, Copy)]
pub struct Captured {
    /// One of [`walk_result`].
    pub op: u16,
    /// Stack id, 0 without one.
    pub id: u64,
}

/// State of the loop over frames. Lives on the stack of the program; `bpf_loop` hands it on.
struct Frames {
    walk: Walk,
    memory: UserWindow,
    frames: *mut RawFrame,
    layout: *const PythonLayout,
    depth: u32,
    ended: u32,
}

extern "C" fn walk_frame(index: u32, context: *mut c_void) -> i64 {
    let state = unsafe { &mut *context.cast::<Frames>() };
    let out = unsafe { &mut *state.frames.add((index & (MAX_FRAMES - 1)) as usize) };
    let step = state
        .walk
        .step(unsafe { &*state.layout }, &mut state.memory, out);
    match step {
        Step::Frame => {
            state.depth = index + 1;
            0
        }
        other => {
            state.ended = other as u32;
            1
        }
    }
}

#[inline(always)]
fn innermost(
    process: *mut Process,
    thread_pointer: u64,
    memory: &mut UserWindow,
) -> Result<u64, NoFrame> {
    let layout = unsafe { &mut (*process).layout };
    let slot = walk::thread_slot(layout, memory)?;
    if layout.thread_source == thread_source::PTHREAD_KEY {
        // The key never changes once it is there: save the read from now on.
        layout.source_address = slot;
        layout.thread_source = thread_source::TLS_OFFSET;
    }
    let tstate = walk::thread_state_in(slot, thread_pointer, memory)?;
    walk::innermost_frame(layout, tstate, thread_pointer, memory)
}

/// Takes over a layout that the user side found, if it is for the program that runs now.
#[inline(always)]
pub fn adopt_layout(process: *mut Process, pid: u32) {
    unsafe {
        if (*process).layout.thread_source != thread_source::NONE {
            return;
        }
        let Some(offer) = LAYOUTS.get(pid) else {
            return;
        };
        if offer.generation == (*process).generation {
            (*process).layout = offer.layout;
        }
    }
    let _ = LAYOUTS.remove(pid);
}

/// Walks the current thread's stack and makes sure that the user side knows it.
#[inline(always)]
pub fn capture(
    process: *mut Process,
    thread: *mut Thread,
    pid: u32,
    tid: u32,
    thread_pointer: u64,
) -> Captured {
    let none = |op| Captured { op, id: 0 };
    adopt_layout(process, pid);
    if unsafe { (*process).layout.thread_source } == thread_source::NONE {
        return none(walk_result::NO_LAYOUT);
    }
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
        return none(walk_result::FAILED);
    };
    let mut memory = UserWindow {
        buffer: unsafe { (&raw mut (*scratch).window).cast() },
    };
    let frame = match innermost(process, thread_pointer, &mut memory) {
        Ok(frame) => frame,
        Err(NoFrame::NoLayout) => return none(walk_result::NO_LAYOUT),
        Err(NoFrame::NoThreadState) => return none(walk_result::NO_THREAD_STATE),
        Err(NoFrame::NoFrame) => return none(walk_result::NO_FRAME),
        Err(NoFrame::Failed) => {
            lose(Loss::StackFailed);
            return none(walk_result::FAILED);
        }
    };
    let generation = unsafe { (*process).generation };
    let mut state = Frames {
        walk: Walk::new(frame, ((pid as u64) << 32) | generation as u64),
        memory,
        frames: unsafe { (&raw mut (*scratch).frames).cast() },
        layout: unsafe { &raw const (*process).layout },
        depth: 0,
        ended: Step::Frame as u32,
    };
    unsafe {
        bpf_loop(
            MAX_FRAMES,
            walk_frame as *mut c_void,
            (&raw mut state).cast(),
            0,
        )
    };
    if state.depth == 0 {
        lose(Loss::StackFailed);
        return none(walk_result::FAILED);
    }
    let whole = state.ended == Step::End as u32;
    let id = walk::finish(state.walk.hash ^ whole as u64);
    let captured = Captured {
        op: walk_result::STACK,
        id,
    };
    if unsafe { (*thread).stack } == id {
        return captured;
    }
    if unsafe { STACKS.get(id) }.is_none() {
        if !whole {
            lose(if state.ended == Step::Failed as u32 {
                Loss::StackFailed
            } else {
                Loss::StackTruncated
            });
        }
        unsafe {
            (*scratch).stack = Stack {
                header: Header {
                    kind: kind::STACK,
                    op: 0,
                    pid,
                    tid,
                    flags: if whole { 0 } else { flag::TRUNCATED },
                    time_ns: emit::now(),
                },
                id,
                depth: state.depth,
                _padding: 0,
            };
        }
        send(process, scratch);
    }
    captured
}

/// Sends the code objects that the user side does not know, then the stack; both its head and
/// its frames are in scratch.
#[inline(never)]
fn send(process: *mut Process, scratch: *mut Scratch) {
    let head = unsafe { &(*scratch).stack };
    let mut codes = Codes {
        layout: unsafe { &raw const (*process).layout },
        scratch,
        pid: head.header.pid,
        tid: head.header.tid,
        generation: unsafe { (*process).generation },
        _padding: 0,
    };
    // The masks are for the verifier: depth is at most MAX_FRAMES.
    let depth = head.depth & (2 * MAX_FRAMES - 1);
    unsafe { bpf_loop(depth, send_code as *mut c_void, (&raw mut codes).cast(), 0) };
    let mut frames = depth as usize;
    if frames > MAX_FRAMES as usize {
        frames = MAX_FRAMES as usize;
    }
    let bytes = unsafe {
        core::slice::from_raw_parts(
            (&raw const (*scratch).stack).cast::<u8>(),
            size_of::<Stack>() + frames * size_of::<RawFrame>(),
        )
    };
    if emit::bytes(bytes) {
        let _ = STACKS.insert(head.id, 1, 0);
    }
}

/// State of the loop over the code objects of a new stack.
struct Codes {
    layout: *const PythonLayout,
    scratch: *mut Scratch,
    pid: u32,
    tid: u32,
    generation: u32,
    _padding: u32,
}

extern "C" fn send_code(index: u32, context: *mut c_void) -> i64 {
    let state = unsafe { &*context.cast::<Codes>() };
    let scratch = state.scratch;
    let layout = unsafe { &*state.layout };
    let frame = unsafe {
        let frames = (&raw const (*scratch).frames).cast::<RawFrame>();
        *frames.add((index & (MAX_FRAMES - 1)) as usize)
    };
    if frame.owner() as u16 >= layout.frame_shim_owner {
        return 0;
    }
    let key = CodeKey {
        pid: state.pid,
        generation: state.generation,
        address: frame.code_address(),
    };
    let Some(identity) = code::read(layout, scratch, key.address) else {
        lose(Loss::CodeFailed);
        return 0;
    };
    if unsafe { CODES.get(key) }.is_some_and(|known| *known == identity) {
        return 0;
    }
    if code::send(layout, scratch, state.pid, state.tid, key.address, identity) {
        let _ = CODES.insert(key, identity, 0);
    }
    0
}
