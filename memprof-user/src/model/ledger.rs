//! What each owner made resident and gave back, and what it had at its process's peak.
//!
//! An owner is one (process, image, stack, cause, page kind, in the kernel or not, file). Its id is
//! unique in the run, so that a forked child's pages can go on naming their parent's owners.
//! The size is bounded by the number of distinct stacks, not of events.
//!
//! Peaks cost O(1) an event: a process counts its peaks (`peak_id` rises whenever its resident
//! bytes exceed all before), and an owner saves its net just before its first change after one.
//! An owner that has not changed since the last peak still has what it had then.

use std::collections::HashMap;

use super::profile::{ByPageKind, Cause, PageKind};

/// Index into the list of stacks of the [`super::Profile`] that is being made. The caller hands
/// them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackIndex(pub u32);

impl StackIndex {
    /// The stack without frames and without native code, which most owners but those with
    /// [`Cause::Python`] have: the caller keeps it at index 0.
    pub const EMPTY: StackIndex = StackIndex(0);
}

/// Who made pages resident, as far as stacks tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// This Python stack.
    Python(StackIndex),
    /// The record has no Python stack, or its frames never came: a stack without frames.
    Bare(StackIndex),
}

impl Caller {
    /// Nobody told.
    pub const UNKNOWN: Caller = Caller::Bare(StackIndex::EMPTY);

    /// True with Python frames.
    pub const fn is_python(self) -> bool {
        matches!(self, Caller::Python(_))
    }

    /// The stack of an owner with this cause: Python frames only where they are the cause.
    pub fn stack_under(self, cause: Cause) -> StackIndex {
        match (self, cause) {
            (Caller::Python(stack), Cause::Python) | (Caller::Bare(stack), _) => stack,
            (Caller::Python(_), _) => StackIndex::EMPTY,
        }
    }
}

impl From<Option<StackIndex>> for Caller {
    fn from(python: Option<StackIndex>) -> Caller {
        python.map_or(Caller::UNKNOWN, Caller::Python)
    }
}

/// Index into the list of files of the [`super::Profile`] that is being made. The caller hands them
/// out, and not without bound: owners are one a stack and file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileIndex(pub u32);

/// Names one owner of the run: its number, and in the two lowest bits the kind of its pages, so
/// that a map of pages knows their kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnerId(pub u32);

impl OwnerId {
    /// The owner with this number, of pages of this kind.
    pub const fn new(number: u32, kind: PageKind) -> Self {
        OwnerId(number << 2 | kind as u32)
    }

    /// What kind of pages it has.
    pub const fn kind(self) -> PageKind {
        match self.0 & 3 {
            1 => PageKind::File,
            2 => PageKind::Shmem,
            _ => PageKind::Anon,
        }
    }

    const fn index(self) -> usize {
        (self.0 >> 2) as usize
    }
}

/// What makes an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnerKey {
    /// Index of the process.
    pub process: u32,
    /// How many programs the process had executed before: whether it is Python is known only
    /// later, for each program by itself.
    pub image: u32,
    /// Who did it.
    pub stack: StackIndex,
    /// Why.
    pub cause: Cause,
    /// Of which kind the pages are.
    pub kind: PageKind,
    /// The kernel took them for the program.
    pub in_kernel: bool,
    /// Which file or shared memory they belong to, where it is known.
    pub file: Option<FileIndex>,
}

/// [`OwnerKey::image`] of what was resident before the attach.
const BEFORE_ATTACH: u32 = u32::MAX;

impl OwnerKey {
    /// The owner of what a process had resident before the attach: nobody's growth, in no row
    /// of the profile; only what is left of it counts.
    pub fn before_attach(process: u32, kind: PageKind) -> Self {
        OwnerKey {
            process,
            image: BEFORE_ATTACH,
            stack: StackIndex::EMPTY,
            cause: Cause::Unknown,
            kind,
            in_kernel: false,
            file: None,
        }
    }

    /// The owner of pages that the page tables show and no record told of.
    pub fn found(process: u32, image: u32, kind: PageKind) -> Self {
        OwnerKey {
            process,
            image,
            stack: StackIndex::EMPTY,
            cause: Cause::Found,
            kind,
            in_kernel: false,
            file: None,
        }
    }

    /// True for [`OwnerKey::before_attach`].
    pub fn is_before_attach(&self) -> bool {
        self.image == BEFORE_ATTACH
    }
}

/// Sums of one owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes that became resident.
    pub gross: u64,
    /// Of these, given back.
    pub freed: u64,
    /// Resident at the process's peak.
    pub peak: u64,
    /// Bytes that stopped being shared when they were written.
    pub cow: u64,
    /// Growth events.
    pub events: u64,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    key: OwnerKey,
    gross: u64,
    freed: u64,
    events: u64,
    cow: u64,
    /// `Account::peak_id` at which `peak` was saved.
    peak_id: u64,
    peak: u64,
}

impl Owner {
    fn net(&self) -> u64 {
        self.gross.saturating_sub(self.freed)
    }

    /// To be called before every change.
    fn save_peak(&mut self, account: &Account) {
        if self.peak_id != account.peak_id {
            self.peak_id = account.peak_id;
            self.peak = self.net();
        }
    }
}

/// Resident bytes of one process, as far as they became so during the run.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    resident: u64,
    /// Of what was there before the attach, given back since.
    before_released: ByPageKind,
    highest: u64,
    peak_id: u64,
}

/// All owners of the run.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    owners: Vec<Owner>,
    ids: HashMap<OwnerKey, OwnerId>,
    accounts: Vec<Account>,
    gross: u64,
}

impl Ledger {
    /// Opens the account of the next process; processes are numbered from 0 in order of opening.
    pub fn open_account(&mut self) {
        self.accounts.push(Account::default());
    }

    /// The owner with this key.
    pub fn owner(&mut self, key: OwnerKey) -> OwnerId {
        // 2^30 owners would need more memory than a machine has.
        let next = OwnerId::new(self.owners.len() as u32, key.kind);
        let id = *self.ids.entry(key).or_insert(next);
        if id == next {
            self.owners.push(Owner {
                key,
                gross: 0,
                freed: 0,
                events: 0,
                cow: 0,
                // The account's first id is 0: the state before any growth.
                peak_id: 0,
                peak: 0,
            });
        }
        id
    }

    /// The owner made `bytes` resident, in `events` events of the kernel.
    pub fn grow(&mut self, id: OwnerId, bytes: u64, events: u64) {
        let Some((owner, account)) = self.entry(id) else {
            return;
        };
        owner.save_peak(account);
        owner.gross = owner.gross.saturating_add(bytes);
        owner.events = owner.events.saturating_add(events);
        account.resident = account.resident.saturating_add(bytes);
        if account.resident > account.highest {
            account.highest = account.resident;
            account.peak_id += 1;
        }
        self.gross = self.gross.saturating_add(bytes);
    }

    /// The owner wrote `bytes` that had been shared since a fork.
    pub fn unshare(&mut self, id: OwnerId, bytes: u64) {
        if let Some(owner) = self.owners.get_mut(id.index()) {
            owner.cow = owner.cow.saturating_add(bytes);
        }
    }

    /// Bytes that became resident and went again when nobody counted.
    pub fn pass(&mut self, id: OwnerId, bytes: u64, events: u64) {
        let Some((owner, _)) = self.entry(id) else {
            return;
        };
        owner.gross = owner.gross.saturating_add(bytes);
        owner.freed = owner.freed.saturating_add(bytes);
        owner.events = owner.events.saturating_add(events);
        self.gross = self.gross.saturating_add(bytes);
    }

    /// `bytes` of what the owner made resident were given back.
    pub fn free(&mut self, id: OwnerId, bytes: u64) {
        let Some((owner, account)) = self.entry(id) else {
            return;
        };
        if owner.key.is_before_attach() {
            account.before_released.add(owner.key.kind, bytes);
            return;
        }
        owner.save_peak(account);
        owner.freed = owner.freed.saturating_add(bytes);
        account.resident = account.resident.saturating_sub(bytes);
    }

    /// What was given back was not: the call that announced it has failed.
    pub fn unfree(&mut self, id: OwnerId, bytes: u64) {
        let Some((owner, account)) = self.entry(id) else {
            return;
        };
        if owner.key.is_before_attach() {
            account.before_released.take(owner.key.kind, bytes);
            return;
        }
        owner.save_peak(account);
        owner.freed = owner.freed.saturating_sub(bytes);
        account.resident = account.resident.saturating_add(bytes);
    }

    /// The owner did not make `bytes` resident after all: another one's record has come.
    pub fn retract(&mut self, id: OwnerId, bytes: u64) {
        let Some((owner, account)) = self.entry(id) else {
            return;
        };
        owner.save_peak(account);
        owner.gross = owner.gross.saturating_sub(bytes);
        account.resident = account.resident.saturating_sub(bytes);
        self.gross = self.gross.saturating_sub(bytes);
    }

    /// True when the owner stands for pages that no record told of.
    pub fn is_found(&self, id: OwnerId) -> bool {
        let owner = self.owners.get(id.index());
        owner.is_some_and(|owner| owner.key.cause == Cause::Found && !owner.key.is_before_attach())
    }

    /// True when the owner is what was there before the attach.
    pub fn is_before_attach(&self, id: OwnerId) -> bool {
        let owner = self.owners.get(id.index());
        owner.is_some_and(|owner| owner.key.is_before_attach())
    }

    /// Of what a process had resident before the attach, given back since.
    pub fn before_released(&self, process: u32) -> ByPageKind {
        self.account(process).before_released
    }

    /// Σ copy-on-write of one process.
    pub fn cow(&self, process: u32) -> u64 {
        let owners = self.owners.iter();
        owners
            .filter(|owner| owner.key.process == process)
            .map(|owner| owner.cow)
            .sum()
    }

    /// Σ net of one process.
    pub fn resident(&self, process: u32) -> u64 {
        self.account(process).resident
    }

    /// Σ gross of the run.
    pub fn gross(&self) -> u64 {
        self.gross
    }

    /// Σ net of the run.
    #[cfg(test)]
    pub fn net(&self) -> u64 {
        self.accounts.iter().map(|account| account.resident).sum()
    }

    /// Every owner with its sums.
    pub fn owners(&self) -> impl Iterator<Item = (OwnerKey, Totals)> + '_ {
        self.owners.iter().map(|owner| {
            let at_peak = self.account(owner.key.process).peak_id;
            let totals = Totals {
                gross: owner.gross,
                freed: owner.freed,
                peak: if owner.peak_id == at_peak {
                    owner.peak
                } else {
                    owner.net()
                },
                cow: owner.cow,
                events: owner.events,
            };
            (owner.key, totals)
        })
    }

    fn account(&self, process: u32) -> Account {
        let account = self.accounts.get(process as usize);
        account.copied().unwrap_or_default()
    }

    fn entry(&mut self, id: OwnerId) -> Option<(&mut Owner, &mut Account)> {
        let owner = self.owners.get_mut(id.index())?;
        let account = self.accounts.get_mut(owner.key.process as usize)?;
        Some((owner, account))
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
