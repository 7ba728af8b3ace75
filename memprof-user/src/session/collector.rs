//! Takes the kernel side's records in: symbols for stacks, the model for pages, and a look at
//! each new program.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use memprof_common::records::{self, member, space_op, task_op};
use memprof_common::{ImageKey, PythonLayout};

use mark_names::MarkNames;

use super::calls::Calls;
use super::detection::Detections;
use super::files::Files;
use super::native::Natives;
use super::{Ending, Outcome, clock};
use crate::bpf::{Attached, Pulse, Tables};
use crate::decode::{DecodeError, Event};
use crate::error::Result;
use crate::model::{Attach, Model, Profile, Stack, StackIndex};
use crate::python::{Interpreter, Known, LiveCode, Symbols};
use crate::target::{Rss, Target, resident_bytes};

mod adoption;
mod before_attach;
mod functions;
mod mark_names;
mod native;

/// A stack record as it was resolved.
type StackKey = (u32, u64);

/// Everything collected so far.
pub struct Collector {
    tables: Tables,
    model: Model,
    symbols: Symbols,
    detections: Detections,
    layouts: HashMap<u32, PythonLayout>,
    /// Interpreters that the kernel side recognises, with their versions.
    images: HashMap<ImageKey, (Known, String)>,
    stacks: HashMap<StackKey, StackIndex>,
    files: Files,
    mark_names: MarkNames,
    calls: Calls,
    /// None: the user does not want to know.
    natives: Option<Natives>,
    records: u64,
    undecoded: u64,
    /// Records dropped when unknown processes were last looked for.
    lost_before: u64,
    /// Processes that the kernel side traced then, and that nobody knew.
    unknown: HashSet<u32>,
    /// How many were adopted.
    adopted: u64,
    started_epoch_s: f64,
    python_seen: bool,
}

impl Collector {
    /// `native`: growth tells its machine instruction.
    pub fn new(tables: Tables, native: bool) -> Self {
        let mut symbols = Symbols::new(Some(Box::new(LiveCode)));
        // Owners without a Python stack point to the first, which is empty.
        let empty = symbols.tables_mut().stack(Stack::default());
        debug_assert_eq!(StackIndex(empty), StackIndex::EMPTY);
        Collector {
            tables,
            model: Model::new(clock::monotonic_epoch_s()),
            symbols,
            detections: Detections::default(),
            layouts: HashMap::new(),
            images: HashMap::new(),
            stacks: HashMap::new(),
            files: Files::default(),
            mark_names: MarkNames::default(),
            calls: Calls::none(),
            natives: native.then(Natives::default),
            records: 0,
            undecoded: 0,
            lost_before: 0,
            unknown: HashSet::new(),
            adopted: 0,
            started_epoch_s: clock::epoch_s(),
            python_seen: false,
        }
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    pub fn model_mut(&mut self) -> &mut Model {
        &mut self.model
    }

    pub fn detections(&mut self) -> &mut Detections {
        &mut self.detections
    }

    /// Records lost so far.
    pub fn lost(&self) -> u64 {
        self.tables.dropped() + self.undecoded
    }

    /// Records taken so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// True while the process is traced. One that went without a record (a lost one) is noticed.
    pub fn is_live(&mut self, pid: u32) -> bool {
        if self.model.process_index(pid).is_none() {
            return false;
        }
        if Target::open(pid).is_ok() {
            return true;
        }
        // Gone, and its record may still be in the ring: the next round takes it. When the ring
        // was full it never comes.
        self.detections.gone_unannounced(pid)
    }

    /// Begins to trace a process that has not executed its program yet.
    pub fn begin(&mut self, pid: u32, ppid: u32) -> Result<()> {
        self.enter(pid, ppid, None)?;
        self.add_threads(pid)
    }

    /// Begins to trace a process; its threads follow. False when it is traced already.
    pub fn enter(
        &mut self,
        pid: u32,
        ppid: u32,
        interpreter: Option<&Interpreter>,
    ) -> Result<bool> {
        let layout = interpreter.map_or(PythonLayout::default(), |found| found.layout);
        let generation = (clock::monotonic_ns() >> 10) as u32;
        if self.tables.add_process(pid, generation, &layout)? == Attached::Already {
            return Ok(false);
        }
        self.detections.set_generation(pid, generation);
        let role = Target::open(pid).map_or_else(|_| pid.to_string(), |target| target.role());
        self.model.attach(Attach {
            pid,
            ppid,
            role,
            python: interpreter.map(|found| found.version.clone()),
            rss_bytes: resident_bytes(pid).unwrap_or(0),
            epoch_s: clock::epoch_s(),
        });
        if let Some(found) = interpreter {
            self.learn(found);
            self.layouts.insert(pid, found.layout);
            self.python_found(pid);
        }
        Ok(true)
    }

    /// Adds every thread of a traced process. Threads made meanwhile are added by the kernel
    /// side, since the process is in its table already.
    pub fn add_threads(&mut self, pid: u32) -> Result<()> {
        let threads = Target::open(pid).and_then(|target| target.threads());
        for tid in threads.unwrap_or_default() {
            self.tables.add_thread(pid, tid)?;
        }
        Ok(())
    }

    /// What is believed now, as JSON.
    pub fn checkpoint(&self) -> serde_json::Result<String> {
        serde_json::to_string(&self.model.checkpoint(&self.tables.pending()))
    }

    /// Takes back a process that was entered and turned out to have gone.
    pub fn leave(&mut self, pid: u32) {
        self.tables.remove_process(pid);
    }

    /// How a process stands in the kernel side.
    pub fn pulse(&self, pid: u32) -> Option<Pulse> {
        self.tables.pulse(pid)
    }

    /// Bytes of the range of a process that still grows inside the kernel side.
    pub fn pending_bytes(&self, pid: u32) -> u64 {
        let pulse = self.pulse(pid);
        pulse.map_or(0, |pulse| {
            pulse.pending_bytes(true) + pulse.pending_bytes(false)
        })
    }

    /// Learns of which file the range is that still grows inside the kernel side.
    pub fn look_at_pending(&mut self, pid: u32) {
        let pending = self.tables.pending_growth(pid);
        if let Some(growth) = pending.filter(is_of_file) {
            self.files.look(&growth);
        }
    }

    /// Takes one record.
    pub fn take(&mut self, event: std::result::Result<Event, DecodeError>) {
        self.records += 1;
        match event {
            Ok(Event::Growth(growth)) => self.growth(&growth),
            Ok(Event::AddressSpace(change)) => {
                if let Some(natives) = &mut self.natives {
                    natives.change(&change);
                }
                if change.header.op == space_op::MAP_EXECUTABLE {
                    self.detections.look(change.header.pid);
                } else {
                    self.files.change(&change);
                    self.model.address_space(&change);
                }
            }
            Ok(Event::Stack { header, id, frames }) => {
                let Some(layout) = self.layouts.get(&header.pid) else {
                    self.undecoded += 1;
                    return;
                };
                let stack = self
                    .symbols
                    .stack(header.pid, layout, &frames, header.flags);
                self.stacks.insert((header.pid, id), StackIndex(stack));
            }
            Ok(Event::Code(code)) => self.symbols.insert_code(*code),
            Ok(Event::Task(task)) => self.task(&task),
            Ok(Event::Interpreter(found)) => self.interpreter(&found),
            Ok(Event::Mapping(mapping)) => {
                let stack = self.stack_of(mapping.header.pid, mapping.stack);
                self.model.mapping(&mapping, stack);
            }
            Ok(Event::Mark(mark)) => self.mark(&mark),
            Ok(Event::MarkName {
                header,
                function,
                name,
            }) => self.mark_names.decorated(header.pid, function, &name),
            Ok(Event::Definition(definition)) => self.calls.defines(definition),
            Err(_) => self.undecoded += 1,
        }
    }

    /// Lets the kernel side recognise the interpreter of a process that was looked at.
    fn learn(&mut self, interpreter: &Interpreter) {
        if let Some(known) = &interpreter.known {
            self.learn_image(known.clone(), interpreter.version.clone());
        }
    }

    fn learn_image(&mut self, known: Known, version: String) {
        let key = known.key;
        if !self.images.contains_key(&key) && self.tables.add_image(key, &known.image) {
            self.images.insert(key, (known, version));
        }
    }

    /// Lets the kernel side recognise the interpreter that a program is going to run.
    pub fn learn_program(&mut self, program: &Path) {
        if let Some((known, version)) = self.detections.detector().of_program(program) {
            self.learn_image(known, version);
        }
    }

    fn interpreter(&mut self, found: &records::Interpreter) {
        let Some((known, version)) = self.images.get(&found.key) else {
            self.undecoded += 1;
            return;
        };
        let pid = found.header.pid;
        self.layouts.insert(pid, known.image.layout_at(found.base));
        self.model.set_python(pid, version);
        self.python_found(pid);
    }

    /// Where a stack is kept that a record names; 0: it has none.
    fn stack_of(&self, pid: u32, id: u64) -> Option<StackIndex> {
        match id {
            0 => None,
            id => self.stacks.get(&(pid, id)).copied(),
        }
    }

    fn growth(&mut self, growth: &records::Growth) {
        self.seen(growth);
        let caller = self.caller(growth);
        if !is_of_file(growth) || self.model.process_index(growth.header.pid).is_none() {
            self.model.growth(growth, caller);
            return;
        }
        for (part, file) in self.files.split(growth) {
            self.model.growth_of(&part, caller, file);
        }
    }

    fn task(&mut self, task: &records::Task) {
        let pid = task.header.pid;
        self.task_of_natives(task);
        match task.header.op {
            task_op::FORK => {
                let parent = task.other;
                self.symbols.fork(parent, pid);
                self.files.fork(parent, pid);
                self.fork_marks((parent, task.header.tid), pid);
                match self.layouts.get(&parent).copied() {
                    Some(layout) => self.layouts.insert(pid, layout),
                    None => self.layouts.remove(&pid),
                };
                self.model.task(task);
                if let Some(parent) = self.model.process(parent).cloned() {
                    self.model.set_role(pid, &parent.role);
                    if let Some(version) = parent.python {
                        self.model.set_python(pid, &version);
                    }
                }
                self.detections.fork(parent, pid);
            }
            task_op::EXEC => {
                self.marks_executed(pid);
                self.symbols.forget(pid);
                self.files.forget(pid);
                self.layouts.remove(&pid);
                self.model.task(task);
                self.refresh_role(pid);
                self.detections.set_generation(pid, task.other);
                self.detections.look(pid);
            }
            task_op::EXIT => {
                self.forget_marks(pid);
                self.model.task(task);
                self.symbols.forget(pid);
                self.files.forget(pid);
                self.layouts.remove(&pid);
                self.stacks.retain(|(owner, _), _| *owner != pid);
                self.detections.forget(pid);
                self.tables.withdraw_layout(pid);
            }
            _ => self.model.task(task),
        }
    }

    /// Takes the process's title as it is now; a worker sets its own some time after fork.
    pub fn refresh_role(&mut self, pid: u32) {
        if let Ok(target) = Target::open(pid)
            && target.is_alive()
        {
            self.model.set_role(pid, &target.role());
        }
    }

    /// Looks for interpreters where a new program or a new library asks for it.
    pub fn settle(&mut self) {
        let tables = &self.tables;
        for found in self.detections.settle(|pid| tables.standing(pid)) {
            let pid = found.pid;
            self.learn(&found.interpreter);
            self.model.set_python(pid, &found.interpreter.version);
            self.layouts.insert(pid, found.interpreter.layout);
            self.python_found(pid);
            // An error means a full table; the process then stays without stacks, which the
            // report shows as not attributed.
            let _ = self
                .tables
                .offer_layout(pid, found.generation, &found.interpreter.layout);
        }
    }

    /// RSS by kind at the end of a live process, for the report.
    fn last_look(&mut self) {
        let pids: Vec<u32> = self.model.live_pids().collect();
        for pid in pids {
            self.refresh_role(pid);
            if let Ok(rss) = Rss::read(pid) {
                // Nothing is pending any more: the hooks are out and everything was taken.
                self.model.set_rss(pid, rss.total(), 0);
            }
            if let Ok(rollup) = crate::target::Rollup::read(pid) {
                let now = clock::epoch_s();
                self.model.set_share(pid, now, rollup.pss, rollup.uss, true);
            }
        }
    }

    /// The result.
    pub fn finish(mut self, command: String, duration: Duration, ending: Ending) -> Outcome {
        self.take_pending();
        self.last_seen(None);
        self.last_look();
        let model = self.model.clone();
        let profile = self.profile_of(model, command, duration);
        let mut warnings = self.detections.into_warnings();
        warnings.extend(self.calls.into_warnings());
        Outcome {
            profile,
            ending,
            python_seen: self.python_seen,
            warnings,
        }
    }

    /// What is known by now, with what the kernel side has not sent yet, as a result.
    pub fn profile(&mut self, command: String, duration: Duration) -> Profile {
        let before = self.model.clone();
        self.take_pending();
        let model = std::mem::replace(&mut self.model, before);
        self.profile_of(model, command, duration)
    }

    /// Takes the ranges that still grow in the kernel side, as they are.
    fn take_pending(&mut self) {
        for growth in self.tables.pending() {
            self.growth(&growth);
        }
    }

    fn profile_of(&self, mut model: Model, command: String, duration: Duration) -> Profile {
        let mut loss = self.tables.loss(self.undecoded);
        for (name, count) in model.anomalies().named() {
            loss.other.push((name.to_owned(), count));
        }
        if self.detections.late() > 0 {
            let name = "interpreters recognised late".to_owned();
            loss.other.push((name, self.detections.late()));
        }
        if self.adopted > 0 {
            let name = "processes adopted late".to_owned();
            loss.other.push((name, self.adopted));
        }
        let shares = model.take_shares();
        let (marks, marked) = model.take_marks(clock::epoch_s());
        let (processes, owners, samples) = model.finish(clock::epoch_s());
        let (functions, frames, stacks) = self.symbols.tables().clone().into_parts();
        let natives = self.natives.as_ref().map(Natives::table);
        Profile {
            command,
            started_epoch_s: self.started_epoch_s,
            duration_s: duration.as_secs_f64(),
            processes,
            functions,
            frames,
            stacks,
            natives: natives.unwrap_or_default().to_vec(),
            files: self.files.table().to_vec(),
            owners,
            samples,
            // For who takes the samples to say.
            metric: None,
            shares,
            marks,
            marked,
            loss,
        }
    }
}

/// Pages of a file or of shared memory.
fn is_of_file(growth: &records::Growth) -> bool {
    matches!(growth.member, member::FILE | member::SHMEM)
}
