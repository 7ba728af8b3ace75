//! Every process of the run, and which of them a pid means now.
//!
//! A pid that was reused names two processes of the run: a new one begins with a fork or an
//! attach, never with another record. The list is in order of appearance and never shrinks, as
//! the profile shows the dead too.

use std::collections::HashMap;
use std::ops::Range;

use super::ledger::{Ledger, OwnerId};
use super::process::Process;
use super::profile;
use super::residency::Residency;

/// All processes of the run.
#[derive(Clone, Debug, Default)]
pub struct Processes {
    all: Vec<Process>,
    /// Those that live, by pid.
    live: HashMap<u32, usize>,
    /// How many of a family live.
    families: HashMap<u32, u32>,
    next_family: u32,
}

impl Processes {
    /// The process that lives under this pid.
    pub fn live(&self, pid: u32) -> Option<&Process> {
        self.all.get(*self.live.get(&pid)?)
    }

    /// The same, to change it.
    pub fn live_mut(&mut self, pid: u32) -> Option<&mut Process> {
        self.all.get_mut(*self.live.get(&pid)?)
    }

    /// Pids that live, in no order.
    pub fn live_pids(&self) -> impl Iterator<Item = u32> + '_ {
        self.live.keys().copied()
    }

    /// How many live.
    pub fn live_count(&self) -> usize {
        self.live.len()
    }

    /// Their indexes.
    pub fn live_indexes(&self) -> impl Iterator<Item = u32> + '_ {
        self.live_pids()
            .filter_map(|pid| Some(self.live(pid)?.index()))
    }

    /// All that ever were, in order of appearance.
    pub fn all(&self) -> &[Process] {
        &self.all
    }

    /// The same, to change them.
    pub fn all_mut(&mut self) -> &mut [Process] {
        &mut self.all
    }

    /// The maps of all others that live and came from the same process by forks.
    fn relatives(&self, slot: usize) -> Vec<Residency> {
        let family = self.all[slot].family();
        match self.families.get(&family) {
            // Alone, as most are: nothing to look through.
            Some(1) | None => Vec::new(),
            Some(_) => {
                let others = self.live.values().filter(|&&other| other != slot);
                others
                    .map(|&other| &self.all[other])
                    .filter(|other| other.family() == family)
                    .map(Process::space)
                    .collect()
            }
        }
    }

    /// What [`Processes::unshare`] is going to find for a range of a live process.
    pub fn shared_bytes(&self, pid: u32, range: Range<u64>) -> u64 {
        let Some(&slot) = self.live.get(&pid) else {
            return 0;
        };
        self.all[slot].shared_bytes(range, &self.relatives(slot))
    }

    /// A process wrote a range of protected pages, because of `owner`: what a living relative (it
    /// came from the same one by forks) had too is copy-on-write.
    pub fn unshare(&mut self, pid: u32, range: Range<u64>, owner: OwnerId, ledger: &mut Ledger) {
        let Some(&slot) = self.live.get(&pid) else {
            return;
        };
        let relatives = self.relatives(slot);
        let bytes = self.all[slot].unshare(range, &relatives);
        ledger.unshare(owner, bytes);
    }

    /// The process that lives under this pid, in a family of its own from now on (exec).
    pub fn alone(&mut self, pid: u32) -> Option<&mut Process> {
        let slot = *self.live.get(&pid)?;
        self.leave_family(slot);
        let family = self.new_family();
        self.join_family(slot, family);
        self.all.get_mut(slot)
    }

    fn new_family(&mut self) -> u32 {
        self.next_family += 1;
        self.next_family
    }

    fn join_family(&mut self, slot: usize, family: u32) {
        self.all[slot].join(family);
        *self.families.entry(family).or_default() += 1;
    }

    fn leave_family(&mut self, slot: usize) {
        let family = self.all[slot].family();
        if let Some(members) = self.families.get_mut(&family) {
            *members -= 1;
            if *members == 0 {
                self.families.remove(&family);
            }
        }
    }

    /// Begins to trace a running process. One that is traced already stays as it is: a fork may
    /// have been told before the attach got to it.
    pub fn attach(&mut self, info: profile::Process, ledger: &mut Ledger) -> u32 {
        if let Some(known) = self.live(info.pid) {
            return known.index();
        }
        let parent = self.live(info.ppid).map(Process::family);
        let family = parent.unwrap_or_else(|| self.new_family());
        self.insert(ledger, family, |index| Process::new(index, info))
    }

    /// A traced process, `info.ppid`, forked. The child begins with its parent's pages, or with
    /// none when it borrows its parent's address space (vfork): what it touches there until it
    /// executes is its own growth. False when the parent is not known.
    pub fn fork(
        &mut self,
        mut info: profile::Process,
        shares_memory: bool,
        ledger: &mut Ledger,
    ) -> bool {
        let pid = info.pid;
        let known = self.live.get(&pid).copied();
        // Attached between the fork and the arrival of its record: the same process. Anything
        // else that lives under this pid has gone without our hearing of it.
        let slot = known.filter(|&slot| self.all[slot].is_unseen());
        if slot.is_none() {
            self.exit(pid, info.first_epoch_s, None, ledger);
        }
        let index = slot.unwrap_or(self.all.len()) as u32;
        let parent = self.live(info.ppid);
        let parent_known = parent.is_some();
        if let Some(parent) = parent {
            info.python.clone_from(&parent.info().python);
            info.role.clone_from(&parent.info().role);
        }
        let mut family = parent.map(Process::family);
        let mut process = match self.live.get(&info.ppid).copied() {
            Some(parent) if !shares_memory => Process::forked(index, info, &mut self.all[parent]),
            _ => {
                family = None;
                let mut process = Process::new(index, info);
                process.ask_after_fork();
                process
            }
        };
        let family = family.unwrap_or_else(|| self.new_family());
        process.see();
        if shares_memory {
            process.borrow();
        }
        match slot {
            Some(slot) => {
                process.keep_identity(&self.all[slot]);
                self.leave_family(slot);
                self.all[slot] = process;
                self.join_family(slot, family);
            }
            None => {
                self.insert(ledger, family, |_| process);
            }
        }
        parent_known
    }

    /// The last thread of a process has gone. False when it is not known.
    pub fn exit(&mut self, pid: u32, epoch_s: f64, rss: Option<u64>, ledger: &Ledger) -> bool {
        let Some(slot) = self.live.remove(&pid) else {
            return false;
        };
        self.leave_family(slot);
        self.all[slot].exit(epoch_s, rss, ledger);
        true
    }

    fn insert(
        &mut self,
        ledger: &mut Ledger,
        family: u32,
        make: impl FnOnce(u32) -> Process,
    ) -> u32 {
        let index = self.all.len();
        let process = make(index as u32);
        self.live.insert(process.pid(), index);
        self.all.push(process);
        self.join_family(index, family);
        ledger.open_account();
        index as u32
    }
}
