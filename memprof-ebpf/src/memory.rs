//! Memory of the target, read by `bpf_probe_read_user`: it never faults a page in, and refuses
//! what is not there.

use aya_ebpf::helpers::generated::{bpf_probe_read_user, bpf_probe_read_user_str};
use memprof_common::walk::{Memory, WINDOW_BYTES};

/// Reads `len` bytes of the target into the beginning of `buffer`; false when they are not
/// readable or more than it holds.
#[inline(always)]
pub fn read_user<const N: usize>(buffer: &mut [u8; N], len: u32, address: u64) -> bool {
    // The mask gives the verifier a bound, the comparison keeps the meaning.
    let len = len & (2 * N.next_power_of_two() as u32 - 1);
    if len > N as u32 {
        return false;
    }
    // SAFETY: `len` bytes fit into `buffer`; the helper checks the target's address itself.
    unsafe { bpf_probe_read_user(buffer.as_mut_ptr().cast(), len, address as *const _) == 0 }
}

/// Reads a string of the target, as much of it as fits; the bytes read with the terminator, which
/// is always there. None when it is not readable.
#[inline(always)]
pub fn read_user_string<const N: usize>(buffer: &mut [u8; N], address: u64) -> Option<u32> {
    let to = buffer.as_mut_ptr().cast();
    // SAFETY: `buffer` has N bytes; the helper checks the target's address itself.
    let read = unsafe { bpf_probe_read_user_str(to, N as u32, address as *const _) };
    u32::try_from(read).ok()
}

/// One word of the target; 0 when it cannot be read.
#[inline(always)]
pub fn user_word(address: u64) -> u64 {
    // The helper fills with zeroes what it could not read.
    let mut word = [0; 8];
    read_user(&mut word, 8, address);
    u64::from_ne_bytes(word)
}

/// Bytes that are filled in bulk and then read by offset. `N` is a power of two: offsets wrap.
#[repr(C, align(8))]
pub struct Buffer<const N: usize>([u8; N]);

impl<const N: usize> Buffer<N> {
    /// See [`read_user`].
    #[inline(always)]
    pub fn fill(&mut self, address: u64, len: u32) -> bool {
        read_user(&mut self.0, len, address)
    }

    /// The value at `offset`, cut down to a multiple of its size, or at what it wraps to.
    #[inline(always)]
    fn at<T: Number>(&self, offset: u32) -> T {
        const { assert!(N.is_power_of_two() && size_of::<T>() <= 8) };
        let offset = offset as usize & (N - size_of::<T>());
        // SAFETY: the masked offset is aligned and `size_of::<T>()` below N at most; the buffer
        // is aligned to 8. Any bytes are a number.
        unsafe { self.0.as_ptr().add(offset).cast::<T>().read() }
    }

    /// Eight bytes.
    #[inline(always)]
    pub fn word(&self, offset: u32) -> u64 {
        self.at(offset)
    }

    /// Four bytes.
    #[inline(always)]
    pub fn int(&self, offset: u32) -> u32 {
        self.at(offset)
    }
}

/// What [`Buffer::at`] reads: sizes are powers of two, every bit pattern is a value.
trait Number: Copy {}
impl Number for u32 {}
impl Number for u64 {}

/// The walk's view of the target: a window in the per-CPU scratch.
#[repr(C, align(8))]
pub struct UserWindow([u8; WINDOW_BYTES]);

/// The multiples of 8 in a page, and those below 256.
const BASES: u64 = 0xff8;
const FIELDS: u64 = 0xf8;
const _: () = assert!(BASES + FIELDS + 8 <= WINDOW_BYTES as u64);

impl Memory for UserWindow {
    #[inline(always)]
    fn fill(&mut self, address: u64, len: u32) -> bool {
        read_user(&mut self.0, len, address)
    }

    #[inline(always)]
    fn word(&self, base: u64, field: u64) -> u64 {
        // SAFETY: the sum of the masked offsets is a multiple of 8 and ends inside the window, as the
        // assertion says; the window is aligned to 8. Any bytes are a number.
        unsafe {
            let base = self.0.as_ptr().add((base & BASES) as usize);
            base.add((field & FIELDS) as usize).cast::<u64>().read()
        }
    }
}
