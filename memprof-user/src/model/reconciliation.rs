//! What the kernel's page tables and counts say of a process, for the model to take over; and how
//! far it was off.

use std::ops::Range;

use super::accounting::Model;
use super::checkpoint::Kinds;
use super::process::Look;
use super::profile::PageKind;
use super::ranges::Ranges;

impl Model {
    /// Where the page tables have to be asked; None when nothing is open.
    pub fn open_questions(&self, pid: u32) -> Option<&Ranges> {
        self.parts().0.live(pid)?.open_questions()
    }

    /// Only the page tables know what this process has resident.
    pub fn doubt_all(&mut self, pid: u32) {
        if let Some(process) = self.parts_mut().0.live_mut(pid) {
            process.doubt_all();
        }
    }

    /// Takes over what the page tables showed, but for what records have touched meanwhile.
    /// `pending` is growth whose record is still to come.
    pub fn settle(&mut self, pid: u32, look: &Look, pending: Option<Range<u64>>) {
        let (processes, ledger) = self.parts_mut();
        if let Some(process) = processes.live_mut(pid) {
            process.settle(look, pending, ledger);
        }
    }

    /// Records have told of something since the last [`Model::rest`].
    pub fn is_touched(&self, pid: u32) -> bool {
        let process = self.parts().0.live(pid);
        process.is_some_and(|process| process.is_touched())
    }

    /// A round of looks at the page tables is over.
    pub fn rest(&mut self, pid: u32) {
        if let Some(process) = self.parts_mut().0.live_mut(pid) {
            process.rest();
        }
    }

    /// The process was forked by whoever launches its program, and has not executed it yet.
    pub fn borrow(&mut self, pid: u32) {
        if let Some(process) = self.parts_mut().0.live_mut(pid) {
            process.borrow();
        }
    }

    /// True while the process runs in its parent's or launcher's memory: what /proc says of it is
    /// theirs.
    pub fn borrows(&self, pid: u32) -> bool {
        let process = self.parts().0.live(pid);
        process.is_some_and(|process| process.borrows())
    }

    /// What is believed to be resident outside of `growing`, where growth is still to be told of
    /// that takes the place of all; None when there is nothing to hold against /proc.
    pub fn believed(&self, pid: u32, growing: Option<Range<u64>>) -> Option<Kinds> {
        let process = self.parts().0.live(pid)?;
        if !process.counts() || process.borrows() {
            return None;
        }
        let mut displaced = [0; 3];
        if let Some(range) = growing {
            // A private page of a file that is written goes when its copy comes.
            process.space().release(range, |released| {
                displaced[released.owner.kind() as usize] += released.bytes;
            });
        }
        let left = |kind| process.believed(kind) - displaced[kind as usize];
        Some(Kinds {
            anon: left(PageKind::Anon),
            file: left(PageKind::File),
            shmem: left(PageKind::Shmem),
        })
    }

    /// The sums were held against /proc while the process stood still: `off_bytes` is by how much
    /// they differed. A difference has the page tables asked.
    pub fn checked(&mut self, pid: u32, off_bytes: u64) {
        if let Some(process) = self.parts_mut().0.live_mut(pid) {
            process.checked(off_bytes);
        }
    }
}
