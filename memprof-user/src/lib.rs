//! The user side of memprof-ebpf: reads the kernel side's records, knows which stack owns which
//! resident page, and turns that into files and reports.
//!
//! The way of the data: [`bpf`] (ring buffer) → [`decode`] → [`model`] → [`model::Profile`] →
//! [`capture`], [`sink`], [`report`]. A [`model::Profile`] is finished and immutable; every view
//! is made from it, with no root and no process.

/// As the standard library's, which panics where nobody reads stderr any more (`2>&1 | head`, a
/// terminal that was closed): the trace must not end with the words about it.
macro_rules! eprint {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = write!(std::io::stderr(), $($text)*);
    }};
}

/// See `eprint`.
macro_rules! eprintln {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

pub mod bpf;
pub mod capture;
pub mod cli;
pub mod decode;
pub mod doctor;
pub mod error;
pub mod model;
pub mod output;
pub mod plot;
pub mod python;
pub mod recording;
pub mod report;
pub mod session;
pub mod sink;
pub mod snapshot;
pub mod source;
pub mod target;

pub use error::{Error, Exit, Result};
