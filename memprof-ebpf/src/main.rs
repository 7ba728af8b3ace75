//! The kernel side: one family of hooks a file under [`probes`]; what they share stands beside
//! them. It knows addresses and numbers, never names, files or policy.
//!
//! What is unsafe stands in [`maps`] (values), [`kernel`] (typed pointers), [`memory`] (the
//! target's memory), [`repeat`] (loops) and [`emit`] (a lock, records with a tail); the rest is
//! ordinary Rust. The verifier has the last word on all of it: it refuses what it cannot prove.
#![no_std]
#![no_main]
#![expect(
    internal_features,
    reason = "atomics: the BPF target's own types have no methods for them"
)]
#![feature(core_intrinsics)]

mod code;
mod emit;
mod images;
mod kernel;
mod maps;
mod memory;
mod probes;
mod repeat;
mod stack;
mod unshare;

/// The version of every shared layout, for the loader to compare.
#[unsafe(no_mangle)]
static ABI: u32 = memprof_common::ABI_VERSION;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
