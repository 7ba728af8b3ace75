//! Where one process keeps the interpreter's global variables: in `_PyRuntime`, or, in 3.6, each
//! by itself.

use super::image::OldGlobals;
use super::layout::TSTATE_INTERP;
use super::versions::Offsets;
use crate::target::ReadMemory;

/// Addresses of global variables; 0: not known, or not in this version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    /// The pointer to the first `PyInterpreterState`: `interpreters.head`, `interp_head`.
    pub interpreters_head: u64,
    /// What holds the pthread key: `autoTSSkey` (3.7–3.14), `autoTLSkey` (3.6).
    pub thread_key: u64,
    /// The pointer to the thread state that holds the GIL: `gilstate.tstate_current`,
    /// `_PyThreadState_Current` (3.6). Not from 3.12 on.
    pub current: u64,
    /// The pointer that is not NULL while the interpreter shuts down.
    pub finalizing: u64,
}

impl Roots {
    /// Those in a `_PyRuntime` at this address.
    pub fn in_runtime(offsets: &Offsets, runtime: u64) -> Roots {
        let at = |offset: u32| runtime.wrapping_add(offset.into());
        Roots {
            interpreters_head: at(offsets.runtime_interpreters_head),
            thread_key: match offsets.runtime_auto_tss_key {
                0 => 0,
                key => at(key),
            },
            current: offsets.runtime_tstate_current.map_or(0, at),
            finalizing: at(offsets.runtime_finalizing),
        }
    }

    /// Those of 3.6 in an image that is mapped at this base.
    pub fn of_globals(globals: &OldGlobals, base: u64) -> Roots {
        let at = |address: Option<u64>| address.map_or(0, |address| base.wrapping_add(address));
        Roots {
            interpreters_head: at(globals.interp_head),
            thread_key: at(globals.auto_tls_key),
            current: at(globals.thread_state_current),
            finalizing: at(globals.finalizing),
        }
    }
}

/// `tcbhead_t.self` of glibc on x86-64 (sysdeps/x86_64/nptl/tls.h): the thread pointer points to
/// itself here.
const THREAD_SELF: u64 = 16;
/// Largest data segment that is searched; libpython's has 400 KiB.
const LARGEST_DATA: u64 = 64 << 20;

/// Finds `interp_head` in the data of a stripped 3.6, whose symbol is gone: the word that leads
/// to an interpreter, whose first thread leads back to it and belongs to a living thread.
pub fn find_interpreters_head(
    memory: &impl ReadMemory,
    offsets: &Offsets,
    data: (u64, u64),
) -> Option<u64> {
    let (start, end) = data;
    let len = end.checked_sub(start).filter(|&len| len <= LARGEST_DATA)?;
    let bytes = memory.bytes(start, usize::try_from(len).ok()?)?;
    let words = bytes.chunks_exact(8).map(|word| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        u64::from_ne_bytes(bytes)
    });
    let at = words
        .zip((start..).step_by(8))
        .find(|(word, _)| is_interpreter(memory, offsets, *word))?;
    Some(at.1)
}

fn is_interpreter(memory: &impl ReadMemory, offsets: &Offsets, address: u64) -> bool {
    // Neither NULL, nor in the first page, nor in the kernel's half.
    if address < 4096 || address >> 47 != 0 || !address.is_multiple_of(8) {
        return false;
    }
    let word = |at: u64, offset: u64| memory.word(at.wrapping_add(offset));
    let proved = || {
        let tstate = word(address, offsets.interpreter_threads_head.into())?;
        let interpreter = word(tstate, TSTATE_INTERP.into())?;
        let thread = word(tstate, offsets.tstate_thread_id.into())?;
        let itself = word(thread, THREAD_SELF)?;
        Some(interpreter == address && itself == thread)
    };
    proved() == Some(true)
}
