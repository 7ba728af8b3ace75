//! The walk's view of the target: a window in the per-CPU scratch, filled by
//! `bpf_probe_read_user`, which never faults a page in.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use memprof_common::walk::{Memory, WINDOW_BYTES};

/// Window over the current task's memory.
#[derive(Clone, Copy)]
pub struct UserWindow {
    /// `Scratch::window`
    pub buffer: *mut u8,
}

impl Memory for UserWindow {
    #[inline(always)]
    fn fill(&mut self, address: u64, len: u32) -> bool {
        // The mask gives the verifier a bound, the comparison keeps the meaning.
        let len = len & 0x1fff;
        if len as usize > WINDOW_BYTES {
            return false;
        }
        unsafe { bpf_probe_read_user(self.buffer.cast(), len, address as *const _) == 0 }
    }

    #[inline(always)]
    fn word(&self, offset: u32) -> u64 {
        unsafe { *self.buffer.add((offset & 0x1ff8) as usize).cast::<u64>() }
    }

    #[inline(always)]
    fn byte(&self, offset: u32) -> u8 {
        unsafe { *self.buffer.add((offset & 0x1fff) as usize) }
    }
}
