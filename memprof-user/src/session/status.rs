//! The one line that lives on a terminal while the run goes on.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::collector::Collector;
use crate::report::size;
use crate::target::resident_bytes;

/// Redrawn so often.
const EVERY: Duration = Duration::from_millis(250);

/// The status line; silent when stderr is no terminal.
pub struct StatusLine {
    shown: bool,
    active: bool,
    next: Instant,
}

impl StatusLine {
    pub fn new(quiet: bool) -> Self {
        StatusLine {
            shown: false,
            active: !quiet && std::io::stderr().is_terminal(),
            next: Instant::now(),
        }
    }

    pub fn is_due(&self) -> bool {
        self.active && Instant::now() >= self.next
    }

    /// Redraws the line.
    pub fn show(&mut self, collector: &Collector, elapsed: Duration) {
        let model = collector.model();
        let rss: u64 = model
            .live_pids()
            .filter_map(|pid| resident_bytes(pid).ok())
            .sum();
        let status = model.status();
        let line = format!(
            "{:>6.1} s  RSS {}  grown {}  kept {}  processes {}  records {}  lost {}",
            elapsed.as_secs_f64(),
            size(rss),
            size(status.gross),
            size(status.net),
            status.live,
            collector.records(),
            collector.lost(),
        );
        let mut stderr = std::io::stderr().lock();
        // Erase to the end of the line (ECMA-48 EL); a failing terminal is no reason to stop.
        let _ = write!(stderr, "\r{line}\x1b[K");
        let _ = stderr.flush();
        self.shown = true;
        self.next = Instant::now() + EVERY;
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if self.shown {
            let mut stderr = std::io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[K");
            let _ = stderr.flush();
            self.shown = false;
        }
    }
}
