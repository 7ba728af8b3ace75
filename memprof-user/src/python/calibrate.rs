//! Checks a layout against the live process: the thread states that the runtime lists must be
//! the ones that the threads' own storage leads to.
//!
//! `autoTSSkey` is not in `_Py_DebugOffsets`, glibc's `struct pthread` is nobody's interface, and
//! a build may have been patched: so nothing is taken on trust that the process can prove.

use memprof_common::PythonLayout;

use super::versions::Offsets;
use crate::target::ReadMemory;

/// Interpreters followed in the runtime's list.
const INTERPRETERS: usize = 64;
/// Thread states followed in all interpreters' lists together.
const THREADS: usize = 4096;
/// How far around its known place the `Py_tss_t` is searched.
const SEARCH_BYTES: u64 = 1024;

/// One entry of an interpreter's list of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadState {
    /// Address of the `PyThreadState`.
    pub address: u64,
    /// `thread_id`: what `pthread_self()` gave; on glibc x86-64 the thread pointer.
    pub thread_id: u64,
}

/// Every thread state that the runtime lists, the newest first. The lists change while they are
/// read, and may be damaged: what can be followed within bounds.
pub fn thread_states(
    memory: &impl ReadMemory,
    offsets: &Offsets,
    runtime: u64,
) -> Vec<ThreadState> {
    let mut found = Vec::new();
    let next = |address: u64, offset: u32| {
        memory
            .word(address.wrapping_add(offset.into()))
            .filter(|&next| next != 0)
    };
    let mut interpreter = next(runtime, offsets.runtime_interpreters_head);
    for _ in 0..INTERPRETERS {
        let Some(this) = interpreter else { break };
        let mut tstate = next(this, offsets.interpreter_threads_head);
        while let Some(address) = tstate.filter(|_| found.len() < THREADS) {
            let Some(thread_id) =
                memory.word(address.wrapping_add(offsets.tstate_thread_id.into()))
            else {
                break;
            };
            found.push(ThreadState { address, thread_id });
            tstate = next(address, offsets.tstate_next);
        }
        interpreter = next(this, offsets.interpreter_next);
    }
    found
}

/// True once the runtime has an interpreter.
pub fn is_initialised(memory: &impl ReadMemory, offsets: &Offsets, runtime: u64) -> bool {
    let head = runtime.wrapping_add(offsets.runtime_interpreters_head.into());
    memory.word(head).is_some_and(|head| head != 0)
}

/// What the process proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calibration {
    /// A thread's own storage leads to its thread state.
    Confirmed,
    /// The key was elsewhere: this is the address of the `Py_tss_t`, confirmed.
    Moved(u64),
    /// The interpreter has no threads yet.
    TooEarly,
    /// It has, and none is found by the layout.
    Refuted,
}

/// Compares the layout with the live process.
pub fn calibrate(
    memory: &impl ReadMemory,
    layout: &PythonLayout,
    offsets: &Offsets,
    runtime: u64,
) -> Calibration {
    let threads = thread_states(memory, offsets, runtime);
    let proves = |key| proves(memory, layout, &threads, key);
    match tss_key(memory, layout.source_address) {
        Some(key) if proves(key) => return Calibration::Confirmed,
        None if threads.is_empty() => return Calibration::TooEarly,
        Some(_) if threads.is_empty() => return Calibration::TooEarly,
        _ => {}
    }
    let keys = 0..memprof_common::walk::MAX_PTHREAD_KEY;
    let mut moved = keys
        .filter(|&key| proves(key))
        .flat_map(|key| places_of_key(memory, layout.source_address, key));
    // One place, or it is a guess.
    match (moved.next(), moved.next()) {
        (Some(place), None) => Calibration::Moved(place),
        _ => Calibration::Refuted,
    }
}

/// The key of an initialised `Py_tss_t { int _is_initialized; pthread_key_t _key; }`.
fn tss_key(memory: &impl ReadMemory, address: u64) -> Option<u32> {
    let tss = memory.word(address)?;
    (tss as u32 != 0).then_some((tss >> 32) as u32)
}

/// True when some thread has its own thread state under this key. One is enough: a number of
/// 47 bits does not agree by accident, and threads without (sub-interpreters before 3.12, threads
/// that end just now) are usual.
fn proves(
    memory: &impl ReadMemory,
    layout: &PythonLayout,
    threads: &[ThreadState],
    key: u32,
) -> bool {
    key < memprof_common::walk::MAX_PTHREAD_KEY
        && threads.iter().any(|thread| {
            let slot = thread
                .thread_id
                .wrapping_add(layout.pthread_data.into())
                .wrapping_add(u64::from(key) * 16);
            memory.word(slot) == Some(thread.address)
        })
}

/// Where around `expected` a `Py_tss_t` with this key could be.
fn places_of_key(memory: &impl ReadMemory, expected: u64, key: u32) -> Vec<u64> {
    let start = expected.saturating_sub(SEARCH_BYTES);
    let wanted = 1 | u64::from(key) << 32;
    let Some(bytes) = memory.bytes(start, 2 * SEARCH_BYTES as usize) else {
        return Vec::new();
    };
    let word = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    (0..bytes.len())
        .step_by(4)
        .filter(|&at| word(at) == Some(wanted))
        .map(|at| start + at as u64)
        .collect()
}
