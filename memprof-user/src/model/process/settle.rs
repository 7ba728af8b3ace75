//! The page tables' word on a process: what the records could not place finds its place, and what
//! went or came without a record is noticed.

use std::ops::Range;

use memprof_common::PAGE_BYTES;

use super::{Process, credit};
use crate::model::ledger::{Ledger, OwnerId, OwnerKey};
use crate::model::profile::PageKind;
use crate::model::ranges::{Ranges, apart_from, without};
use crate::model::residency::Difference;

/// What the page tables showed.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Where was looked, in order of address, without overlap.
    pub ranges: Vec<Range<u64>>,
    /// The resident pages there, in order of address, without overlap.
    pub seen: Vec<(Range<u64>, PageKind)>,
    /// It was the whole address space.
    pub whole: bool,
}

/// Bytes of owners whose place is wanted, of one kind of pages.
type Pool = Vec<(OwnerId, u64)>;

impl Process {
    /// Where the page tables have to be asked; None when nothing is open.
    pub fn open_questions(&self) -> Option<&Ranges> {
        (self.counts() && !self.borrows && !self.dirty.is_empty()).then_some(&self.dirty)
    }

    /// Only the page tables know what is in this range.
    pub fn doubt(&mut self, range: Range<u64>) {
        self.dirty.add(range);
    }

    /// Only the page tables know what is resident.
    pub fn doubt_all(&mut self) {
        self.dirty.add_all();
    }

    /// Records have told of something since the last [`Process::settle`] or [`Process::rest`].
    pub fn is_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// What was touched so far is over: the next look at the page tables is later.
    pub fn rest(&mut self) {
        self.touched.clear();
        self.released[1] = std::mem::take(&mut self.released[0]);
    }

    /// Bytes of one kind that are believed to be resident.
    pub fn believed(&self, kind: PageKind) -> u64 {
        let unplaced = self.unplaced.iter();
        let unplaced = unplaced.filter(|(owner, _)| owner.kind() == kind);
        self.space.bytes_of(kind) + unplaced.map(|(_, bytes)| bytes).sum::<u64>()
    }

    /// The sums differed from /proc's by so much while it stood still.
    pub fn checked(&mut self, off_bytes: u64) {
        let reconciled = &mut self.info.reconciled;
        reconciled.checks += 1;
        reconciled.last_drift = off_bytes;
        if off_bytes > 0 {
            reconciled.largest_drift = reconciled.largest_drift.max(off_bytes);
            reconciled.corrected = reconciled.corrected.saturating_add(off_bytes);
            self.doubt_all();
        }
    }

    /// Takes over what the page tables showed, but for what records have touched meanwhile: that
    /// stays open. `pending` is growth whose record is still to come, and will be exact.
    pub fn settle(&mut self, look: &Look, pending: Option<Range<u64>>, ledger: &mut Ledger) {
        if !self.counts() {
            return;
        }
        self.info.reconciled.looks += 1;
        let open = std::mem::take(&mut self.dirty);
        let touched = std::mem::take(&mut self.touched);
        if touched.is_all() {
            self.dirty = open;
            return;
        }
        let touched = touched.merged();
        let pending: Vec<Range<u64>> = pending.into_iter().collect();
        let mut difference = Difference::default();
        for range in &pending {
            // Its pages are its own: what was guessed to be there is elsewhere.
            self.space.difference(range, &[], &mut difference);
        }
        difference.gone.retain(|gone| gone.guessed);
        let ranges = match look.whole {
            true => without(&look.ranges, &touched),
            // A neighbourhood is judged as one: a page that is missing here may be found there.
            false => apart_from(&look.ranges, &touched),
        };
        let judged = without(&ranges, &pending);
        for range in &judged {
            let from = look.seen.partition_point(|(run, _)| run.end <= range.start);
            self.space
                .difference(range, &look.seen[from..], &mut difference);
        }
        let all_of_it = look.whole && touched.is_empty();
        if look.whole && !touched.is_empty() {
            // What found no place yet may be in what was left out.
            self.dirty.add_all();
        } else if !look.whole {
            let open = match open.is_all() {
                true => {
                    self.dirty.add_all();
                    Vec::new()
                }
                false => open.merged(),
            };
            for range in without(&without(&open, &judged), &pending) {
                self.dirty.add(range);
            }
        }
        self.take_over(difference, all_of_it, ledger);
    }

    fn take_over(&mut self, difference: Difference, all_of_it: bool, ledger: &mut Ledger) {
        // By kind: what was guessed wrongly, then what never had a place.
        let mut pools: [Pool; 3] = Default::default();
        for gone in difference.gone {
            let mut guessed = 0;
            self.space.release(gone.range, |released| {
                if gone.guessed && !released.inherited {
                    guessed += released.bytes;
                } else {
                    credit(ledger, released);
                }
            });
            if guessed > 0 {
                pools[gone.owner.kind() as usize].push((gone.owner, guessed));
            }
        }
        for range in difference.confirmed {
            self.space.confirm(range);
        }
        for (owner, bytes) in self.unplaced.drain() {
            pools[owner.kind() as usize].push((owner, bytes));
        }
        for pool in &mut pools {
            // First in, first out.
            pool.reverse();
        }
        for (range, kind) in difference.found {
            self.place(range, kind, &mut pools[kind as usize], ledger);
        }
        if self.just_forked {
            // What it has faulted in itself since the fork passes for inherited.
            for (range, kind) in difference.inherited {
                self.give(range, &mut pools[kind as usize]);
            }
            self.just_forked = !all_of_it;
        }
        for (owner, bytes) in pools.into_iter().flatten() {
            if all_of_it {
                // Nowhere: it has gone without a record.
                ledger.free(owner, bytes);
            } else {
                *self.unplaced.entry(owner).or_default() += bytes;
                self.dirty.add_all();
            }
        }
        if all_of_it {
            self.anchor(ledger);
        }
    }

    /// What is believed is all that there is: the estimate of RSS starts from here.
    fn anchor(&mut self, ledger: &Ledger) {
        let kinds = [PageKind::Anon, PageKind::File, PageKind::Shmem];
        let believed: u64 = kinds.map(|kind| self.believed(kind)).iter().sum();
        let without_releases = self.rss_before + ledger.resident(self.index);
        let given_back = without_releases.saturating_sub(believed);
        let of_before = ledger.before_released(self.index).sum();
        self.inherited_at_fork =
            (self.space.inherited_bytes() + given_back).saturating_sub(of_before);
    }

    /// Gives pages that were found to those whose pages have no place; what is left over was not
    /// announced by anybody.
    fn place(&mut self, range: Range<u64>, kind: PageKind, pool: &mut Pool, ledger: &mut Ledger) {
        let left = self.give(range, pool);
        if left.is_empty() {
            return;
        }
        let owner = ledger.owner(OwnerKey::found(self.index, self.image(), kind));
        if self.just_forked {
            // It came by the fork, where the parent's map had only guessed.
            self.space.inherit(left, owner);
        } else {
            ledger.grow(owner, left.end - left.start, 1);
            self.space.grow(left, owner, |_| {});
        }
    }

    /// Gives pages to those in the pool; what is left over of them.
    fn give(&mut self, range: Range<u64>, pool: &mut Pool) -> Range<u64> {
        let mut at = range.start;
        while at < range.end {
            let Some((owner, left)) = pool.last_mut() else {
                break;
            };
            let bytes = (range.end - at).min(*left / PAGE_BYTES * PAGE_BYTES);
            if bytes == 0 {
                pool.pop();
                continue;
            }
            *left -= bytes;
            let owner = *owner;
            self.space.grow(at..at + bytes, owner, |_| {});
            at += bytes;
        }
        at..range.end
    }
}
