//! A look through a process, beside everything else: its heap may take a second to read.

use std::io;
use std::panic::resume_unwind;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::python::{FoundFunction, Functions, Interpreter};

/// What a look gave.
pub struct Looked {
    /// The process that was looked at, and since when it was known.
    pub pid: u32,
    pub since: Instant,
    /// Everything that it was found to have.
    pub functions: Functions,
    /// What of that is new.
    pub fresh: Vec<FoundFunction>,
    /// How long it took.
    pub took: Duration,
}

/// A look that goes on.
pub struct Look(JoinHandle<Looked>);

impl Look {
    /// Begins a look, with what is known of the process. An error: there is no thread to be had.
    pub fn begin(
        pid: u32,
        since: Instant,
        mut functions: Functions,
        interpreter: Interpreter,
    ) -> io::Result<Look> {
        let look = move || {
            let begin = Instant::now();
            let fresh = functions.look(pid, &interpreter).unwrap_or_default();
            Looked {
                pid,
                since,
                functions,
                fresh,
                took: begin.elapsed(),
            }
        };
        let thread = thread::Builder::new().name("look".to_owned());
        Ok(Look(thread.spawn(look)?))
    }

    /// Whether it has come to its end.
    pub fn is_over(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for its end.
    pub fn wait(self) -> Looked {
        self.0.join().unwrap_or_else(|panic| resume_unwind(panic))
    }
}
