//! Captures the Python stack of the current thread: walks it, names it by a hash, and sends it
//! once.
//!
//! What was walked are addresses, and code objects die: another one may stand at the address of
//! the one before, with the same callers. So what identifies the code objects is part of a
//! stack's id, and whether they are still the same is asked at each capture. From 3.14 on the
//! interpreter counts the code objects that died, in 3.13 those that were made: one read answers
//! for the whole stack. Before, one read answers for the innermost frame; its callers are looked at
//! each time when one of them was made at run time or has changed before, and else more and more
//! rarely, in the end every [`TRUSTED`] captures: what is replaced again and again is noticed the
//! first time.

use core::ops::ControlFlow;

use memprof_common::{
    Loss, Process, PythonLayout,
    layout::thread_source,
    records::{Header, RawFrame, Stack, flag, kind, walk_result},
    walk::{self, MAX_FRAMES, Memory, NoFrame, Step, Walk},
};

use crate::{
    code, emit,
    maps::{self, CODES, CodeKey, LAYOUTS, LastStack, STACKS, Scratch, SeenStack, SentCode, lose},
    memory::{UserWindow, user_word},
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
const NEAR_FRAMES: u32 = 16;

/// Frames of one round of the loop over further frames: to begin a round costs as much as a frame.
const FRAMES_A_ROUND: u32 = 4;
const _: () = assert!((MAX_FRAMES - NEAR_FRAMES).is_multiple_of(FRAMES_A_ROUND));

/// What a walk gave.
struct Walked {
    hash: u64,
    depth: u32,
    ended: Step,
}

/// Walks from the innermost frame on; the frames go to scratch.
#[inline(always)]
fn walk_from(frame: u64, seed: u64, layout: &PythonLayout, scratch: &mut Scratch) -> Walked {
    let window = &mut scratch.window;
    let frames = &mut scratch.stack.tail;
    let mut walk = Walk::new(layout, frame, seed);
    let mut depth = 0;
    while depth < NEAR_FRAMES {
        match walk.step(window, &mut frames[depth as usize]) {
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
        depth,
        ended: Step::Frame,
    };
    repeat::run((MAX_FRAMES - NEAR_FRAMES) / FRAMES_A_ROUND, &mut far);
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
    depth: u32,
    ended: Step,
}

impl Rounds for Frames<'_> {
    #[inline(always)]
    fn round(&mut self, index: u32) -> ControlFlow<()> {
        // The index that the kernel gives: one that is counted here would have the verifier follow
        // round after round.
        let first = NEAR_FRAMES + index * FRAMES_A_ROUND;
        for next in 0..FRAMES_A_ROUND {
            let out = &mut self.frames[(first + next) as usize % MAX_FRAMES as usize];
            match self.walk.step(self.window, out) {
                Step::Frame => {}
                other => {
                    self.depth = first + next;
                    self.ended = other;
                    return ControlFlow::Break(());
                }
            }
        }
        self.depth = first + FRAMES_A_ROUND;
        ControlFlow::Continue(())
    }
}

/// Address of the innermost frame. `last`: the thread state that this thread had before; in the end,
/// the one it has.
#[inline(always)]
fn innermost(
    layout: &mut PythonLayout,
    last: &mut u64,
    thread_pointer: u64,
    memory: &mut UserWindow,
) -> Result<u64, NoFrame> {
    match walk::likely_frame(layout, *last, thread_pointer, memory) {
        Err(NoFrame::NoThreadState) => {}
        found => return found,
    }
    let slot = walk::thread_slot(layout, thread_pointer, memory)?;
    if layout.thread_source != thread_source::TLS_OFFSET
        && layout.thread_source != thread_source::TLS_MODULE
    {
        // The key never changes once it is there: save the read from now on.
        layout.source_address = slot;
        layout.thread_source = thread_source::TLS_OFFSET;
    }
    let tstate = walk::thread_state_in(slot, thread_pointer, memory)?;
    *last = tstate;
    walk::innermost_frame(layout, tstate, thread_pointer, memory)
}

/// Takes over a layout that the user side found, if it is for the program that runs now: all of
/// it, or where greenlet is.
#[inline(always)]
pub fn adopt_layout(process: &mut Process, pid: u32) {
    let has_layout = process.layout.thread_source != thread_source::NONE;
    if has_layout && process.awaits_greenlet == 0 {
        return;
    }
    let Some(offer) = maps::layout_offer(pid) else {
        return;
    };
    if offer.generation == process.generation {
        if has_layout {
            process.layout.greenlet_module = offer.layout.greenlet_module;
            process.layout.greenlet_offset = offer.layout.greenlet_offset;
        } else {
            process.layout = offer.layout;
        }
        process.awaits_greenlet = 0;
    }
    let _ = LAYOUTS.remove(pid);
}

/// Walks the current thread's stack and makes sure that the user side knows it.
#[inline(always)]
pub fn capture(process: &mut Process, pid: u32, tid: u32, thread_pointer: u64) -> Captured {
    let none = |op| Captured { op, id: 0 };
    adopt_layout(process, pid);
    if process.layout.thread_source == thread_source::NONE {
        return none(walk_result::NO_LAYOUT);
    }
    let (Some(scratch), Some(last)) = (maps::scratch(), maps::last_stack(tid)) else {
        return none(walk_result::FAILED);
    };
    let frame = innermost(
        &mut process.layout,
        &mut last.thread_state,
        thread_pointer,
        &mut scratch.window,
    );
    let frame = match frame {
        Ok(frame) => frame,
        Err(NoFrame::NoLayout) => return none(walk_result::NO_LAYOUT),
        Err(NoFrame::NoThreadState) => return none(walk_result::NO_THREAD_STATE),
        Err(NoFrame::NoFrame) => return none(walk_result::NO_FRAME),
        Err(NoFrame::Failed) => {
            lose(Loss::StackFailed);
            return none(walk_result::FAILED);
        }
    };
    let generation = code_generation(&process.layout, &scratch.window);
    let seed = ((pid as u64) << 32) | process.generation as u64;
    last.flags = 0;
    if process.layout.greenlet_module != 0 {
        look_for_greenlet(&process.layout, last, thread_pointer, scratch);
    }
    let Walked { hash, depth, ended } = walk_from(frame, seed, &process.layout, scratch);
    if depth == 0 {
        lose(Loss::StackFailed);
        return none(walk_result::FAILED);
    }
    let whole = ended == Step::End;
    let flags = last.flags | if whole { 0 } else { flag::TRUNCATED };
    let walked = walk::finish(hash ^ flags as u64);
    let witness = match generation {
        Some(generation) => generation,
        None => innermost_code(&process.layout, scratch),
    };
    let mut id = known(last, walked, witness, generation.is_some());
    if id == 0 {
        scratch.stack.head = Stack {
            header: Header {
                kind: kind::STACK,
                op: 0,
                pid,
                tid,
                flags,
                time_ns: emit::now(),
            },
            id: walked,
            depth,
            _padding: 0,
        };
        id = send(process, scratch, ended);
        remember(last, walked, witness, generation.is_some(), scratch);
    }
    Captured {
        op: walk_result::STACK,
        id,
    }
}

/// Notes whether a greenlet runs that is not the thread's main one.
#[inline(always)]
fn look_for_greenlet(
    layout: &PythonLayout,
    last: &mut LastStack,
    thread_pointer: u64,
    scratch: &mut Scratch,
) {
    let window = &mut scratch.window;
    if last.greenlets == 0 {
        last.greenlets = walk::greenlet_state(layout, thread_pointer, window).unwrap_or(0);
    }
    if last.greenlets != 0 && walk::runs_greenlet(last.greenlets, window) {
        last.flags = flag::GREENLET;
    }
}

/// How many code objects have died, or were made, where the interpreter counts them. The window holds what was
/// read last of the thread state.
#[inline(always)]
fn code_generation(layout: &PythonLayout, window: &UserWindow) -> Option<u64> {
    if layout.code_generation == 0 {
        return None;
    }
    let field = layout.tstate_interp.wrapping_sub(layout.tstate_start);
    let interp = window.word(0, field as u64);
    Some(user_word(
        interp.wrapping_add(layout.code_generation as u64),
    ))
}

/// What identifies the code object of the innermost frame.
#[inline(always)]
fn innermost_code(layout: &PythonLayout, scratch: &mut Scratch) -> u64 {
    let frame = scratch.stack.tail[0];
    if frame.owner() as u16 >= layout.frame_shim_owner {
        return 0;
    }
    code::read(layout, &mut scratch.code_object, frame.code_address()).unwrap_or(0)
}

/// The id of a stack that the user side has and whose code objects are the same; else 0.
#[inline(always)]
fn known(last: &mut LastStack, walked: u64, witness: u64, exact: bool) -> u64 {
    if last.walked == walked {
        return if is_same(&mut last.stack, witness, exact) {
            last.stack.id
        } else {
            0
        };
    }
    let Some(seen) = maps::seen_stack(walked) else {
        return 0;
    };
    if !is_same(seen, witness, exact) {
        return 0;
    }
    last.walked = walked;
    last.stack = *seen;
    seen.id
}

/// Captures of a stack between two looks at all of its code objects, at most. A look costs some
/// 100 ns a frame: this makes it 1 % of a fault.
const TRUSTED: u32 = 64;

#[inline(always)]
fn is_same(stack: &mut SeenStack, witness: u64, exact: bool) -> bool {
    if stack.witness != witness {
        return false;
    }
    if exact {
        return true;
    }
    stack.seen += 1;
    stack.seen < stack.trusted
}

/// Keeps what tells whether a stack is the same the next time. In scratch is what [`send`] left.
#[inline(always)]
fn remember(last: &mut LastStack, walked: u64, witness: u64, exact: bool, scratch: &Scratch) {
    let head = &scratch.stack.head;
    if maps::seen_stack(head.id).is_none() {
        return; // the ring was full: it is sent again
    }
    let trusted = match maps::seen_stack(walked) {
        _ if exact || scratch.fleeting != 0 => 0,
        None => 1,
        Some(seen) if seen.id != head.id => 0,
        // Of one that has changed before, a code object is fleeting.
        Some(seen) if seen.trusted < TRUSTED => seen.trusted * 2,
        Some(_) => TRUSTED,
    };
    let stack = SeenStack {
        id: head.id,
        witness,
        seen: 0,
        trusted,
    };
    let _ = STACKS.insert(walked, stack, 0);
    last.walked = walked;
    last.stack = stack;
}

/// Sends the code objects that the user side does not know, then the stack, unless it knows that;
/// the id that it then has. The stack's head and frames are in scratch.
#[inline(never)]
fn send(process: &Process, scratch: &mut Scratch, ended: Step) -> u64 {
    let Stack { id, depth, .. } = scratch.stack.head;
    scratch.identities = 0;
    scratch.fleeting = 0;
    let mut codes = Codes { process, scratch };
    repeat::run(depth, &mut codes);
    let id = walk::finish(id ^ scratch.identities);
    scratch.stack.head.id = id;
    if maps::seen_stack(id).is_some() {
        return id;
    }
    match ended {
        Step::End => {}
        Step::Failed => lose(Loss::StackFailed),
        Step::Frame => lose(Loss::StackTruncated),
    }
    if emit::with_tail(&scratch.stack, depth) {
        let stack = SeenStack {
            id,
            ..SeenStack::default()
        };
        let _ = STACKS.insert(id, stack, 0);
    }
    id
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
            identities,
            fleeting,
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
        let Some(read) = code::read(layout, code_object, key.address) else {
            lose(Loss::CodeFailed);
            return ControlFlow::Continue(());
        };
        let identity = code::identity(layout, code_object, read);
        *identities = walk::mix(*identities, identity);
        // The outermost frame's code object lives as long as its thread.
        let is_inner = index + 1 < stack.head.depth;
        let sent = maps::sent_code(key);
        if let Some(sent) = sent
            && sent.identity == identity
        {
            *fleeting |= sent.fleeting & is_inner as u64;
            return ControlFlow::Continue(());
        }
        let tid = stack.head.header.tid;
        if code::send(layout, code_object, code, key, tid, identity) {
            let replaces = sent.is_some() || code::is_made_at_run_time(code);
            let sent = SentCode {
                identity,
                fleeting: replaces as u64,
            };
            let _ = CODES.insert(key, sent, 0);
            *fleeting |= sent.fleeting & is_inner as u64;
        }
        ControlFlow::Continue(())
    }
}
