//! How the pages of a process come, go, and move, as its records tell.

use std::ops::Range;

use super::{Place, Process, TAKEN_PIECES, TAKING_THREADS, credit};
use crate::model::ledger::{Ledger, OwnerId};
use crate::model::profile::PageKind;
use crate::model::residency::{FAULT_AROUND_BYTES, Released};

impl Process {
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
            Place::Around(range) => {
                let start = range.start;
                let left = self.space.grow_around(range, pages, owner, note);
                (start, left * page_bytes)
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
                let window = window..window.saturating_add(FAULT_AROUND_BYTES);
                self.dirty.add(window.clone());
                let left = self
                    .space
                    .grow_around(window, pages, released.owner, |_| {});
                if left > 0 {
                    let bytes = left * memprof_common::PAGE_BYTES;
                    *self.unplaced.entry(released.owner).or_default() += bytes;
                }
                continue;
            }
            // No release was missed when a thread touched a page after another one's call had
            // begun to give it back and before it did; when a private file page is written and
            // becomes an anonymous one in its place; nor when a child faults in a file page of
            // its parent's: fork does not copy the page tables of files, and what it has of the
            // others is not known before they were looked at.
            let grown_in = start..start.saturating_add(bytes);
            let raced = self.may_be_going(&grown_in);
            let unsure = released.inherited && (guessed || self.just_forked);
            if kind == grown && !unsure && !raced {
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
            Place::Around(range) | Place::Within(range) => {
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
        let mut taken = self
            .space
            .cut(range.clone(), |released| credit(ledger, released));
        taken.truncate(TAKEN_PIECES);
        self.taken.retain(|(thread, ..)| *thread != tid);
        self.taken.push_back((tid, range, taken));
        if self.taken.len() > TAKING_THREADS {
            self.taken.pop_front();
        }
    }

    /// True when a call that gives this range back was announced not long ago, or may still be
    /// under way, or when only the page tables know what is there.
    fn may_be_going(&self, range: &Range<u64>) -> bool {
        let meet = |other: &Range<u64>| other.start < range.end && range.start < other.end;
        self.released.iter().any(|recent| recent.meets(range))
            || self.dirty.meets(range)
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
        for piece in taken {
            if let Some(restored) = self.space.restore(piece)
                && !restored.inherited
            {
                ledger.unfree(restored.owner, restored.bytes);
            }
        }
    }

    /// The range was moved by mremap.
    pub fn move_range(&mut self, old: Range<u64>, new: Range<u64>, ledger: &mut Ledger) {
        self.touched.add(old.clone());
        self.touched.add(new.clone());
        self.space
            .move_range(old, new, |released| credit(ledger, released));
    }
}
