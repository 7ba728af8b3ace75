//! `--func`: finds the functions that were asked for in each process, has their calls watched,
//! and says what cannot be.
//!
//! The kernel side watches four functions of a process, as many as the processor has debug
//! registers. Others are marked by the stacks that happen to be taken, which is said.

mod answers;
mod arm;
mod choose;
mod definitions;
mod look;
mod open;
mod sampled;
mod says;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use memprof_common::records::Mark;

use super::clock;
use crate::bpf::{Tables, Watchpoints};
use crate::error::Result;
use crate::python::patterns::Fit;
use crate::python::{Detection, Detector, FoundFunction, Functions, Interpreter, Pattern};
use crate::target::Target;

use answers::Answers;
use definitions::Definitions;
use look::{Look, Looked};
use open::{Clearing, OpenCalls};
use sampled::Sampled;
use says::Says;

/// For so long after an interpreter was found a name that is missing is looked for all the time:
/// a program defines its functions and calls them at once.
const YOUNG: Duration = Duration::from_secs(2);

/// Time between two looks at a young process, and at least between two at an older one.
const SOON: Duration = Duration::from_millis(5);
const LATER: Duration = Duration::from_millis(250);

/// A look is followed by a pause of so many times its length, for a young process and an older
/// one: looking takes a quarter of the time, or a twentieth.
const PAUSES: (u32, u32) = (3, 20);

/// How often it is checked that the functions are still there.
const CHECK: Duration = Duration::from_secs(1);

/// A function that is marked in a process.
#[derive(Clone, Debug)]
struct Chosen {
    function: FoundFunction,
    name: Arc<str>,
    /// Index of the name that means it.
    pattern: usize,
    fit: Fit,
    /// Since when its calls are watched, `CLOCK_MONOTONIC`; None: it has no debug register.
    armed_ns: Option<u64>,
}

/// One process.
#[derive(Clone)]
struct Process {
    interpreter: Interpreter,
    functions: Functions,
    chosen: Vec<Chosen>,
    /// Names that mean too many functions of it.
    refused: Vec<usize>,
    open: OpenCalls,
    since: Instant,
    /// None: it was not looked at yet.
    next_look: Option<Instant>,
    next_check: Instant,
    /// Processes forked from one another share watchpoints.
    family: u32,
}

/// What is wrong in the marks so far: the name of a function of a process.
pub struct Correction {
    pub pid: u32,
    pub name: Arc<str>,
    /// What it is called; None: it was not meant, and its calls are to be forgotten.
    pub instead: Option<Arc<str>>,
}

/// The functions that were asked for, in all processes.
pub struct Calls {
    patterns: Vec<Pattern>,
    points: Option<Watchpoints>,
    processes: HashMap<u32, Process>,
    /// Processes whose interpreter was found and that were not looked at yet.
    unseen: HashSet<u32>,
    definitions: Definitions,
    /// Programs that wait look there.
    answers: Option<Answers>,
    /// One process at a time is looked at.
    looking: Option<Look>,
    /// No older process is looked at before.
    pause_until: Instant,
    sampled: Sampled,
    corrections: Vec<Correction>,
    says: Says,
}

impl Calls {
    /// Nothing is marked.
    pub fn none() -> Self {
        Calls::of(Vec::new(), None, None)
    }

    /// Marks the functions that these names mean. `answers`: a folder in which programs that tell
    /// of functions look for answers.
    pub fn of(
        patterns: Vec<Pattern>,
        points: Option<Watchpoints>,
        answers: Option<PathBuf>,
    ) -> Self {
        Calls {
            definitions: Definitions::default(),
            answers: answers.and_then(|folder| Answers::open(folder).ok()),
            looking: None,
            patterns,
            points,
            processes: HashMap::new(),
            unseen: HashSet::new(),
            pause_until: Instant::now(),
            sampled: Sampled::default(),
            corrections: Vec::new(),
            says: Says::default(),
        }
    }

    /// An interpreter was found in this process; it may have been before, and then it is the same
    /// one with more known of it (greenlet was imported).
    pub fn found(&mut self, pid: u32) {
        if !self.patterns.is_empty() && !self.processes.contains_key(&pid) {
            self.unseen.insert(pid);
        }
    }

    /// The child has its parent's functions, and the calls of the thread that forked it.
    pub fn fork(&mut self, tables: &mut Tables, (parent, tid): (u32, u32), child: u32) {
        self.forget_functions(child);
        if self.unseen.contains(&parent) {
            self.unseen.insert(child);
        }
        let Some(process) = self.processes.get(&parent) else {
            return;
        };
        // It may import functions of its own now.
        let now = Instant::now();
        let process = Process {
            open: process.open.forked(tid, child),
            since: now,
            next_look: process.next_look.map(|_| now + SOON),
            ..process.clone()
        };
        self.processes.insert(child, process);
        self.arm(tables, child);
    }

    /// The process has executed another program; to be told before [`Calls::forget`]. Its fork may
    /// have been heard of after that: what was noted then is of the program before.
    pub fn executed(&self, tables: &mut Tables, pid: u32) {
        if !self.processes.contains_key(&pid) {
            return;
        }
        tables.forget_watches(pid);
        let threads = Target::open(pid).and_then(|target| target.threads());
        for tid in threads.unwrap_or_default() {
            tables.set_armed(tid, 0);
        }
    }

    /// The process has gone, or executed another program.
    pub fn forget(&mut self, pid: u32) {
        self.definitions.forget(pid);
        if let Some(answers) = &mut self.answers {
            answers.forget(pid);
        }
        self.forget_functions(pid);
    }

    fn forget_functions(&mut self, pid: u32) {
        self.unseen.remove(&pid);
        let Some(gone) = self.processes.remove(&pid) else {
            return;
        };
        self.says.remember(&gone.functions, self.patterns.len());
        let mut others = self.processes.values();
        if others.all(|other| other.family != gone.family)
            && let Some(points) = &mut self.points
        {
            points.close_family(gone.family);
        }
    }

    /// When a process is to be looked at next.
    pub fn next_look(&self) -> Option<Instant> {
        let waits = self.looking.is_some() || self.definitions.is_waiting();
        if waits || !self.unseen.is_empty() {
            return Some(Instant::now() + SOON);
        }
        let missing = self.processes.values().filter(|one| self.is_missing(one));
        missing.map(|process| self.due(process)).min()
    }

    /// A first look waits for nothing.
    fn due(&self, process: &Process) -> Instant {
        let next = process.next_look.map(|next| next.max(self.pause_until));
        next.unwrap_or(process.since)
    }

    /// True while a name means nothing in a process, or may come to mean more, or better.
    fn is_missing(&self, process: &Process) -> bool {
        let is_of = |index: usize, one: &Chosen| one.pattern == index && one.fit > Fit::Installed;
        let has = |index: usize| process.chosen.iter().any(|one| is_of(index, one));
        let mut patterns = self.patterns.iter().enumerate();
        patterns.any(|(index, pattern)| {
            !process.refused.contains(&index) && (pattern.is_glob() || !has(index))
        })
    }

    /// Looks for functions where that is due, and waits for what is found. The error is for a name
    /// that means too much.
    pub fn look_now(&mut self, tables: &mut Tables, detector: &mut Detector) -> Result<()> {
        self.meet_all(detector);
        for pid in self.due_pids() {
            let Some(look) = self.begin_look(pid) else {
                continue;
            };
            self.end_look(tables, look.wait())?;
        }
        Ok(())
    }

    /// Does what is due: takes in what programs said of functions that they are about to define,
    /// and what a look found, begins the next one. The error is for a name that means too much.
    pub fn look(&mut self, tables: &mut Tables, detector: &mut Detector) -> Result<()> {
        self.meet_all(detector);
        let now = Instant::now();
        let due = |process: &Process| process.next_check <= now;
        let due = self.processes.iter().filter(|(_, process)| due(process));
        for pid in due.map(|(&pid, _)| pid).collect::<Vec<u32>>() {
            self.check(tables, pid);
        }
        let mut result = self.define(tables);
        if let Some(look) = self.looking.take_if(|look| look.is_over()) {
            result = result.and(self.end_look(tables, look.wait()));
        }
        if self.looking.is_none() {
            let first = self.due_pids().first().copied();
            self.looking = first.and_then(|pid| self.begin_look(pid));
        }
        result
    }

    fn meet_all(&mut self, detector: &mut Detector) {
        for pid in std::mem::take(&mut self.unseen) {
            self.meet(pid, detector);
        }
    }

    fn meet(&mut self, pid: u32, detector: &mut Detector) {
        let Ok(target) = Target::open(pid) else {
            return;
        };
        let Ok(Detection::Python(interpreter)) = detector.detect(&target) else {
            // It is just being set up.
            self.unseen.insert(pid);
            return;
        };
        let now = Instant::now();
        let process = Process {
            interpreter: *interpreter,
            functions: Functions::default(),
            chosen: Vec::new(),
            refused: Vec::new(),
            open: OpenCalls::default(),
            since: now,
            next_look: None,
            next_check: now + CHECK,
            family: pid,
        };
        self.processes.insert(pid, process);
    }

    /// Processes that are to be looked at now, the most urgent first.
    fn due_pids(&self) -> Vec<u32> {
        let now = Instant::now();
        let missing = self
            .processes
            .iter()
            .filter(|(_, one)| self.is_missing(one));
        let due = missing.map(|(&pid, process)| (self.due(process), pid));
        let mut due: Vec<(Instant, u32)> = due.filter(|(due, _)| *due <= now).collect();
        due.sort_unstable();
        due.into_iter().map(|(_, pid)| pid).collect()
    }

    /// None: it is not possible now.
    fn begin_look(&mut self, pid: u32) -> Option<Look> {
        let process = self.processes.get_mut(&pid)?;
        let (functions, interpreter) = (process.functions.clone(), process.interpreter.clone());
        let look = Look::begin(pid, process.since, functions, interpreter);
        if look.is_err() {
            process.next_look = Some(Instant::now() + LATER);
        }
        look.ok()
    }

    fn end_look(&mut self, tables: &mut Tables, looked: Looked) -> Result<()> {
        let now = Instant::now();
        let process = self.processes.get_mut(&looked.pid);
        // Another one may have its pid by now.
        let Some(process) = process.filter(|process| process.since == looked.since) else {
            return Ok(());
        };
        let (next, pause) = match process.since + YOUNG > now {
            true => (SOON, PAUSES.0),
            false => (LATER, PAUSES.1),
        };
        process.next_look = Some(now + next);
        self.pause_until = now + looked.took * pause;
        process.functions = looked.functions;
        self.choose(tables, looked.pid, looked.fresh)
    }

    /// Takes one hit of a watchpoint; hands on the begins and ends that it means.
    pub fn take(&mut self, hit: &Mark, mut each: impl FnMut(&Mark, &Arc<str>)) {
        let Some(process) = self.processes.get_mut(&hit.header.pid) else {
            return;
        };
        let clearing = Clearing::of(process.interpreter.layout.version);
        let chosen = &process.chosen;
        let of = |code: u64| chosen.iter().find(|chosen| chosen.function.code == code);
        let Some(watched) = of(hit.function) else {
            return;
        };
        let since_ns = watched.armed_ns.unwrap_or(0);
        let is_generator = watched.function.is_generator;
        process
            .open
            .take(hit, clearing, is_generator, since_ns, |mark| {
                if let Some(chosen) = of(mark.function) {
                    each(mark, &chosen.name);
                }
            });
    }

    /// A thread was seen with these functions on its stack, given by index, name, file and first
    /// line, outermost first.
    pub fn seen<'a>(
        &mut self,
        thread: (u32, u32),
        time_ns: u64,
        stack: u32,
        frames: impl Iterator<Item = (&'a str, &'a str, u32)>,
        each: impl FnMut(&Mark, &Arc<str>),
    ) {
        let name = |file: &str, line| sampled_name(&self.processes, thread.0, file, line);
        self.sampled
            .seen(thread, time_ns, stack, frames, name, each);
    }

    /// What was seen of a process ends when it was last seen.
    pub fn last_seen(&mut self, pid: Option<u32>, each: impl FnMut(&Mark, &Arc<str>)) {
        let name = |pid, file: &str, line| sampled_name(&self.processes, pid, file, line);
        self.sampled.end(pid, name, each);
    }

    /// True when some functions are marked by stacks.
    pub fn samples(&self) -> bool {
        !self.sampled.is_empty()
    }

    /// Takes all watchpoints away. Nobody is to wait for an answer any more.
    pub fn stop(&mut self) {
        self.points = None;
        self.answers = None;
    }

    /// What was wrong in the marks so far.
    pub fn take_corrections(&mut self) -> Vec<Correction> {
        std::mem::take(&mut self.corrections)
    }

    /// What is to be told now.
    pub fn news(&mut self) -> Vec<String> {
        self.says.news()
    }

    /// What is to be told at the end.
    pub fn into_warnings(mut self) -> Vec<String> {
        for process in self.processes.values() {
            self.says.remember(&process.functions, self.patterns.len());
        }
        self.says.into_warnings(&self.patterns)
    }
}

/// What a process calls the function at this line of a file, if it is to be marked by stacks.
fn sampled_name(
    processes: &HashMap<u32, Process>,
    pid: u32,
    file: &str,
    first_line: u32,
) -> Option<Arc<str>> {
    let found = processes.get(&pid)?.chosen.iter().find(|one| {
        let function = &one.function;
        function.naming.file == file && function.first_line == first_line && one.armed_ns.is_none()
    });
    found.map(|one| Arc::clone(&one.name))
}
