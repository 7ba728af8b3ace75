//! Captures the Python stack of the current thread: walks it, names it by a hash, and sends it
//! once.

use core::ops::ControlFlow;

use memprof_common::{
    Loss, Process, PythonLayout,
    layout::thread_source,
    records::{Header, RawFrame, Stack, flag, kind, walk_result},
    walk::{self, MAX_FRAMES, NoFrame, Step, Walk},
};

use crate::{
    code, emit,
    maps::{self, CODES, CodeKey, LAYOUTS, STACKS, Scratch, lose},
    memory::UserWindow,
    repeat::{self, Rounds},
};

/// What the walk of one thread gave.
#[derive(Clone, Copy)]
pub struct Captured {
    /// One of [`walk_result`].
    pub op: u16,
    /// Stack id, 0 without one.
    pub id: u64,
}

/// Frames that are walked by an ordinary loop: most stacks end there, and its rounds cost half.
/// The verifier looks at each of them, so there cannot be many.
const NEAR_FRAMES: u32 = 32;

/// What a walk gave.
struct Walked {
    hash: u64,
    depth: u32,
    ended: Step,
}

/// Walks from the innermost frame on; the frames go to scratch.
#[inline(always)]
fn walk_from(frame: u64, seed: u64, layout: &PythonLayout, scratch: &mut Scratch) -> Walked {
    let mut window = &mut scratch.window;
    let frames = &mut scratch.stack.tail;
    let mut walk = Walk::new(frame, seed);
    let mut depth = 0;
    while depth < NEAR_FRAMES {
        match walk.step(layout, &mut window, &mut frames[depth as usize]) {
            Step::Frame => depth += 1,
            ended => {
                return Walked {
                    hash: walk.hash,
                    depth,
                    ended,
                };
            }
        }
    }
    let mut far = Frames {
        walk,
        window,
        frames,
        layout,
        depth,
        ended: Step::Frame,
    };
    repeat::run(MAX_FRAMES - NEAR_FRAMES, &mut far);
    Walked {
        hash: far.walk.hash,
        depth: far.depth,
        ended: far.ended,
    }
}

/// State of the loop over further frames. Lives on the stack of the program.
struct Frames<'a> {
    walk: Walk,
    window: &'a mut UserWindow,
    frames: &'a mut [RawFrame; MAX_FRAMES as usize],
    layout: &'a PythonLayout,
    depth: u32,
    ended: Step,
}

impl Rounds for Frames<'_> {
    #[inline(always)]
    fn round(&mut self, index: u32) -> ControlFlow<()> {
        let index = index + NEAR_FRAMES;
        let out = &mut self.frames[index as usize % MAX_FRAMES as usize];
        match self.walk.step(self.layout, &mut self.window, out) {
            Step::Frame => {
                self.depth = index + 1;
                ControlFlow::Continue(())
            }
            other => {
                self.ended = other;
                ControlFlow::Break(())
            }
        }
    }
}

#[inline(always)]
fn innermost(
    layout: &mut PythonLayout,
    thread_pointer: u64,
    mut memory: &mut UserWindow,
) -> Result<u64, NoFrame> {
    let memory = &mut memory;
    match walk::attached_frame(layout, thread_pointer, memory) {
        Err(NoFrame::NoThreadState) => {}
        found => return found,
    }
    let slot = walk::thread_slot(layout, memory)?;
    if layout.thread_source != thread_source::TLS_OFFSET {
        // The key never changes once it is there: save the read from now on.
        layout.source_address = slot;
        layout.thread_source = thread_source::TLS_OFFSET;
    }
    let tstate = walk::thread_state_in(slot, thread_pointer, memory)?;
    walk::innermost_frame(layout, tstate, thread_pointer, memory)
}

/// Takes over a layout that the user side found, if it is for the program that runs now.
#[inline(always)]
pub fn adopt_layout(process: &mut Process, pid: u32) {
    if process.layout.thread_source != thread_source::NONE {
        return;
    }
    let Some(offer) = maps::layout_offer(pid) else {
        return;
    };
    if offer.generation == process.generation {
        process.layout = offer.layout;
    }
    let _ = LAYOUTS.remove(pid);
}

/// Walks the current thread's stack and makes sure that the user side knows it; `sent` is the id
/// of a stack that it does know.
#[inline(always)]
pub fn capture(
    process: &mut Process,
    sent: u64,
    pid: u32,
    tid: u32,
    thread_pointer: u64,
) -> Captured {
    let none = |op| Captured { op, id: 0 };
    adopt_layout(process, pid);
    if process.layout.thread_source == thread_source::NONE {
        return none(walk_result::NO_LAYOUT);
    }
    let Some(scratch) = maps::scratch() else {
        return none(walk_result::FAILED);
    };
    let frame = match innermost(&mut process.layout, thread_pointer, &mut scratch.window) {
        Ok(frame) => frame,
        Err(NoFrame::NoLayout) => return none(walk_result::NO_LAYOUT),
        Err(NoFrame::NoThreadState) => return none(walk_result::NO_THREAD_STATE),
        Err(NoFrame::NoFrame) => return none(walk_result::NO_FRAME),
        Err(NoFrame::Failed) => {
            lose(Loss::StackFailed);
            return none(walk_result::FAILED);
        }
    };
    let seed = ((pid as u64) << 32) | process.generation as u64;
    let walked = walk_from(frame, seed, &process.layout, scratch);
    let Walked { depth, ended, .. } = walked;
    if depth == 0 {
        lose(Loss::StackFailed);
        return none(walk_result::FAILED);
    }
    let whole = ended == Step::End;
    let id = walk::finish(walked.hash ^ whole as u64);
    if sent != id && !maps::is_stack_sent(id) {
        match ended {
            Step::End => {}
            Step::Failed => lose(Loss::StackFailed),
            Step::Frame => lose(Loss::StackTruncated),
        }
        scratch.stack.head = Stack {
            header: Header {
                kind: kind::STACK,
                op: 0,
                pid,
                tid,
                flags: if whole { 0 } else { flag::TRUNCATED },
                time_ns: emit::now(),
            },
            id,
            depth,
            _padding: 0,
        };
        send(process, scratch);
    }
    Captured {
        op: walk_result::STACK,
        id,
    }
}

/// Sends the code objects that the user side does not know, then the stack; both its head and
/// its frames are in scratch.
#[inline(never)]
fn send(process: &Process, scratch: &mut Scratch) {
    let Stack { id, depth, .. } = scratch.stack.head;
    let mut codes = Codes { process, scratch };
    repeat::run(depth, &mut codes);
    if emit::with_tail(&scratch.stack, depth) {
        let _ = STACKS.insert(id, 1, 0);
    }
}

/// State of the loop over the code objects of a new stack.
struct Codes<'a> {
    process: &'a Process,
    scratch: &'a mut Scratch,
}

impl Rounds for Codes<'_> {
    #[inline(always)]
    fn round(&mut self, index: u32) -> ControlFlow<()> {
        let layout = &self.process.layout;
        let Scratch {
            code_object,
            stack,
            code,
            ..
        } = &mut *self.scratch;
        let frame = stack.tail[index as usize % MAX_FRAMES as usize];
        if frame.owner() as u16 >= layout.frame_shim_owner {
            return ControlFlow::Continue(());
        }
        let key = CodeKey {
            pid: stack.head.header.pid,
            generation: self.process.generation,
            address: frame.code_address(),
        };
        let Some(identity) = code::read(layout, code_object, key.address) else {
            lose(Loss::CodeFailed);
            return ControlFlow::Continue(());
        };
        if maps::sent_code(key) != Some(identity)
            && code::send(
                layout,
                code_object,
                code,
                key,
                stack.head.header.tid,
                identity,
            )
        {
            let _ = CODES.insert(key, identity, 0);
        }
        ControlFlow::Continue(())
    }
}
