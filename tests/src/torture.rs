//! Walks a program from stop to stop and holds the tracer's view against the kernel's at each.
//!
//! All processes of the program stand still at a stop, so the two views are of one moment and
//! must be equal, to the page. What differs is gathered and told at the end, case by case.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::checkpoint::{Believed, Checkpoint, Checkpoints};
use crate::copies::Copied;
use crate::gate::Gate;
use crate::machine::{self, workload};
use crate::off::{Off, places};
use crate::pages::{self, Kind, PAGE, PageSet, Rss};
use crate::process::{self, PATIENCE, wait_until};
use crate::program::{Ended, Program};
use crate::session::Session;

/// Compiles torture/*.c into a library in the folder.
pub fn library(dir: &Path) -> Result<PathBuf, String> {
    let sources = workload("torture/torture.h");
    let sources = sources.parent().unwrap_or(Path::new("."));
    let mut files: Vec<PathBuf> = std::fs::read_dir(sources)
        .map_err(|e| format!("{}: {e}", sources.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "c"))
        .collect();
    files.sort();
    machine::compiled(&dir.join("torture.so"), &files, &[])
}

/// Where a program stands.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Its case.
    pub case: String,
    /// The step of the case.
    pub step: String,
    /// The process that said so; the others wait for it.
    pub pid: u32,
}

/// One case in the table.
#[derive(Debug, Default)]
pub struct Row {
    /// Processes that were compared, over all stops.
    pub checkpoints: u32,
    /// Sentences about those that differ.
    pub differences: Vec<String>,
    /// The largest difference in pages that is not from a case before: RSS, places, copies.
    pub worst: [u64; 3],
    /// The largest difference to /proc that the tracer itself has measured since the stop before,
    /// in bytes, though it may have put it right.
    pub drift: u64,
}

/// What was known of the processes at the last stop.
#[derive(Default)]
struct Last {
    pages: BTreeMap<u32, PageSet>,
    cow_bytes: BTreeMap<u32, u64>,
}

/// A program that is walked through.
pub struct Walk<'a> {
    session: &'a Session,
    target: Program,
    ready: Gate,
    go: Gate,
    /// Its processes, and when they started.
    known: BTreeMap<u32, Option<u64>>,
    rows: Vec<(String, Row)>,
    last: Last,
    /// At the last stop.
    off: BTreeMap<u32, Off>,
    /// When the present case began.
    carried: BTreeMap<u32, Off>,
    /// The largest drift that the tracer has told of each process so far, in bytes.
    drift: BTreeMap<u32, u64>,
    /// What the program may take beyond patience.
    allowed: Duration,
}

impl<'a> Walk<'a> {
    /// Starts `python script words` with two gates, and waits until it stands at its `begin`.
    #[track_caller]
    pub fn start(session: &'a Session, python: &Path, script: &str, words: &[&str]) -> Walk<'a> {
        let ready = Gate::new(session.dir(), "ready");
        let go = Gate::new(session.dir(), "go");
        let mut command = Command::new(python);
        command
            .arg(workload(script))
            .args(["--ready", ready.path(), "--go", go.path()])
            .args(words);
        let target = Program::start(&mut command);
        let known = BTreeMap::from([(target.pid(), process::started(target.pid()))]);
        let mut walk = Walk {
            session,
            target,
            ready,
            go,
            known,
            rows: Vec::new(),
            last: Last::default(),
            off: BTreeMap::new(),
            carried: BTreeMap::new(),
            drift: BTreeMap::new(),
            allowed: Duration::ZERO,
        };
        assert_eq!(walk.stop().case, "begin", "the first stop");
        walk
    }

    /// The program takes so long between two stops.
    pub fn allow(&mut self, time: Duration) {
        self.allowed = time;
    }

    /// The program's pid.
    pub fn pid(&self) -> u32 {
        self.target.pid()
    }

    /// Attaches a tracer, lets the program go, and compares at every stop up to its last. The
    /// tracer is left to its target's end.
    #[track_caller]
    pub fn compare(self) -> Compared {
        self.compare_with(&[])
    }

    /// The same with further options for the tracer.
    #[track_caller]
    pub fn compare_with(mut self, options: &[&str]) -> Compared {
        let mut tracer = self.session.attach(self.pid(), options);
        let mut checkpoints = Checkpoints::new(&self.session.file("out"));
        loop {
            self.go.open();
            let stop = self.stop();
            let live = self.live(&stop);
            let (view, truth) = at_once(&live, || checkpoints.ask(&mut tracer));
            self.begin_case(&stop.case);
            for &pid in &live {
                self.compare_process(&stop, pid, &truth, view.process(pid));
            }
            self.find_ghosts(&stop, &view);
            let cow = view.processes.iter().map(|row| (row.pid, row.cow_bytes));
            self.last = Last {
                cow_bytes: cow.collect(),
                pages: truth,
            };
            if stop.case == "end" {
                break;
            }
        }
        self.go.open();
        let pid = self.pid();
        let ended = self.target.finish().expect_code(0);
        tracer.finish().expect_code(0);
        Compared {
            pid,
            rows: self.rows,
            ended,
        }
    }

    /// Waits until the program says where it stands and all of it sleeps.
    #[track_caller]
    fn stop(&mut self) -> Stop {
        let word = self.ready.wait_for(PATIENCE + self.allowed);
        let mut words = word.split(' ').map(str::to_string);
        let (Some(case), Some(step), Some(pid)) = (words.next(), words.next(), words.next()) else {
            panic!("no CASE STEP PID: {word:?}");
        };
        let pid = pid.parse().unwrap_or_else(|e| panic!("{word:?}: {e}"));
        let stop = Stop { case, step, pid };
        // An orphan is nobody's descendant any more, and stays known; the pid of one that has gone
        // may be a stranger's by now.
        self.known
            .retain(|&pid, started| process::started(pid) == *started);
        let roots: Vec<u32> = self.known.keys().copied().chain([pid]).collect();
        for root in roots {
            for pid in process::descendants(root).into_iter().chain([root]) {
                self.known.insert(pid, process::started(pid));
            }
        }
        // One that is on its way out may still be seen.
        for &pid in self.known.keys() {
            wait_still(pid);
        }
        self.known
            .retain(|&pid, started| process::alive(pid) && process::started(pid) == *started);
        stop
    }

    /// The processes with memory of their own.
    fn live(&self, stop: &Stop) -> Vec<u32> {
        let borrows = |pid| stop.step == "borrowed" && pid == stop.pid;
        self.known
            .keys()
            .copied()
            .filter(|&pid| !borrows(pid))
            .collect()
    }

    fn compare_process(
        &mut self,
        stop: &Stop,
        pid: u32,
        truth: &BTreeMap<u32, PageSet>,
        believed: Option<&Believed>,
    ) {
        let who = if pid == self.pid() { "" } else { " (child)" };
        let at = format!("{}/{}{who}", stop.case, stop.step);
        // A new program has other pages at the same addresses.
        let executed = stop.step == "executed" && stop.pid == pid;
        // What was shared with those that nobody has seen cannot be told.
        let unseen = stop.step.starts_with("unseen");
        let copied = (!executed && !unseen)
            .then(|| self.copied_bytes(pid, truth))
            .flatten();
        // A child begins with its parent's errors.
        let (was, carried) = (
            self.known_off(&self.off, pid),
            self.known_off(&self.carried, pid),
        );
        let row = &mut self.rows.last_mut().expect("a case has begun").1;
        row.checkpoints += 1;
        let Some(believed) = believed else {
            row.worst = [u64::MAX; 3];
            row.differences
                .push(format!("{at}: pid {pid} is not known"));
            return;
        };
        let off = Off::of(believed, Rss::of(pid), &truth[&pid]);
        if off != was && off != Off::default() {
            let place = places(pid, believed, &truth[&pid]);
            row.differences.push(format!("{at}: {off}; {place}"));
        }
        let reconciled = &believed.reconciled;
        row.drift = row.drift.max(reconciled.last_drift);
        if reconciled.largest_drift > self.drift.get(&pid).copied().unwrap_or_default() {
            row.drift = row.drift.max(reconciled.largest_drift);
            row.differences.push(format!("{at}: {reconciled:?}"));
        }
        self.drift.insert(pid, reconciled.largest_drift);
        let new = off.beyond(carried);
        row.worst[0] = row.worst[0].max(new[0]);
        row.worst[1] = row.worst[1].max(new[1]);
        if let Some((before, copied)) = copied {
            let got = believed.cow_bytes.saturating_sub(before);
            // 2 % is the bound; 4 pages for one that was copied twice since the last stop.
            let allowed = (copied.most / 50).max(4 * PAGE);
            let off = got.abs_diff(got.clamp(copied.least, copied.most));
            if off > allowed {
                let Copied { least, most } = copied;
                row.worst[2] = row.worst[2].max(off / PAGE);
                row.differences
                    .push(format!("{at}: cow {got}, {least} to {most} were copied"));
            }
        }
        self.off.insert(pid, off);
    }

    /// Processes that have gone, and live as the tracer believes.
    fn find_ghosts(&mut self, stop: &Stop, view: &Checkpoint) {
        let row = &mut self.rows.last_mut().expect("a case has begun").1;
        let gone = view.processes.iter().map(|row| row.pid);
        for pid in gone.filter(|&pid| !process::alive(pid)) {
            row.worst = [u64::MAX; 3];
            let Stop { case, step, .. } = stop;
            row.differences.push(format!(
                "{case}/{step}: pid {pid} has gone and is believed to live"
            ));
        }
    }

    fn known_off(&self, off: &BTreeMap<u32, Off>, pid: u32) -> Off {
        let known = off.get(&pid).or_else(|| off.get(&self.pid()));
        known.copied().unwrap_or_default()
    }

    fn begin_case(&mut self, case: &str) {
        if self.rows.last().is_none_or(|(last, _)| last != case) {
            self.carried = self.off.clone();
            self.rows.push((case.into(), Row::default()));
        }
    }

    /// What the process has copied since the last stop, and the tracer's figure then. None when a
    /// process began since, as that one's pages were not seen before it wrote.
    fn copied_bytes(&self, pid: u32, truth: &BTreeMap<u32, PageSet>) -> Option<(u64, Copied)> {
        let last = &self.last;
        if truth.keys().any(|pid| !last.pages.contains_key(pid)) {
            return None;
        }
        let before = *last.cow_bytes.get(&pid)?;
        Some((before, Copied::between(pid, &last.pages, truth)?))
    }
}

/// Tries for a view and a truth of one moment, at most.
const TRIES: usize = 5;

/// A view of processes, and the truth that held before and after it: they stand still, but
/// khugepaged and reclaim do not.
#[track_caller]
fn at_once<T>(pids: &[u32], view: impl FnMut() -> T) -> (T, BTreeMap<u32, PageSet>) {
    let mut view = view;
    let look = || -> BTreeMap<u32, PageSet> {
        let truth = pids.iter().map(|&pid| (pid, pages::resident(pid)));
        truth.collect()
    };
    let kinds = |truth: &BTreeMap<u32, PageSet>| -> Vec<(u32, u64, Kind)> {
        let pages = truth.iter().flat_map(|(&pid, pages)| {
            let page = move |(&number, page): (&u64, &pages::Page)| (pid, number, page.kind);
            pages.iter().map(page)
        });
        pages.collect()
    };
    for _ in 0..TRIES {
        let before = kinds(&look());
        let seen = view();
        let after = look();
        if before == kinds(&after) {
            return (seen, after);
        }
    }
    panic!("the pages of {pids:?} change while they stand still");
}

/// Waits until every thread sleeps, or is held in vfork until its child has gone on, or the
/// process has ended.
#[track_caller]
fn wait_still(pid: u32) {
    wait_until(&format!("pid {pid} to stand still"), PATIENCE, || {
        if !process::alive(pid) {
            return Some(());
        }
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        tasks
            .flatten()
            .all(|task| {
                std::fs::read_to_string(task.path().join("stat")).is_ok_and(|stat| {
                    let state = stat.rsplit(") ").next().unwrap_or_default();
                    state.starts_with(['S', 'D'])
                })
            })
            .then_some(())
    });
}

/// A program that was walked through.
pub struct Compared {
    /// Its pid.
    pub pid: u32,
    /// Case → what was found, in the order of the program.
    pub rows: Vec<(String, Row)>,
    /// The program's end.
    pub ended: Ended,
}

impl Compared {
    /// Processes that were compared, over all stops.
    pub fn checkpoints(&self) -> u32 {
        self.rows.iter().map(|(_, row)| row.checkpoints).sum()
    }

    /// Prints the table; panics when an amount, a place or a copy differed anywhere, or when the
    /// tracer found itself wrong between two stops, with the first differences of each case. A
    /// case that began with another one's error is not blamed for it.
    #[track_caller]
    pub fn assert_exact(&self) {
        self.assert_equal(|row| row.worst == [0; 3] && row.drift == 0);
    }

    /// The same without the copies and what was mended, which nobody can help when records are
    /// lost.
    #[track_caller]
    pub fn assert_amounts_and_places(&self) {
        self.assert_equal(|row| row.worst[..2] == [0; 2]);
    }

    #[track_caller]
    fn assert_equal(&self, is_equal: impl Fn(&Row) -> bool) {
        let mut table =
            String::from("case                          checkpoints  rss  places  cow  drift\n");
        for (case, row) in &self.rows {
            let [rss, places, cow] = row.worst;
            let _ = writeln!(
                table,
                "{case:30}{:11}{rss:5}{places:8}{cow:5}{:7}",
                row.checkpoints,
                row.drift / PAGE
            );
        }
        let _ = writeln!(
            table,
            "{:30}{:11}  (off by, in pages; drift: before it was mended)",
            "all",
            self.checkpoints()
        );
        println!("{table}");
        let told: Vec<&str> = self
            .rows
            .iter()
            .filter(|(_, row)| !is_equal(row))
            .flat_map(|(_, row)| row.differences.iter().take(6))
            .map(String::as_str)
            .collect();
        assert!(told.is_empty(), "{table}\n{}", told.join("\n"));
    }
}

/// An interpreter of this version, or the one of the distribution.
pub fn python(version: &str) -> Result<PathBuf, String> {
    match version {
        "debian" => machine::debian_interpreter(),
        version => machine::interpreter(version),
    }
}
