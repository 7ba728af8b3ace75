//! Loops of many rounds, by `bpf_loop`: the verifier looks at one round instead of all.

use core::{ffi::c_void, ops::ControlFlow};

use aya_ebpf::helpers::generated::bpf_loop;

/// A loop: its state, and what it does in each round.
pub trait Rounds {
    /// One round; `Break` ends the loop.
    fn round(&mut self, index: u32) -> ControlFlow<()>;
}

extern "C" fn one_round<R: Rounds>(index: u32, state: *mut c_void) -> i64 {
    // SAFETY: only `run` hands this function to the kernel, with its exclusive borrow of an `R`.
    let state = unsafe { &mut *state.cast::<R>() };
    state.round(index).is_break() as i64
}

/// Runs at most `count` rounds.
#[inline(always)]
pub fn run<R: Rounds>(count: u32, rounds: &mut R) {
    let state = &raw mut *rounds;
    // SAFETY: the kernel calls `one_round::<R>` with `state` and is done when the helper returns.
    unsafe { bpf_loop(count, one_round::<R> as *mut c_void, state.cast(), 0) };
}
