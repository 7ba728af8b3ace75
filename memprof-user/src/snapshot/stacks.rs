//! The Python stacks of a process's threads, walked from outside while it goes on.
//!
//! A thread that sleeps has a stack that nobody changes, so what is read of it is exact, and the
//! kernel tells whether it slept all the time. Of one that runs, two walks are compared.

use std::collections::{HashMap, HashSet};

use memprof_common::walk::NoFrame;

use super::{StackFrame, ThreadStack};
use crate::python::walk::{RawStack, walk};
use crate::python::{Interpreter, LiveCode, Symbols};
use crate::target::{ProcessMemory, ReadMemory, Target, Thread};

/// `struct pthread.tid` of glibc on x86-64 (nptl/descr.h): behind the header's 704 bytes and the
/// two pointers of `list`. At its place since glibc 2.4.
const PTHREAD_TID: u64 = 720;

/// Looks at a thread that is never found asleep.
const LOOKS: usize = 4;

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
        let mut stack = ThreadStack {
            tid: thread.as_ref().map(|thread| thread.tid),
            name: thread.map_or_else(String::new, |thread| thread.name),
            running: true,
            torn: true,
            ..ThreadStack::default()
        };
        for _ in 0..LOOKS {
            let before = self.thread(stack.tid);
            let first = self.walk();
            // Named between the walks: when both agree, the code objects were alive meanwhile.
            let mut frames = self.names(&first);
            let second = self.walk();
            let slept = match (before, self.thread(stack.tid)) {
                (Some(before), Some(after)) => after.slept_since(&before),
                _ => false,
            };
            stack.torn = first != second;
            stack.running = !slept;
            if stack.torn {
                frames = self.names(&second);
            }
            stack.truncated =
                second.map_or_else(|reason| reason == NoFrame::Failed, |raw| raw.truncated);
            stack.frames = frames;
            if !stack.running && !stack.torn {
                break;
            }
        }
        stack
    }

    fn thread(&self, tid: Option<u32>) -> Option<Thread> {
        Thread::read(self.pid, tid?).ok()
    }

    fn walk(&self) -> Result<RawStack, NoFrame> {
        walk(&self.interpreter.layout, self.thread_pointer, &self.memory)
    }

    /// Leaf first.
    fn names(&self, walked: &Result<RawStack, NoFrame>) -> Vec<StackFrame> {
        let Ok(raw) = walked else {
            return Vec::new();
        };
        // Fresh ones each time: of a thread that runs, an address may name another code object
        // by now.
        let mut symbols = Symbols::new(Some(Box::new(LiveCode)));
        let frames = symbols.frames(self.pid, &self.interpreter.layout, &raw.frames);
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
