//! One process from its first sight to its end: its address space, its RSS, and which of what
//! happens to it counts.
//!
//! A process counts until its interpreter begins to shut down or it exits. What the interpreter
//! gives back on its way out, and what the kernel gives back at exit, is not what a user asks
//! for: net is what was resident just before. An exec gives everything back and begins anew.

mod settle;

pub use settle::Look;

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use super::ledger::{Ledger, OwnerId, OwnerKey};
use super::profile::{self, PageKind};
use super::ranges::Ranges;
use super::residency::{FAULT_AROUND_BYTES, Released, Residency, Taken};

/// Where a process stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its growth and releases count.
    Running,
    /// Its interpreter shuts down: its ledger is closed.
    Finalizing,
    /// It has gone.
    Gone,
}

/// Where pages became resident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Exactly these addresses.
    Exact {
        /// First byte.
        start: u64,
        /// One past the last.
        end: u64,
    },
    /// In the fault-around window of this address.
    Around(u64),
    /// Somewhere in this range.
    Within(Range<u64>),
    /// Nobody knows.
    Unplaced,
}

/// One process of the run.
#[derive(Debug)]
pub struct Process {
    /// Number in the run.
    index: u32,
    /// What the profile will say of it.
    info: profile::Process,
    phase: Phase,
    /// Processes that came from one by forks, and share pages with each other.
    family: u32,
    space: Residency,
    /// Growth whose place is unknown: resident until exec or exit, as far as we know.
    unplaced: HashMap<OwnerId, u64>,
    /// For each program it executed, whether it was recognised as Python. Never empty.
    images: Vec<bool>,
    /// It has had a Python stack in its present program.
    started: bool,
    /// A record has named it.
    seen: bool,
    /// RSS that was there when the ledger was opened: before the attach, or from the parent.
    rss_before: u64,
    /// Pages of the parent in `space` at the fork.
    inherited_at_fork: u64,
    /// RSS last read, and what the ledger said was resident then.
    last_reading: Option<(u64, u64)>,
    /// It runs in its parent's memory, until it executes a program (vfork).
    borrows: bool,
    /// Where the page tables are to be asked.
    dirty: Ranges,
    /// Where records have told of something since the page tables were asked last: what a look
    /// shows there may be older than what is believed, or newer.
    touched: Ranges,
    /// What was announced to be given back, since then and in the round before: a thread may touch
    /// it again before it goes.
    released: [Ranges; 2],
    /// What calls that are under way announced to take, by thread; the last is the newest.
    taken: VecDeque<(u32, Range<u64>, Taken)>,
}

/// Threads whose last announcement is kept for the case that the call fails.
const TAKING_THREADS: usize = 64;

impl Process {
    /// A process with nothing in its ledger. `info.rss_start` is what it has resident now.
    pub fn new(index: u32, info: profile::Process) -> Self {
        let python = info.python.is_some();
        let mut process = Process {
            index,
            rss_before: info.rss_start,
            info,
            phase: Phase::Running,
            family: 0,
            space: Residency::of(index + 1),
            unplaced: HashMap::new(),
            images: vec![python],
            // A Python that runs already is past its start-up.
            started: python,
            seen: false,
            inherited_at_fork: 0,
            last_reading: None,
            borrows: false,
            dirty: Ranges::default(),
            touched: Ranges::default(),
            released: Default::default(),
            taken: VecDeque::new(),
        };
        process.info.rss_end = process.info.rss_start;
        process.raise_peak(process.info.rss_start);
        process
    }

    /// A child forked from `parent`: its pages are the parent's until it gets its own. Fork copies
    /// neither the page tables of shared and of unwritten file mappings nor all of the others, so
    /// the page tables are to be asked.
    pub fn forked(index: u32, info: profile::Process, parent: &mut Process) -> Self {
        let space = parent.space.fork(index + 1);
        let mut process = Process {
            inherited_at_fork: space.inherited_bytes(),
            space,
            started: parent.started,
            ..Process::new(index, info)
        };
        process.doubt_all();
        process
    }

    /// True while it runs in its parent's memory.
    pub fn borrows(&self) -> bool {
        self.borrows
    }

    /// It runs in its parent's memory: nothing of that is its own.
    pub fn borrow(&mut self) {
        self.borrows = true;
    }

    /// What the user side has read of the process under another entry of it.
    pub fn keep_identity(&mut self, other: &Process) {
        if let Some(version) = &other.info.python {
            self.set_python(version.clone());
        }
        if !other.info.role.is_empty() {
            self.info.role.clone_from(&other.info.role);
        }
        self.raise_peak(other.info.rss_peak);
        self.info.first_epoch_s = self.info.first_epoch_s.min(other.info.first_epoch_s);
    }

    /// The range was resident before the attach.
    pub fn was_resident(&mut self, range: Range<u64>, kind: PageKind, ledger: &mut Ledger) {
        let owner = ledger.owner(OwnerKey::before_attach(self.index, kind));
        self.info.before_attach += range.end - range.start;
        self.space.was_resident(range, owner);
    }

    /// A copy of the map of its pages, for a look at what is still to come.
    pub fn space(&self) -> Residency {
        self.space.clone()
    }

    /// Growth whose place is not known.
    pub fn unplaced(&self) -> impl Iterator<Item = (OwnerId, u64)> + '_ {
        self.unplaced.iter().map(|(&owner, &bytes)| (owner, bytes))
    }

    /// Number of its family.
    pub fn family(&self) -> u32 {
        self.family
    }

    /// Puts it into a family.
    pub fn join(&mut self, family: u32) {
        self.family = family;
    }

    /// The range was written: this process's alone from now on. Returns the bytes that one of
    /// `relatives` had too until now.
    pub fn unshare(&mut self, range: Range<u64>, relatives: &[Residency]) -> u64 {
        shared_in(&mut self.space, range, relatives)
    }

    /// Number in the run.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Pid of the process.
    pub fn pid(&self) -> u32 {
        self.info.pid
    }

    /// What the profile will say of it.
    pub fn info(&self) -> &profile::Process {
        &self.info
    }

    /// Which program it runs, counted from 0.
    pub fn image(&self) -> u32 {
        self.images.len() as u32 - 1
    }

    /// Whether the program with that number was recognised as Python.
    pub fn is_python(&self, image: u32) -> bool {
        self.images.get(image as usize).copied().unwrap_or(false)
    }

    /// It has had a Python stack in its present program.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Its growth and releases count.
    pub fn counts(&self) -> bool {
        self.phase == Phase::Running
    }

    /// No record has named it so far.
    pub fn is_unseen(&self) -> bool {
        !self.seen
    }

    /// A record names it.
    pub fn see(&mut self) {
        self.seen = true;
    }

    /// A Python stack was seen: it is Python, and its start-up is over.
    pub fn start(&mut self) {
        self.started = true;
        self.recognise();
    }

    /// Its present program is CPython of this version.
    pub fn set_python(&mut self, version: String) {
        self.info.python = Some(version);
        self.recognise();
    }

    fn recognise(&mut self) {
        if let Some(image) = self.images.last_mut() {
            *image = true;
        }
    }

    /// Its title, or argv in short.
    pub fn set_role(&mut self, role: String) {
        self.info.role = role;
    }

    /// PSS as last read.
    pub fn set_pss(&mut self, bytes: u64) {
        self.info.pss_end = Some(bytes);
    }

    /// RSS as read just now, with `ahead` bytes of growth in it that the ledger does not have
    /// yet. A closed ledger keeps the RSS that goes with it.
    pub fn set_rss(&mut self, bytes: u64, ahead: u64, ledger: &Ledger) {
        if !self.counts() {
            return;
        }
        self.last_reading = Some((bytes, ledger.resident(self.index) + ahead));
        self.info.rss_end = bytes;
        self.raise_peak(bytes);
    }

    /// `bytes` became resident because of `owner`. Returns how much of that the map believed to
    /// be resident already: releases that were not seen.
    pub fn grow(
        &mut self,
        place: Place,
        bytes: u64,
        owner: OwnerId,
        events: u64,
        ledger: &mut Ledger,
    ) -> u64 {
        let page_bytes = memprof_common::PAGE_BYTES;
        let pages = bytes / page_bytes;
        self.touch(&place);
        let mut displaced = Vec::new();
        let note = |released| displaced.push(released);
        let (start, left_over) = match place {
            Place::Exact { start, end } => {
                self.space.grow(start..end, owner, note);
                (start, 0)
            }
            Place::Around(address) => {
                let left = self.space.grow_around(address, pages, owner, note);
                (address, left * page_bytes)
            }
            Place::Within(range) => {
                let start = range.start;
                let left = self.space.grow_within(range, pages, owner);
                (start, left * page_bytes)
            }
            Place::Unplaced => (0, bytes),
        };
        let missed = self.settle_displaced(displaced, owner, start, bytes, ledger);
        if left_over > 0 {
            *self.unplaced.entry(owner).or_default() += left_over;
        }
        if bytes > 0 {
            ledger.grow(owner, bytes, events);
        }
        self.raise_peak(self.rss_estimate(ledger));
        missed
    }

    /// What stood where `owner` has just grown. Returns the bytes whose release was missed.
    fn settle_displaced(
        &mut self,
        displaced: Vec<Released>,
        owner: OwnerId,
        start: u64,
        bytes: u64,
        ledger: &mut Ledger,
    ) -> u64 {
        let grown = owner.kind();
        let mut missed = 0;
        for released in displaced {
            let kind = released.owner.kind();
            if ledger.is_found(released.owner) && !released.inherited {
                // It was seen in the page tables before its record came.
                ledger.retract(released.owner, released.bytes);
                continue;
            }
            if ledger.is_before_attach(released.owner) {
                // It came between the attach and the look at the page tables: its record tells
                // who made it resident.
                credit(ledger, released);
                continue;
            }
            let guessed = kind != PageKind::Anon;
            if guessed && grown == kind && !released.inherited {
                // Places of fault-around and of large folios are guessed: this one was wrong,
                // the page is another one of the window.
                let pages = released.bytes / memprof_common::PAGE_BYTES;
                let window = start & !(FAULT_AROUND_BYTES - 1);
                self.dirty
                    .add(window..window.saturating_add(FAULT_AROUND_BYTES));
                let left = self.space.grow_around(start, pages, released.owner, |_| {});
                if left > 0 {
                    let bytes = left * memprof_common::PAGE_BYTES;
                    *self.unplaced.entry(released.owner).or_default() += bytes;
                }
                continue;
            }
            // No release was missed when a thread touched a page after another one's call had
            // begun to give it back and before it did; when a private file page is written and becomes an anonymous
            // one in its place; nor when a child faults in a file page of its parent's: fork
            // does not copy the page tables of files.
            let grown_in = start..start.saturating_add(bytes);
            let raced = self.may_be_going(&grown_in);
            if kind == grown && !(released.inherited && guessed) && !raced {
                missed += released.bytes;
            }
            credit(ledger, released);
        }
        missed
    }

    /// What a record tells is newer than what the page tables showed; and where it only tells
    /// the neighbourhood, they are to be asked again.
    fn touch(&mut self, place: &Place) {
        match place {
            Place::Exact { start, end } => self.touched.add(*start..*end),
            Place::Around(address) => {
                let window = address & !(FAULT_AROUND_BYTES - 1);
                let range = window..window.saturating_add(FAULT_AROUND_BYTES);
                self.touched.add(range.clone());
                self.dirty.add(range);
            }
            Place::Within(range) => {
                self.touched.add(range.clone());
                self.dirty.add(range.clone());
            }
            Place::Unplaced => self.dirty.add_all(),
        }
    }

    /// Thread `tid` has begun a call that gives the range back.
    pub fn release(&mut self, range: Range<u64>, tid: u32, ledger: &mut Ledger) {
        self.touched.add(range.clone());
        self.released[0].add(range.clone());
        let taken = self
            .space
            .release_for_now(range.clone(), |released| credit(ledger, released));
        self.taken.retain(|(thread, ..)| *thread != tid);
        self.taken.push_back((tid, range, taken));
        if self.taken.len() > TAKING_THREADS {
            self.taken.pop_front();
        }
    }

    /// True when a call that gives this range back was announced not long ago, or may still be
    /// under way.
    fn may_be_going(&self, range: &Range<u64>) -> bool {
        let meet = |other: &Range<u64>| other.start < range.end && range.start < other.end;
        self.released.iter().any(|recent| recent.meets(range))
            || self.taken.iter().any(|(_, going, _)| meet(going))
    }

    /// The call of thread `tid` that was to give the range back has failed, wholly or midway.
    pub fn release_failed(&mut self, range: Range<u64>, tid: u32, ledger: &mut Ledger) {
        self.touched.add(range.clone());
        self.dirty.add(range);
        let Some(at) = self.taken.iter().rposition(|(thread, ..)| *thread == tid) else {
            return;
        };
        let Some((.., taken)) = self.taken.remove(at) else {
            return;
        };
        self.space.restore(taken, |restored| {
            if !restored.inherited {
                ledger.unfree(restored.owner, restored.bytes);
            }
        });
    }

    /// The range was moved by mremap.
    pub fn move_range(&mut self, old: Range<u64>, new: Range<u64>, ledger: &mut Ledger) {
        self.touched.add(old.clone());
        self.touched.add(new.clone());
        self.space
            .move_range(old, new, |released| credit(ledger, released));
    }

    /// It executed a new program: the old one's memory was given back, nothing is inherited any
    /// more, and what the new one has is all growth.
    pub fn exec(&mut self, ledger: &mut Ledger) {
        self.space.clear(|released| credit(ledger, released));
        for (owner, bytes) in self.unplaced.drain() {
            ledger.free(owner, bytes);
        }
        if !self.seen {
            // The program before was only the launcher's: its RSS is of no interest.
            self.info.rss_peak = 0;
        }
        self.info.rss_start = 0;
        self.info.rss_end = 0;
        self.info.inherited = 0;
        self.info.before_attach = 0;
        self.info.python = None;
        self.info.role.clear();
        self.rss_before = 0;
        self.inherited_at_fork = 0;
        self.last_reading = None;
        self.started = false;
        self.images.push(false);
        self.phase = Phase::Running;
        self.borrows = false;
        self.taken.clear();
        self.touched.clear();
        self.doubt_all();
    }

    /// Its interpreter begins to shut down: the ledger is closed as it stands.
    pub fn finalize(&mut self, ledger: &Ledger) {
        if self.counts() {
            self.info.rss_end = self.rss_now(ledger);
            self.phase = Phase::Finalizing;
        }
    }

    /// It has gone. `rss` is what the kernel said it had just before, if it did.
    pub fn exit(&mut self, epoch_s: f64, rss: Option<u64>, ledger: &Ledger) {
        if self.counts() {
            self.info.rss_end = rss.unwrap_or_else(|| self.rss_now(ledger));
            self.raise_peak(self.info.rss_end);
        }
        self.info.exited = true;
        self.info.last_epoch_s = epoch_s;
        self.settle_before_attach(ledger);
        self.phase = Phase::Gone;
        // The ledger has the sums; the map is not needed again, and it can be large.
        self.space = Residency::default();
        self.unplaced = HashMap::new();
    }

    /// The run ends while it lives.
    pub fn end(&mut self, epoch_s: f64, ledger: &Ledger) {
        if self.phase == Phase::Gone {
            return;
        }
        self.settle_before_attach(ledger);
        if self.counts() && self.last_reading.is_none() {
            self.info.rss_end = self.rss_estimate(ledger);
        }
        self.info.last_epoch_s = epoch_s;
    }

    /// How much of what was there before the attach is left.
    fn settle_before_attach(&mut self, ledger: &Ledger) {
        let released = ledger.before_released(self.index);
        self.info.before_attach_end = self.info.before_attach.saturating_sub(released);
    }

    /// RSS now: the last reading, carried on by what the ledger has seen since.
    fn rss_now(&self, ledger: &Ledger) -> u64 {
        match self.last_reading {
            Some((rss, resident)) => (rss + ledger.resident(self.index)).saturating_sub(resident),
            None => self.rss_estimate(ledger),
        }
    }

    /// RSS as far as the ledger knows it: too high by what was resident before the attach and
    /// has been given back since, as nobody says how much of an unmapped range was resident.
    fn rss_estimate(&self, ledger: &Ledger) -> u64 {
        let given_back = self.inherited_at_fork - self.space.inherited_bytes()
            + ledger.before_released(self.index);
        (self.rss_before + ledger.resident(self.index)).saturating_sub(given_back)
    }

    fn raise_peak(&mut self, rss: u64) {
        self.info.rss_peak = self.info.rss_peak.max(rss);
    }

    /// The invariant that tests check: what the map and the ledger say is resident.
    #[cfg(test)]
    pub fn resident_bytes(&self) -> u64 {
        self.space.owned_bytes() + self.unplaced.values().sum::<u64>()
    }

    /// Pages of the parent that it still has.
    #[cfg(test)]
    pub fn inherited_now(&self) -> u64 {
        self.space.inherited_bytes()
    }
}

/// Makes a range of `space` its own; the bytes that one of `relatives` had too until then.
pub fn shared_in(space: &mut Residency, range: Range<u64>, relatives: &[Residency]) -> u64 {
    space.unshare(range, |address, claim| match claim {
        Some((owner, version)) => {
            let has = |other: &Residency| other.version_at(address) == Some(version);
            owner.kind() == PageKind::Anon && relatives.iter().any(has)
        }
        // It was protected, so somebody had it too; nobody knows who.
        None => !relatives.is_empty(),
    })
}

/// Inherited pages are in nobody's sums here: the parent still has them.
fn credit(ledger: &mut Ledger, released: Released) {
    if !released.inherited {
        ledger.free(released.owner, released.bytes);
    }
}
