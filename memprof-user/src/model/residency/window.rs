//! Pages that the kernel mapped around a fault, in a window of which only the number of pages that
//! came is told.

use std::ops::Range;

use memprof_common::PAGE_BYTES;

use super::{FAULT_AROUND_BYTES, Released, Residency};
use crate::model::ledger::OwnerId;

const WINDOW_PAGES: u64 = FAULT_AROUND_BYTES / PAGE_BYTES;
// A page of the window is a bit of a u16.
const _: () = assert!(WINDOW_PAGES == 16);

impl Residency {
    /// `pages` pages became resident somewhere in `range`, a part of one fault-around window: the
    /// kernel cuts it to the mapping. They are placed on its lowest pages that are not owned. Inherited pages count as free:
    /// fork does not copy the page tables of file mappings, so a child faults them in anew.
    /// Returns how many pages found no place.
    pub fn grow_around(
        &mut self,
        range: Range<u64>,
        pages: u64,
        owner: OwnerId,
        mut displaced: impl FnMut(Released),
    ) -> u64 {
        let window = range.start & !(FAULT_AROUND_BYTES - 1);
        // The window at the very top of the address space belongs to the kernel.
        let Some(window_end) = window.checked_add(FAULT_AROUND_BYTES) else {
            return pages;
        };
        let first = (range.start - window) / PAGE_BYTES;
        let last = (range.end.clamp(window, window_end) - window).div_ceil(PAGE_BYTES);
        let outside = (0..first).chain(last..WINDOW_PAGES);
        let outside = outside.fold(0u16, |bits, page| bits | 1 << page);
        let taken = self.taken_in(window..window_end) | outside;
        let (chosen, left_over) = lowest_free(taken, pages);
        for run in runs(chosen) {
            let range = window + run.start * PAGE_BYTES..window + run.end * PAGE_BYTES;
            self.grow_as(range, owner, true, &mut displaced);
        }
        left_over
    }

    /// Which pages of a fault-around window are owned and not inherited, as bits.
    fn taken_in(&self, window: Range<u64>) -> u16 {
        let mut taken = 0u16;
        let mut before = window.end;
        // At most one extent a page.
        while let Some((&start, extent)) = before
            .checked_sub(1)
            .and_then(|last| self.extents.get_prev(&last))
        {
            if extent.end <= window.start {
                break;
            }
            if extent.claim.generation == self.generation {
                let first = (start.max(window.start) - window.start) / PAGE_BYTES;
                let end = (extent.end.min(window.end) - window.start).div_ceil(PAGE_BYTES);
                (first..end).for_each(|page| taken |= 1 << page);
            }
            if start <= window.start {
                break;
            }
            before = start;
        }
        taken
    }
}

/// Chooses the `pages` lowest clear bits of `taken`; returns them and how many are wanting.
fn lowest_free(taken: u16, mut pages: u64) -> (u16, u64) {
    let mut chosen = 0u16;
    for page in (0..WINDOW_PAGES).filter(|page| taken & (1 << page) == 0) {
        if pages == 0 {
            break;
        }
        chosen |= 1 << page;
        pages -= 1;
    }
    (chosen, pages)
}

/// Runs of set bits, low to high.
fn runs(mut bits: u16) -> impl Iterator<Item = Range<u64>> {
    std::iter::from_fn(move || {
        if bits == 0 {
            return None;
        }
        let start = bits.trailing_zeros();
        let len = (bits >> start).trailing_ones();
        bits &= !(((1u32 << len) - 1) << start) as u16;
        Some(u64::from(start)..u64::from(start + len))
    })
}
