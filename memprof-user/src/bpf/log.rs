//! The kernel side's own messages (`-vv`): aya-log's records, printed to stderr.

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

use crate::error::{Error, Result};

/// Prints each message as a line; aya-log speaks to the `log` facade, this is the other end.
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("[kernel] {} {}", record.level(), record.args());
    }

    fn flush(&self) {}
}

static STDERR: Stderr = Stderr;

/// Level above every message, for [`aya_log::LEVEL`]: silent.
pub const SILENT: u8 = 0;
/// Every level.
pub const ALL: u8 = aya_log::Level::Trace as u8;

/// Prints messages as they come, until the returned task is dropped with its runtime.
pub fn follow(bpf: &mut Ebpf) -> Result<tokio::task::JoinHandle<()>> {
    let failed = |e: String| {
        Error::failed(
            "cannot read the kernel side's log",
            e,
            "leave out one -v, or rebuild the object: cargo xtask build-ebpf",
        )
    };
    let logger = EbpfLogger::init_with_logger(bpf, &STDERR).map_err(|e| failed(e.to_string()))?;
    // SAFETY: the logger owns its map's descriptor and gives it out unchanged while it lives.
    let mut logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }
        .map_err(|e| failed(e.to_string()))?;
    Ok(tokio::spawn(async move {
        while let Ok(mut guard) = logger.readable_mut().await {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    }))
}
