//! What programs say of the functions that they are about to define, until it is taken in.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::decode::Definition;

/// For so long it is kept while the interpreter of the process is still to be found: longer than
/// the program waits for an answer (`_patience` in memprof_ebpf_functions.py).
const PATIENCE: Duration = Duration::from_secs(5);

/// Functions of one module, and threads that are in the middle, at most.
const MOST: usize = 4096;

/// The functions of one module, told by a thread that waits for the answer now: nothing changes
/// their reference counts.
pub struct Said {
    pub pid: u32,
    pub functions: Vec<Definition>,
    /// What the thread waits for.
    pub token: u64,
    since: Instant,
}

/// What was said and not taken in yet.
#[derive(Default)]
pub struct Definitions {
    /// By process and thread; more are to come.
    parts: HashMap<(u32, u32), Vec<Definition>>,
    whole: Vec<Said>,
}

impl Definitions {
    /// One function. The last of a module has the token.
    pub fn take(&mut self, definition: Definition) {
        let (pid, token) = (definition.header.pid, definition.token);
        let thread = (pid, definition.header.tid);
        if !self.parts.contains_key(&thread) && self.parts.len() >= MOST {
            return;
        }
        let functions = self.parts.entry(thread).or_default();
        if functions.len() < MOST {
            functions.push(definition);
        }
        if let Some(token) = token {
            let functions = self.parts.remove(&thread).unwrap_or_default();
            let since = Instant::now();
            self.whole.push(Said {
                pid,
                functions,
                token,
                since,
            });
        }
    }

    /// What can be taken in now.
    pub fn take_whole(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.whole)
    }

    /// It cannot be taken in yet.
    pub fn keep(&mut self, said: Said) {
        if said.since.elapsed() < PATIENCE {
            self.whole.push(said);
        }
    }

    /// Whether something waits to be taken in.
    pub fn is_waiting(&self) -> bool {
        !self.whole.is_empty()
    }

    /// The process has gone.
    pub fn forget(&mut self, pid: u32) {
        self.parts.retain(|thread, _| thread.0 != pid);
        self.whole.retain(|said| said.pid != pid);
    }
}
