//! Checks a layout against the live process: the thread states that the runtime lists must be
//! the ones that the threads' own storage leads to.
//!
//! `autoTSSkey` is not in `_Py_DebugOffsets`, glibc's `struct pthread` is nobody's interface,
//! thread-local variables have no symbols, and a build may have been patched: so nothing is taken
//! on trust that the process can prove.

use memprof_common::PythonLayout;
use memprof_common::layout::thread_source;
use memprof_common::walk::{MAX_PTHREAD_KEY, thread_state};

use super::roots::Roots;
use super::tls;
use super::tls_code::TlsCode;
use super::versions::{Offsets, Row, ThreadKey};
use super::walk::Window;
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
    roots: &Roots,
) -> Vec<ThreadState> {
    let mut found = Vec::new();
    let pointer = |address: u64| memory.word(address).filter(|&next| next != 0);
    let next = |address: u64, offset: u32| pointer(address.wrapping_add(offset.into()));
    let mut interpreter = pointer(roots.interpreters_head);
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
pub fn is_initialised(memory: &impl ReadMemory, roots: &Roots) -> bool {
    memory
        .word(roots.interpreters_head)
        .is_some_and(|head| head != 0)
}

/// What the process proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calibration {
    /// A thread's own storage leads to its thread state.
    Confirmed,
    /// It does so by this layout, which differs in where the thread state is found.
    Moved(PythonLayout),
    /// The interpreter has no threads yet.
    TooEarly,
    /// It has, and none is found by the layout.
    Refuted,
}

/// What is known of the interpreter's thread-local variables beforehand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tls<'a> {
    /// What its code tells.
    pub code: Option<&'a TlsCode>,
    /// Which one its library is among the modules that have such.
    pub module: Option<u64>,
}

/// Compares the layout with the live process.
pub fn calibrate(
    memory: &impl ReadMemory,
    row: &Row,
    layout: &PythonLayout,
    offsets: &Offsets,
    roots: &Roots,
    tls: Tls,
) -> Calibration {
    let threads = thread_states(memory, offsets, roots);
    if threads.is_empty() {
        return Calibration::TooEarly;
    }
    match row.thread_key {
        ThreadKey::Tls => by_tls(memory, layout, &threads, tls),
        ThreadKey::Int | ThreadKey::Tss => by_key(memory, row, layout, &threads),
    }
}

fn by_tls(
    memory: &impl ReadMemory,
    layout: &PythonLayout,
    threads: &[ThreadState],
    tls: Tls,
) -> Calibration {
    match tls::offset(memory, threads, tls.code) {
        None => match in_module(memory, layout, threads, tls) {
            Some(layout) => Calibration::Moved(layout),
            None => Calibration::Refuted,
        },
        Some(offset)
            if layout.thread_source == thread_source::TLS_OFFSET
                && layout.source_address == offset =>
        {
            Calibration::Confirmed
        }
        Some(offset) => Calibration::Moved(at_slot(layout, offset)),
    }
}

/// The layout with a thread state among the variables of a library that was opened at run time, if
/// a thread has its own there.
fn in_module(
    memory: &impl ReadMemory,
    layout: &PythonLayout,
    threads: &[ThreadState],
    tls: Tls,
) -> Option<PythonLayout> {
    let code = tls.code.filter(|code| !code.from_thread_pointer)?;
    let module = u32::try_from(tls.module?).ok()?;
    let offset = u32::try_from(code.gilstate).ok()?;
    let layout = PythonLayout {
        thread_source: thread_source::TLS_MODULE,
        source_address: u64::from(module) << 32 | u64::from(offset),
        ..*layout
    };
    let mut window = Window::new(memory);
    let proves = |thread: &ThreadState| {
        thread_state(&layout, thread.thread_id, &mut window) == Ok(thread.address)
    };
    threads.iter().any(proves).then_some(layout)
}

/// The layout with a thread state at a fixed distance from the thread pointer.
fn at_slot(layout: &PythonLayout, offset: u64) -> PythonLayout {
    PythonLayout {
        thread_source: thread_source::TLS_OFFSET,
        source_address: offset,
        ..*layout
    }
}

fn by_key(
    memory: &impl ReadMemory,
    row: &Row,
    layout: &PythonLayout,
    threads: &[ThreadState],
) -> Calibration {
    let proves = |key| proves(memory, layout, threads, key);
    if key(memory, row, layout).is_some_and(proves) {
        return Calibration::Confirmed;
    }
    let mut keys = (0..MAX_PTHREAD_KEY).filter(|&key| proves(key));
    // One key, or it is a guess.
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return Calibration::Refuted;
    };
    if row.thread_key == ThreadKey::Tss
        && let [place] = places_of_key(memory, layout.source_address, key)[..]
    {
        // `tstate_current` stands before it in the same structure.
        let by = place.wrapping_sub(layout.source_address);
        let current_address = match layout.current_address {
            0 => 0,
            current => current.wrapping_add(by),
        };
        return Calibration::Moved(PythonLayout {
            source_address: place,
            current_address,
            ..*layout
        });
    }
    // Nothing tells where the key is kept, but it never changes.
    let offset = u64::from(layout.pthread_data) + u64::from(key) * 16;
    let mut moved = at_slot(layout, offset);
    if row.thread_key == ThreadKey::Tss {
        moved.current_address = 0;
    }
    Calibration::Moved(moved)
}

/// The key, where the layout says that it is kept.
fn key(memory: &impl ReadMemory, row: &Row, layout: &PythonLayout) -> Option<u32> {
    if layout.source_address == 0 || layout.thread_source == thread_source::TLS_OFFSET {
        return None;
    }
    let word = memory.word(layout.source_address)?;
    match row.thread_key {
        // An int, negative while there is none.
        ThreadKey::Int => Some(word as u32),
        // Py_tss_t { int _is_initialized; pthread_key_t _key; }
        _ => (word as u32 != 0).then_some((word >> 32) as u32),
    }
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
    key < MAX_PTHREAD_KEY
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
