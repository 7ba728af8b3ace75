//! Has the kernel side watch the calls of a process: its functions by address, and a watchpoint
//! in each of its threads that did not inherit one.

use std::io;
use std::sync::Arc;

use memprof_common::watch::{WatchOffsets, Watched, Watches, frames, watched_flag};

use super::{CHECK, Calls, Chosen, Correction, Instant, Process, clock};
use crate::bpf::Tables;
use crate::python::Interpreter;
use crate::python::functions::frame_specials;
use crate::target::{ProcessMemory, ReadMemory, Target};

/// Rounds over the threads of a process: each finds those that were made meanwhile by a thread
/// without watchpoints.
const ROUNDS: usize = 16;

/// A count of references that no function has: that of an object which lives for ever (bit 31,
/// Include/refcount.h of 3.12), and is not counted. None is watched.
const IMMORTAL: u32 = 1 << 31;

impl Calls {
    /// Has the calls of the chosen functions watched, in all threads; what cannot be is marked by
    /// stacks.
    pub(super) fn arm(&mut self, tables: &mut Tables, pid: u32) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        let Some(points) = &mut self.points else {
            return;
        };
        let before = tables.watches(pid).unwrap_or_default();
        let mut watches = before;
        watches.offsets = offsets(&process.interpreter);
        let counted = enter(process, pid, &mut watches, tables);
        if watches.functions.iter().all(|one| one.code == 0) {
            return;
        }
        // A forked child has them already, and counts.
        if watches != before && !(counted && tables.set_watches(pid, &watches)) {
            self.says.full(pid);
        }
        let mut refused: Vec<(u64, io::Error)> = Vec::new();
        let mut others_have = 0;
        for round in 0..ROUNDS {
            let mut opened = false;
            let threads = Target::open(pid).and_then(|target| target.threads());
            for tid in threads.unwrap_or_default() {
                let before = tables.armed(tid);
                let mut armed = before;
                for (slot, watched) in watches.functions.iter().enumerate() {
                    let bit = 1 << slot;
                    let failed = refused.iter().any(|(code, _)| *code == watched.code);
                    if watched.code == 0 || armed & bit != 0 || failed {
                        continue;
                    }
                    match points.open(process.family, tid, watched.code) {
                        Ok(()) => armed |= bit,
                        // It has just gone.
                        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
                        // A thread that was just made by one that has it: it inherited the
                        // watchpoint, and was made before that was noted.
                        Err(e)
                            if e.raw_os_error() == Some(libc::ENOSPC)
                                && round > 0
                                && others_have & bit != 0 =>
                        {
                            armed |= bit;
                        }
                        Err(e) => refused.push((watched.code, e)),
                    }
                }
                if armed == before {
                    continue;
                }
                opened = true;
                others_have |= armed;
                tables.set_armed(tid, armed);
                if tables.watches(pid) != Some(watches) {
                    // It has executed another program meanwhile, whose addresses they are not.
                    tables.set_armed(tid, 0);
                    for (slot, watched) in watches.functions.iter().enumerate() {
                        if (armed & !before) >> slot & 1 == 1 {
                            points.close_one(process.family, tid, watched.code);
                        }
                    }
                    return;
                }
            }
            if !opened {
                break;
            }
        }
        for (code, _) in &refused {
            self.release(tables, pid, *code);
        }
        let Some(process) = self.processes.get(&pid) else {
            return;
        };
        for chosen in &process.chosen {
            if chosen.armed_ns.is_some() {
                self.says.watched(chosen);
                continue;
            }
            let mut errors = refused.iter();
            let error = errors.find(|(code, _)| *code == chosen.function.code);
            self.says.sampled(chosen, error.map(|(_, error)| error));
            self.sampled.add(chosen);
        }
    }

    /// The calls of this function are not watched any more in a process.
    fn release(&mut self, tables: &mut Tables, pid: u32, code: u64) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        for chosen in &mut process.chosen {
            if chosen.function.code == code {
                chosen.armed_ns = None;
            }
        }
        let family = process.family;
        let Some(slot) = clear(tables, pid, code) else {
            return;
        };
        disarm(tables, pid, slot);
        // Relatives that inherited the watchpoint and still have the function keep it, and then so
        // does this process.
        let has_it = |one: &Process| one.chosen.iter().any(|one| one.function.code == code);
        let mut others = self.processes.iter().filter(|(other, _)| **other != pid);
        if others.any(|(_, one)| one.family == family && has_it(one)) {
            return;
        }
        if let Some(points) = &mut self.points {
            points.close(family, code);
        }
    }

    /// The calls of this function are not watched any more in a process and its relatives, and
    /// those that were are forgotten.
    pub(super) fn release_of_family(&mut self, tables: &mut Tables, pid: u32, chosen: &Chosen) {
        let code = chosen.function.code;
        let Some(family) = self.processes.get(&pid).map(|process| process.family) else {
            return;
        };
        if let Some(points) = &mut self.points {
            points.close(family, code);
        }
        for (&pid, process) in &mut self.processes {
            if process.family != family {
                continue;
            }
            process.chosen.retain(|chosen| chosen.function.code != code);
            self.corrections.push(Correction {
                pid,
                name: Arc::clone(&chosen.name),
                instead: None,
            });
            if let Some(slot) = clear(tables, pid, code) {
                disarm(tables, pid, slot);
            }
        }
    }

    /// Lets go of functions whose code objects died: their module was loaded again.
    pub(super) fn check(&mut self, tables: &mut Tables, pid: u32) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        process.next_check = Instant::now() + CHECK;
        let chosen = process.chosen.iter().map(|chosen| chosen.function.code);
        for code in chosen.collect::<Vec<u64>>() {
            self.check_one(tables, pid, code);
        }
    }

    /// The same for its relatives too: a watchpoint that one of them still has is not free.
    pub(super) fn check_family(&mut self, tables: &mut Tables, pid: u32) {
        let family = self.processes.get(&pid).map(|process| process.family);
        let relatives = self.processes.iter();
        let relatives = relatives.filter(|(_, one)| Some(one.family) == family);
        for pid in relatives.map(|(&pid, _)| pid).collect::<Vec<u32>>() {
            self.check(tables, pid);
        }
    }

    /// Lets go of the function with this code object if that died, be there another one by now.
    pub(super) fn check_one(&mut self, tables: &mut Tables, pid: u32, code: u64) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        let watches = tables.watches(pid).unwrap_or_default();
        let slot = watches.functions.iter().position(|one| one.code == code);
        let was_freed = slot.and_then(|slot| tables.count(pid, slot)) == Some(0);
        // What cannot be read has gone with its process.
        let object_type = ProcessMemory::new(pid).word(code.wrapping_add(8));
        let is_other = object_type.is_some_and(|is| Some(is) != process.interpreter.code_type);
        if was_freed || is_other {
            process.chosen.retain(|chosen| chosen.function.code != code);
            process.next_look = None;
            self.release(tables, pid, code);
        }
    }
}

/// Takes a function from those that the kernel side knows of a process. Its place, if it had one.
fn clear(tables: &mut Tables, pid: u32, code: u64) -> Option<usize> {
    let mut watches = tables.watches(pid)?;
    let slot = watches.functions.iter().position(|one| one.code == code)?;
    watches.functions[slot] = Watched::default();
    tables.set_watches(pid, &watches);
    Some(slot)
}

/// No thread of a process has this watchpoint any more.
fn disarm(tables: &mut Tables, pid: u32, slot: usize) {
    let threads = Target::open(pid).and_then(|target| target.threads());
    for tid in threads.unwrap_or_default() {
        let armed = tables.armed(tid);
        tables.set_armed(tid, armed & !(1 << slot));
    }
}

/// Gives the chosen functions the places that are free. False: the kernel side has no room.
fn enter(process: &mut Process, pid: u32, watches: &mut Watches, tables: &mut Tables) -> bool {
    let memory = ProcessMemory::new(pid);
    let mut counted = true;
    for chosen in &mut process.chosen {
        let function = &chosen.function;
        if watches
            .functions
            .iter()
            .any(|one| one.code == function.code)
        {
            continue;
        }
        let Some(count) = memory.word(function.code).map(|word| word as u32) else {
            continue;
        };
        let free = watches.functions.iter().position(|one| one.code == 0);
        let Some(slot) = free.filter(|_| count & IMMORTAL == 0) else {
            continue;
        };
        counted &= tables.set_count(pid, slot, count);
        watches.functions[slot] = Watched {
            code: function.code,
            frame_bytes: function.frame_bytes,
            flags: match function.is_generator {
                true => watched_flag::GENERATOR,
                false => 0,
            },
        };
        chosen.armed_ns = Some(clock::monotonic_ns());
    }
    counted
}

/// What the kernel side needs to tell calls of this interpreter.
fn offsets(interpreter: &Interpreter) -> WatchOffsets {
    let offsets = &interpreter.offsets;
    WatchOffsets {
        frames: match offsets.tstate_datastack {
            Some(_) => frames::DATASTACK,
            None => frames::OBJECTS,
        },
        tstate_datastack: offsets.tstate_datastack.unwrap_or(0),
        code_frame_words: offsets.code_frame_words.unwrap_or(0),
        code_stack_words: offsets.code_stack_words.unwrap_or(0),
        frame_specials: frame_specials(offsets),
        linked_at_end: (interpreter.layout.version == 0x030b).into(),
        frame_type: interpreter.frame_type.unwrap_or(0),
    }
}
