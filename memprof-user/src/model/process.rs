//! One process from its first sight to its end: its address space, its RSS, and which of what
//! happens to it counts.
//!
//! A process counts until its interpreter begins to shut down or it exits. What the interpreter
//! gives back on its way out, and what the kernel gives back at exit, is not what a user asks
//! for: net is what was resident just before. An exec gives everything back and begins anew.

mod pages;
mod settle;

pub use settle::Look;

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use super::ledger::{Ledger, OwnerId, OwnerKey};
use super::mapped::Mapped;
use super::profile::{self, ByPageKind, PageKind};
use super::ranges::Ranges;
use super::requests::Requests;
use super::residency::{BEFORE_ATTACH, Cut, Released, Residency};

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
    /// In this part of one fault-around window.
    Around(Range<u64>),
    /// Somewhere in this range.
    Within(Range<u64>),
    /// Nobody knows.
    Unplaced,
}

/// One process of the run.
#[derive(Clone, Debug)]
pub struct Process {
    /// Number in the run.
    index: u32,
    /// What the profile will say of it.
    info: profile::Process,
    phase: Phase,
    /// Processes that came from one by forks, and share pages with each other.
    family: u32,
    space: Residency,
    /// What it asked for.
    mapped: Mapped,
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
    /// Pages of the parent in `space` at the fork, less what the page tables showed not to be
    /// there.
    inherited_at_fork: u64,
    /// RSS last read, and what the ledger said was resident then.
    last_reading: Option<(u64, u64)>,
    /// It runs in its parent's memory (vfork) or in a copy of its launcher's, until it executes a
    /// program.
    borrows: bool,
    /// The page tables have not been asked since the fork that made it.
    just_forked: bool,
    /// It shares pages with a parent that is not traced.
    has_untraced_parent: bool,
    /// Where the page tables are to be asked.
    dirty: Ranges,
    /// Where records have told of something since the page tables were asked last: what a look
    /// shows there may be older than what is believed, or newer.
    touched: Ranges,
    /// What was announced to be given back, since then and in the round before: a thread may touch
    /// it again before it goes.
    released: [Ranges; 2],
    /// What calls that are under way announced to take, by thread; the last is the newest.
    taken: VecDeque<(u32, Range<u64>, Vec<Cut>)>,
}

/// Pieces kept of one call at most: beyond, a failed call finds its pages again without their
/// owners.
const TAKEN_PIECES: usize = 4096;

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
            mapped: Mapped::of(index + 1),
            unplaced: HashMap::new(),
            images: vec![python],
            // A Python that runs already is past its start-up.
            started: python,
            seen: false,
            inherited_at_fork: 0,
            last_reading: None,
            borrows: false,
            just_forked: false,
            has_untraced_parent: false,
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
            mapped: parent.mapped.fork(index + 1),
            started: parent.started,
            ..Process::new(index, info)
        };
        process.ask_after_fork();
        process
    }

    /// What it has by the fork is to be read from its page tables.
    pub fn ask_after_fork(&mut self) {
        self.just_forked = true;
        self.doubt_all();
    }

    /// True while it runs in memory that is not its own.
    pub fn borrows(&self) -> bool {
        self.borrows
    }

    /// It runs in its parent's or its launcher's memory: nothing of that is its own.
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
        let bytes = range.end - range.start;
        self.info.before_attach += bytes;
        self.info.before_attach_by_kind.add(kind, bytes);
        self.space.was_resident(range, owner);
    }

    /// No other process maps these pages, which were resident before the attach.
    pub fn was_alone(&mut self, range: Range<u64>) {
        self.space.unshare(range, |_, _| false);
    }

    /// What it had before the attach and not alone, it shares with its parent, which is not traced.
    pub fn shares_with_untraced_parent(&mut self) {
        self.has_untraced_parent = true;
    }

    /// The address space that it asked for.
    pub fn mapped(&self) -> &Mapped {
        &self.mapped
    }

    /// The same, to change it.
    pub fn mapped_mut(&mut self) -> &mut Mapped {
        &mut self.mapped
    }

    /// Its end has come: notes how much of what it asked for is resident.
    pub fn note_touched(&self, requests: &mut Requests) {
        self.mapped.note_touched(&self.space, requests);
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
        shared_in(&mut self.space, range, relatives, self.has_untraced_parent)
    }

    /// What [`Process::unshare`] is going to return.
    pub fn shared_bytes(&self, range: Range<u64>, relatives: &[Residency]) -> u64 {
        let mut space = self.space();
        shared_in(&mut space, range, relatives, self.has_untraced_parent)
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

    /// Its interpreter shuts down.
    pub fn is_finalizing(&self) -> bool {
        self.phase == Phase::Finalizing
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

    /// PSS and USS as read just now. A closed ledger keeps those that go with it.
    pub fn set_share(&mut self, pss: u64, uss: u64) {
        if !self.counts() {
            return;
        }
        let info = &mut self.info;
        info.pss_start = info.pss_start.or(Some(pss));
        info.uss_start = info.uss_start.or(Some(uss));
        info.pss_end = Some(pss);
        info.uss_end = Some(uss);
        info.pss_peak = info.pss_peak.max(Some(pss));
        info.uss_peak = info.uss_peak.max(Some(uss));
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

    /// It executed a new program: the old one's memory was given back, nothing is inherited any
    /// more, and what the new one has is all growth.
    pub fn exec(&mut self, ledger: &mut Ledger) {
        self.space.clear(|released| credit(ledger, released));
        for (owner, bytes) in self.unplaced.drain() {
            ledger.free(owner, bytes);
        }
        if self.borrows {
            // What was resident is another's.
            self.info.rss_peak = 0;
            self.info.pss_peak = None;
            self.info.uss_peak = None;
        }
        // The first reading of the new program is its start.
        self.info.pss_start = None;
        self.info.uss_start = None;
        self.info.pss_end = None;
        self.info.uss_end = None;
        self.info.rss_start = 0;
        self.info.rss_end = 0;
        self.info.inherited = 0;
        self.info.before_attach = 0;
        self.info.before_attach_by_kind = ByPageKind::default();
        self.info.python = None;
        self.info.role.clear();
        self.rss_before = 0;
        self.inherited_at_fork = 0;
        self.last_reading = None;
        self.started = false;
        self.images.push(false);
        self.phase = Phase::Running;
        self.borrows = false;
        self.just_forked = false;
        self.has_untraced_parent = false;
        self.taken.clear();
        self.touched.clear();
        self.doubt_all();
    }

    /// Its interpreter begins to shut down: the ledger is closed as it stands. Not before a Python
    /// frame ran: while the loader maps an interpreter's library its variables are something else.
    pub fn finalize(&mut self, ledger: &Ledger) {
        if self.counts() && self.started {
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
        self.mapped = Mapped::default();
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
        self.info.before_attach_end = self.info.before_attach.saturating_sub(released.sum());
        self.info.before_attach_end_by_kind = self.info.before_attach_by_kind.without(released);
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
        let inherited = self.space.inherited_bytes();
        let given_back = self.inherited_at_fork.saturating_sub(inherited)
            + ledger.before_released(self.index).sum();
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

/// Makes a range of `space` its own; the bytes that one of `relatives` had too until then, or, with
/// `has_untraced_parent`, that were there and shared before the attach.
fn shared_in(
    space: &mut Residency,
    range: Range<u64>,
    relatives: &[Residency],
    has_untraced_parent: bool,
) -> u64 {
    space.unshare(range, |address, claim| match claim {
        Some((owner, version)) => {
            let has = |other: &Residency| other.version_at(address) == Some(version);
            let parent_has = has_untraced_parent && version == BEFORE_ATTACH;
            owner.kind() == PageKind::Anon && (parent_has || relatives.iter().any(has))
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
