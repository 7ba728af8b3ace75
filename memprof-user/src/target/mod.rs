//! What the operating system says about a process, seen from outside: who it is, what it has
//! mapped, what is in its memory and in the files it runs.
//!
//! Everything here is input from a process that is not trusted and that may end at any moment:
//! lengths are bound, and "it has gone" is an ordinary result. Nothing here writes to a process
//! or stops it. `memory` (reading), `pagemap` (its ioctl) and `launch` (between fork and exec) hold
//! the only `unsafe` of this module.

pub mod demangle;
pub mod elf;
pub mod functions;
pub mod launch;
pub mod mappings;
pub mod memory;
pub mod open;
pub mod pagemap;
pub mod process;
pub mod rss;
pub mod thread;

pub use demangle::demangled;
pub use elf::{Image, Symbol};
pub use functions::Functions;
pub use launch::{IgnoredSignals, Launched, RunAs};
pub use mappings::{Mapping, Mappings, is_on_tmpfs};
pub use memory::{ProcessMemory, ReadMemory};
pub use pagemap::{PageBytes, PageKind, Pagemap};
pub use process::{Target, children, descendants, pids};
pub use rss::{Rollup, Rss, Statm, resident_bytes};
pub use thread::Thread;

use std::io::{self, Read};

/// Reads a file of /proc whole, up to `limit` bytes; what lies beyond is left out.
fn read_bounded(path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(limit)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The error for a process that ended while it was looked at.
fn gone(pid: u32) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("process {pid} has gone"))
}
