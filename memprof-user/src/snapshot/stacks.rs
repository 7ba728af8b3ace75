//! The Python stacks of a process's threads, walked from outside while it goes on.
//!
//! A thread that sleeps has a stack that nobody changes, so what is read of it is exact, and the
//! kernel tells whether it slept all the time. Of one that runs, two walks are compared.

use std::collections::{HashMap, HashSet};

use memprof_common::records::RawFrame;
use memprof_common::walk::NoFrame;

use super::{StackFrame, ThreadStack};
use crate::python::walk::{RawStack, walk};
use crate::python::{Interpreter, LiveCode, Symbols};
use crate::target::{ProcessMemory, ReadMemory, Target, Thread};

/// `struct pthread.tid` of glibc on x86-64 (nptl/descr.h): behind the header's 704 bytes and the
/// two pointers of `list`. At its place since glibc 2.4.
const PTHREAD_TID: u64 = 720;

/// `PyObject.ob_type`, behind `ob_refcnt` (Include/object.h).
const OB_TYPE: u64 = 8;

/// Looks at a thread whose walks never agree: each takes less than a millisecond.
const LOOKS: usize = 16;
/// Looks at one whose walks agree and that may yet be found asleep.
const LOOKS_FOR_SLEEP: usize = 4;

/// The threads with a Python thread state, the oldest first, and how many have none.
pub(super) fn stacks(target: &Target, interpreter: &Interpreter) -> (Vec<ThreadStack>, usize) {
    let memory = ProcessMemory::new(target.pid);
    let tids = target.threads().unwrap_or_default();
    let threads = tids
        .iter()
        .filter_map(|&tid| Thread::read(target.pid, tid).ok());
    let mut threads: HashMap<u32, Thread> =
        threads.map(|thread| (thread.tid_inside, thread)).collect();
    // One thread may have a state in each of several interpreters.
    let mut seen = HashSet::new();
    let mut states = interpreter.threads(&memory);
    states.reverse();
    states.retain(|state| seen.insert(state.thread_id));
    let stacks = states
        .into_iter()
        .map(|state| {
            let tid = memory.word(state.thread_id.wrapping_add(PTHREAD_TID));
            let thread = tid.and_then(|tid| threads.remove(&(tid as u32)));
            let look = Look {
                pid: target.pid,
                memory,
                interpreter,
                thread_pointer: state.thread_id,
            };
            look.stack(thread)
        })
        .collect();
    (stacks, threads.len())
}

/// What is needed to look at one thread.
struct Look<'a> {
    pid: u32,
    memory: ProcessMemory,
    interpreter: &'a Interpreter,
    thread_pointer: u64,
}

impl Look<'_> {
    fn stack(&self, thread: Option<Thread>) -> ThreadStack {
        let tid = thread.as_ref().map(|thread| thread.tid);
        let mut best = self.look(tid);
        for looks in 1..LOOKS {
            let settled = !best.torn && (!best.running || looks >= LOOKS_FOR_SLEEP);
            if settled {
                break;
            }
            let next = self.look(tid);
            if (next.torn, next.running) <= (best.torn, best.running) {
                best = next;
            }
        }
        best.tid = tid;
        best.name = thread.map_or_else(String::new, |thread| thread.name);
        best
    }

    /// One look: two walks, with the names read in between, so that the code objects were alive
    /// when both agree.
    fn look(&self, tid: Option<u32>) -> ThreadStack {
        let before = self.thread(tid);
        let first = self.walk();
        let mut frames = self.names(first.as_ref().map_or(&[], |raw| &raw.frames));
        let second = self.walk();
        let slept = match (before, self.thread(tid)) {
            (Some(before), Some(after)) => after.slept_since(&before),
            _ => false,
        };
        let (whole, mut truncated) = match &second {
            Ok(raw) => (
                !raw.truncated && raw.frames.iter().all(|raw| self.is_frame(raw)),
                raw.truncated,
            ),
            Err(reason) => (false, *reason == NoFrame::Failed),
        };
        // A thread that lost its CPU in the middle of a call is half-way for milliseconds: both
        // walks then agree on something that is no stack.
        let torn = first != second || !(slept || whole);
        if torn {
            let walked = second.as_ref().map_or(&[][..], |raw| &raw.frames);
            // What follows something that is no code object is no stack.
            let sound = walked.iter().take_while(|raw| self.is_frame(raw)).count();
            truncated |= sound < walked.len();
            frames = self.names(&walked[..sound]);
        }
        ThreadStack {
            running: !slept,
            torn,
            truncated,
            greenlet: second.is_ok_and(|raw| raw.greenlet),
            frames,
            ..ThreadStack::default()
        }
    }

    /// False for what cannot be a frame, as far as the interpreter's types are known.
    fn is_frame(&self, raw: &RawFrame) -> bool {
        let layout = &self.interpreter.layout;
        let code = raw.code_address();
        let is_shim = u16::from(raw.owner()) >= layout.frame_shim_owner;
        if is_shim || (layout.image_start..layout.image_end).contains(&code) {
            return true;
        }
        let kind = self.memory.word(code.wrapping_add(OB_TYPE));
        kind.is_some()
            && self
                .interpreter
                .code_type
                .is_none_or(|code| kind == Some(code))
    }

    fn thread(&self, tid: Option<u32>) -> Option<Thread> {
        Thread::read(self.pid, tid?).ok()
    }

    fn walk(&self) -> Result<RawStack, NoFrame> {
        walk(&self.interpreter.layout, self.thread_pointer, &self.memory)
    }

    /// Leaf first.
    fn names(&self, raw: &[RawFrame]) -> Vec<StackFrame> {
        // Fresh ones each time: of a thread that runs, an address may name another code object
        // by now.
        let mut symbols = Symbols::new(Some(Box::new(LiveCode)));
        let frames = symbols.frames(self.pid, &self.interpreter.layout, raw);
        let functions = symbols.tables().functions();
        let named = frames.iter().rev().filter_map(|frame| {
            let function = functions.get(frame.function as usize)?;
            Some(StackFrame {
                function: function.name.clone(),
                file: function.file.clone(),
                line: frame.line,
            })
        });
        named.collect()
    }
}
