//! What the kernel side and the user side agree on: the records of the ring buffer, the
//! configuration handed to the kernel side, the loss counters, and the CPython frame walk.
//!
//! Everything here is `#[repr(C)]` with its padding visible, so that both compilers lay it out
//! alike; sizes are asserted where the type stands. A change of any layout raises
//! [`ABI_VERSION`], and the user side refuses an object of another version.
//!
//! This crate knows neither `std` nor aya.
#![no_std]

pub mod config;
pub mod layout;
pub mod loss;
pub mod records;
pub mod walk;
pub mod watch;

pub use config::{
    Fault, ImageKey, KernelConfig, KnownImage, LayoutOffer, Process, Thread, WatchedSpace,
};
pub use layout::PythonLayout;
pub use loss::Loss;
pub use watch::{Watched, Watches};

/// Version of every layout in this crate. Stands in the BPF object (symbol `ABI`) and in the
/// binary; the loader compares them.
pub const ABI_VERSION: u32 = 17;

/// Bytes in a page. x86-64 has one size; the kernel side is built for x86-64 only so far.
pub const PAGE_BYTES: u64 = 4096;

/// Bytes in a transparent huge page (one PMD entry on x86-64).
pub const HUGE_PAGE_BYTES: u64 = 2 << 20;
