//! The address space that a process asked for during the trace: who asked, and what is still
//! mapped, touched or not.
//!
//! It is the map of [`super::residency`] once more, over ranges that were requested instead of
//! pages that are resident, so a fork is O(1) here too and what a child inherits is not its own
//! request. What was mapped before the attach is not in it.

use std::collections::VecDeque;
use std::ops::Range;

use memprof_common::records::{self, space_op};

use super::ledger::OwnerId;
use super::reading::pages;
use super::requests::Requests;
use super::residency::{Cut, Residency};

/// Unmaps that are kept in case they turn out to have failed: the last of so many threads. Two
/// threads are seldom inside munmap at once, and it seldom fails.
const ANNOUNCED: usize = 8;

/// An unmap that was announced, and what it took out of the map.
#[derive(Clone, Debug)]
struct Announced {
    tid: u32,
    cut: Vec<Cut>,
}

/// Requested ranges of one address space.
#[derive(Clone, Debug, Default)]
pub struct Mapped {
    space: Residency,
    announced: VecDeque<Announced>,
}

impl Mapped {
    /// Nothing requested yet. `id`: number of the process (from 1).
    pub fn of(id: u32) -> Self {
        Mapped {
            space: Residency::of(id),
            announced: VecDeque::new(),
        }
    }

    /// The map of a child forked now: all of it inherited.
    pub fn fork(&mut self, child: u32) -> Self {
        Mapped {
            space: self.space.fork(child),
            announced: VecDeque::new(),
        }
    }

    /// `owner` asked for the range and got it. What the map still has there is gone.
    pub fn add(&mut self, range: Range<u64>, owner: OwnerId, requests: &mut Requests) {
        requests.map(owner, range.end - range.start);
        self.space
            .grow(range, owner, |released| requests.unmap(released));
    }

    /// Who asked for what is at this address.
    pub fn owner_at(&self, address: u64) -> Option<OwnerId> {
        self.space.owner_at(address)
    }

    /// A system call changed the address space.
    pub fn address_space(&mut self, change: &records::AddressSpace, requests: &mut Requests) {
        let tid = change.header.tid;
        let range = pages(change.start, change.len);
        match change.header.op {
            space_op::UNMAP => {
                let cut = self.space.cut(range, |released| requests.unmap(released));
                self.announce(tid, cut);
            }
            // The mapping stays; should it fail, an older unmap of the thread has not.
            space_op::DISCARD => self.announce(tid, Vec::new()),
            space_op::UNMAP_FAILED => self.restore(tid, &range, requests),
            space_op::MOVE => {
                let new = pages(change.new_start, change.new_len);
                self.space
                    .move_range(range, new, |released| requests.unmap(released));
            }
            // What mremap has added to the address space has a record of its own.
            _ => {}
        }
    }

    fn announce(&mut self, tid: u32, cut: Vec<Cut>) {
        self.announced.retain(|announced| announced.tid != tid);
        if cut.is_empty() {
            return;
        }
        if self.announced.len() == ANNOUNCED {
            self.announced.pop_front();
        }
        self.announced.push_back(Announced { tid, cut });
    }

    /// The last unmap that the thread announced did not happen. `range` is the failed call's: what
    /// lies outside it was another call's, whose failure or success nobody told.
    fn restore(&mut self, tid: u32, range: &Range<u64>, requests: &mut Requests) {
        let last = self.announced.iter().position(|last| last.tid == tid);
        let Some(announced) = last.and_then(|last| self.announced.remove(last)) else {
            return;
        };
        let inside = |cut: &Cut| range.start <= cut.range().start && cut.range().end <= range.end;
        for cut in announced.cut.into_iter().filter(inside) {
            if let Some(restored) = self.space.restore(cut) {
                requests.map_again(restored);
            }
        }
    }

    /// Everything is unmapped (exec).
    pub fn clear(&mut self, requests: &mut Requests) {
        self.announced.clear();
        self.space.clear(|released| requests.unmap(released));
    }

    /// Notes how much of what this process asked for is `resident`, whoever touched it.
    pub fn note_touched(&self, resident: &Residency, requests: &mut Requests) {
        let mut pages = resident.iter().map(|(range, ..)| range).peekable();
        for (range, owner, inherited) in self.space.iter() {
            if inherited {
                continue;
            }
            while pages.next_if(|page| page.end <= range.start).is_some() {}
            // The last one may reach into the next range too.
            while let Some(page) = pages.peek().filter(|page| page.start < range.end) {
                let bytes = page.end.min(range.end) - page.start.max(range.start);
                requests.touch(owner, bytes);
                if page.end > range.end {
                    break;
                }
                pages.next();
            }
        }
    }
}

#[cfg(test)]
#[path = "mapped_tests.rs"]
mod tests;
