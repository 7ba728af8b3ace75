//! What programs say of the functions that they are about to define, and wait until it is taken in.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Calls;
use crate::bpf::Tables;
use crate::decode::Definition;
use crate::error::Result;
use crate::python::FoundFunction;

/// For so long it is kept while the interpreter of the process is still to be found: longer than
/// the program waits for an answer (`_patience` in memprof_ebpf_functions.py).
const PATIENCE: Duration = Duration::from_secs(5);

/// Functions of one module, threads that are in the middle, and modules that wait, at most: beyond
/// is no program that waits for its answers.
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
            self.keep(Said {
                pid,
                functions,
                token,
                since: Instant::now(),
            });
        }
    }

    /// What can be taken in now.
    pub fn take_whole(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.whole)
    }

    /// It cannot be taken in yet.
    pub fn keep(&mut self, said: Said) {
        if said.since.elapsed() < PATIENCE && self.whole.len() < MOST {
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

impl Calls {
    /// Lets programs go on whose interpreter is not known, and not looked for any more.
    pub fn give_up(&mut self, is_looked_for: impl Fn(u32) -> bool) {
        for said in self.definitions.take_whole() {
            let pid = said.pid;
            let is_known = self.processes.contains_key(&pid) || self.unseen.contains(&pid);
            match is_known || is_looked_for(pid) {
                true => self.definitions.keep(said),
                false => self.answer(&said),
            }
        }
    }

    fn answer(&mut self, said: &Said) {
        if let Some(answers) = &mut self.answers {
            answers.give(said.pid, said.token);
        }
    }

    /// Takes in what programs said. Of a process that is still to be met it is kept.
    pub(super) fn define(&mut self, tables: &mut Tables) -> Result<()> {
        let mut result = Ok(());
        for said in self.definitions.take_whole() {
            let pid = said.pid;
            let Some(process) = self.processes.get_mut(&pid) else {
                self.definitions.keep(said);
                continue;
            };
            let define = |one| process.functions.define(pid, &process.interpreter, one);
            let found: Vec<FoundFunction> = said.functions.iter().filter_map(define).collect();
            for function in &found {
                self.check_one(tables, pid, function.code);
            }
            result = result.and(self.choose(tables, pid, found));
            self.answer(&said);
        }
        result
    }

    /// A program says that it is about to define a function.
    pub fn defines(&mut self, definition: Definition) {
        if !self.patterns.is_empty() {
            self.definitions.take(definition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memprof_common::records::Header;

    fn tell(definitions: &mut Definitions, tid: u32, token: Option<u64>) {
        definitions.take(Definition {
            header: Header {
                pid: 1,
                tid,
                ..Header::default()
            },
            code: 16,
            token,
            module: None,
            qualname: "f".to_owned(),
        });
    }

    #[test]
    fn functions_of_threads_that_tell_at_once_are_kept_apart() {
        let mut definitions = Definitions::default();
        tell(&mut definitions, 1, None);
        tell(&mut definitions, 2, None);
        tell(&mut definitions, 2, Some(7));
        tell(&mut definitions, 1, Some(8));
        let whole = definitions.take_whole();
        let told = whole.iter().map(|said| (said.token, said.functions.len()));
        assert_eq!(told.collect::<Vec<_>>(), [(7, 2), (8, 2)]);
        assert!(!definitions.is_waiting());
    }

    #[test]
    fn a_program_that_tells_without_end_takes_no_more_than_its_room() {
        let mut definitions = Definitions::default();
        (0..3 * MOST as u64).for_each(|token| tell(&mut definitions, 1, Some(token)));
        (0..3 * MOST as u32).for_each(|tid| tell(&mut definitions, tid, None));
        (0..3 * MOST).for_each(|_| tell(&mut definitions, 1, None));
        assert_eq!(definitions.whole.len(), MOST);
        assert_eq!(definitions.parts.len(), MOST);
        assert_eq!(definitions.parts[&(1, 1)].len(), MOST);
    }
}
