//! Functions without a debug register: marked by the stacks that growth happens to have. A call
//! lasts from the first stack of its thread with the function to the last. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use memprof_common::records::{Header, Mark, mark_op, mark_source};

use super::Chosen;

/// Lanes of these marks: none is the address of a datastack, or of a generator.
const LANE: u64 = 1 << 62;

/// A function to be marked so. What it is called is for each process to say.
struct Function {
    /// The last part of its qualified name: all that 3.10 and older have in a code object.
    bare: String,
    qualname: String,
    file: String,
    first_line: u32,
}

/// Of one thread.
#[derive(Default)]
struct Seen {
    /// Functions on its last stack, outermost first.
    functions: Arc<[usize]>,
    time_ns: u64,
}

/// What is marked by stacks.
#[derive(Default)]
pub struct Sampled {
    functions: Vec<Function>,
    /// By pid and tid.
    threads: HashMap<(u32, u32), Seen>,
    /// By stack: the functions on it, outermost first.
    stacks: HashMap<u32, Arc<[usize]>>,
}

impl Sampled {
    /// Marks this function too.
    pub fn add(&mut self, chosen: &Chosen) {
        let naming = &chosen.function.naming;
        let first_line = chosen.function.first_line;
        let bare = naming.qualname.rsplit('.').next().unwrap_or_default();
        let is_it = |one: &Function| {
            (one.first_line, &*one.bare, &one.file) == (first_line, bare, &naming.file)
        };
        if self.functions.iter().any(is_it) {
            return;
        }
        self.functions.push(Function {
            bare: bare.to_owned(),
            qualname: naming.qualname.clone(),
            file: naming.file.clone(),
            first_line,
        });
        self.stacks.clear();
    }

    /// Nothing is marked so.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// A thread was seen with this stack. `name`: what its process calls the function at this line
    /// of a file; None: it has none such, or watches it.
    pub fn seen<'a>(
        &mut self,
        thread: (u32, u32),
        time_ns: u64,
        stack: u32,
        frames: impl Iterator<Item = (&'a str, &'a str, u32)>,
        name: impl Fn(&str, u32) -> Option<Arc<str>>,
        mut each: impl FnMut(&Mark, &Arc<str>),
    ) {
        let functions = match self.stacks.get(&stack) {
            Some(functions) => Arc::clone(functions),
            None => {
                let functions: Arc<[usize]> = frames.filter_map(|frame| self.find(frame)).collect();
                self.stacks.insert(stack, Arc::clone(&functions));
                functions
            }
        };
        let name = |index: usize| {
            let function = self.functions.get(index)?;
            name(&function.file, function.first_line)
        };
        let last = self.threads.entry(thread).or_default();
        let same = last.functions.iter().zip(functions.iter());
        let same = same.take_while(|(before, now)| before == now).count();
        let mut mark = |op, index: usize, time_ns| {
            if let Some(name) = name(index) {
                each(&mark(thread, op, index as u64 + 1, time_ns), &name);
            }
        };
        for &ended in last.functions[same..].iter().rev() {
            mark(mark_op::END, ended, last.time_ns);
        }
        for &begun in &functions[same..] {
            mark(mark_op::BEGIN, begun, time_ns);
        }
        *last = Seen { functions, time_ns };
    }

    /// Ends what was seen of a process, or of all, when it was last seen. `name`: as above, by pid.
    pub fn end(
        &mut self,
        pid: Option<u32>,
        name: impl Fn(u32, &str, u32) -> Option<Arc<str>>,
        mut each: impl FnMut(&Mark, &Arc<str>),
    ) {
        for (&thread, seen) in &mut self.threads {
            if pid.is_some_and(|pid| pid != thread.0) {
                continue;
            }
            for &index in seen.functions.iter().rev() {
                let function = self.functions.get(index);
                let name = function.and_then(|one| name(thread.0, &one.file, one.first_line));
                if let Some(name) = name {
                    let key = index as u64 + 1;
                    each(&mark(thread, mark_op::END, key, seen.time_ns), &name);
                }
            }
        }
        self.threads
            .retain(|thread, _| pid.is_some_and(|pid| pid != thread.0));
    }

    fn find(&self, (name, file, first_line): (&str, &str, u32)) -> Option<usize> {
        self.functions.iter().position(|one| {
            one.first_line == first_line
                && one.file == file
                && (one.qualname == name || one.bare == name)
        })
    }
}

fn mark((pid, tid): (u32, u32), op: u16, key: u64, time_ns: u64) -> Mark {
    Mark {
        header: Header {
            op,
            pid,
            tid,
            time_ns,
            ..Header::default()
        },
        lane: LANE,
        key,
        source: mark_source::SAMPLED,
        depth: Mark::UNKNOWN_DEPTH,
        ..Mark::default()
    }
}
