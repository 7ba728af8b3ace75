//! What the functions that marks name by number or address are called.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use memprof_common::records::{self, mark_source};

use super::Collector;

/// Names of one process at most: what is beyond has its number for a name.
const MAX_NAMES: usize = 1 << 16;

/// A function: one of `mark_source`, and what its marks carry.
type Key = (u32, u64);

impl Collector {
    /// A call of a marked function begins or ends.
    pub(super) fn mark(&mut self, mark: &records::Mark) {
        let model = &mut self.model;
        if mark.source == records::mark_source::WATCHED {
            self.calls.take(mark, |mark, name| model.mark(mark, name));
        } else {
            model.mark(mark, &self.mark_names.of(mark));
        }
    }
}

/// Names of marked functions, by process.
#[derive(Default)]
pub struct MarkNames {
    processes: HashMap<u32, HashMap<Key, Arc<str>>>,
    /// Each name once, however many processes have it.
    texts: HashSet<Arc<str>>,
}

impl MarkNames {
    /// The program says what a decorated function of it is called.
    pub fn decorated(&mut self, pid: u32, function: u64, name: &str) {
        self.insert(pid, mark_source::DECORATED, function, name);
    }

    /// A function of a process has this name: `module.qualname`.
    pub fn insert(&mut self, pid: u32, source: u32, function: u64, name: &str) {
        let text = match self.texts.get(name) {
            Some(text) => Arc::clone(text),
            None => {
                let text: Arc<str> = Arc::from(name);
                self.texts.insert(Arc::clone(&text));
                text
            }
        };
        let names = self.processes.entry(pid).or_default();
        if names.len() < MAX_NAMES {
            names.insert((source, function), text);
        }
    }

    /// The name of the function that a mark is of; its number when the name was lost.
    pub fn of(&self, mark: &records::Mark) -> Arc<str> {
        let names = self.processes.get(&mark.header.pid);
        match names.and_then(|names| names.get(&(mark.source, mark.function))) {
            Some(name) => Arc::clone(name),
            None => Arc::from(format!("[function {:#x}]", mark.function)),
        }
    }

    /// A child has its parent's functions.
    pub fn fork(&mut self, parent: u32, child: u32) {
        match self.processes.get(&parent).cloned() {
            Some(names) => self.processes.insert(child, names),
            None => self.processes.remove(&child),
        };
    }

    /// A process has gone, or runs another program.
    pub fn forget(&mut self, pid: u32) {
        self.processes.remove(&pid);
    }
}
