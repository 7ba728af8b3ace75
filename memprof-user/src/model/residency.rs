//! Who owns which page of one address space: an ordered, persistent map of extents.
//!
//! Neighbouring pages of one claim are one extent, so the map's size is bounded by how fragmented
//! the target's resident memory is among owners, not by how many pages or events there were; and
//! a fork shares the whole map with its parent in O(1), whatever its size.
//!
//! Ranges are whole pages; the caller rounds. Nothing here knows a process or a ledger: whoever
//! changes the map is told what was displaced and does the book-keeping.

use std::ops::Range;

use imbl::OrdMap;
use memprof_common::PAGE_BYTES;

use super::ledger::OwnerId;
use super::profile::PageKind;

mod difference;
mod window;

pub use difference::Difference;

/// The kernel maps file pages around a fault within a window of this size and alignment
/// (`fault_around_bytes`, mm/memory.c; 64 KiB unless debugfs says otherwise).
pub const FAULT_AROUND_BYTES: u64 = 64 << 10;

/// [`Claim::version`] of pages that were there before the attach: whether relatives share them is
/// told by whether they have them too.
pub const BEFORE_ATTACH: u64 = 0;

/// What is known about a page. Pages with equal claims coalesce, so a further answer ("who mapped
/// it", "who holds it") is a further field here and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    /// Who made it resident.
    owner: OwnerId,
    /// [`Residency::generation`] when it became resident: an older one came by fork. This is what
    /// lets a fork turn every page into an inherited one without touching any.
    generation: u32,
    /// Which physical page it is, as far as that can be told: pages of two processes at one
    /// address with one version are one page, shared since a fork. [`BEFORE_ATTACH`], or that of
    /// the process that made the page, see [`Residency::version`].
    version: u64,
    /// The place is not known, only that it is near: the page tables are to be asked.
    guessed: bool,
}

/// `[key, end)` has one claim.
#[derive(Clone, Copy, Debug)]
struct Extent {
    end: u64,
    claim: Claim,
}

/// Pages that stopped being owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// Who owned them.
    pub owner: OwnerId,
    /// They came by fork: nobody's growth in this process.
    pub inherited: bool,
    /// How much.
    pub bytes: u64,
}

/// A piece that was taken out of the map, to be put back if it was taken in error.
#[derive(Clone, Debug)]
pub struct Cut {
    range: Range<u64>,
    claim: Claim,
}

impl Cut {
    /// Where it was.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }
}

/// Page-range ownership of one address space.
#[derive(Clone, Debug, Default)]
pub struct Residency {
    extents: OrdMap<u64, Extent>,
    generation: u32,
    /// Number of the process, unlike that of any other.
    id: u32,
    /// How often it forked: what it makes from then on is another version.
    forks: u32,
    owned_bytes: u64,
    inherited_bytes: u64,
    /// Of both together, by [`PageKind`].
    kinds: [u64; 3],
}

impl Residency {
    /// Bytes of one kind in the map.
    pub fn bytes_of(&self, kind: PageKind) -> u64 {
        self.kinds[kind as usize]
    }

    /// Bytes that came by fork, still as the parent left them.
    pub fn inherited_bytes(&self) -> u64 {
        self.inherited_bytes
    }

    /// An empty map of the process with this number (from 1).
    pub fn of(id: u32) -> Self {
        Residency {
            id,
            ..Residency::default()
        }
    }

    /// The version of pages that come now.
    fn version(&self) -> u64 {
        u64::from(self.id) << 32 | u64::from(self.forks)
    }

    /// The map of a child forked now: the same owners, all of it inherited, each page shared
    /// until one of both writes it.
    pub fn fork(&mut self, child: u32) -> Residency {
        self.forks += 1;
        Residency {
            extents: self.extents.clone(),
            generation: self.generation + 1,
            id: child,
            forks: 0,
            owned_bytes: 0,
            inherited_bytes: self.owned_bytes + self.inherited_bytes,
            kinds: self.kinds,
        }
    }

    /// The range became resident because of `owner`. What the map believed to be resident there
    /// was released without our seeing it (reclaim, a lost record): `displaced` is told.
    pub fn grow(&mut self, range: Range<u64>, owner: OwnerId, displaced: impl FnMut(Released)) {
        self.grow_as(range, owner, false, displaced);
    }

    fn grow_as(
        &mut self,
        range: Range<u64>,
        owner: OwnerId,
        guessed: bool,
        displaced: impl FnMut(Released),
    ) {
        if range.is_empty() {
            return;
        }
        let claim = Claim {
            owner,
            generation: self.generation,
            version: self.version(),
            guessed,
        };
        if let Some(left) = self.vacant(&range) {
            return self.put_beside(left, range, claim);
        }
        self.release(range.clone(), displaced);
        self.put(range, claim);
    }

    /// `pages` pages became resident somewhere in `range` (a populate of a range that was partly
    /// resident). They are placed on its lowest pages that nobody has. Returns how many pages
    /// found no place.
    pub fn grow_within(&mut self, range: Range<u64>, pages: u64, owner: OwnerId) -> u64 {
        let mut left = pages;
        let mut at = range.start;
        while left > 0 && at < range.end {
            let gap_end = match self.extents.get_prev(&at) {
                Some((_, extent)) if extent.end > at => {
                    at = extent.end;
                    continue;
                }
                _ => self
                    .extents
                    .get_next(&at)
                    .map_or(range.end, |(&next, _)| next.min(range.end)),
            };
            let end = gap_end.min(at.saturating_add(left.saturating_mul(PAGE_BYTES)));
            if end <= at {
                break;
            }
            self.grow_as(at..end, owner, true, |_| {});
            left -= (end - at) / PAGE_BYTES;
            at = end;
        }
        left
    }

    /// The range was resident before the attach, and may be shared with relatives since forks
    /// before it.
    pub fn was_resident(&mut self, range: Range<u64>, owner: OwnerId) {
        let claim = Claim {
            owner,
            generation: self.generation,
            version: BEFORE_ATTACH,
            guessed: false,
        };
        self.release(range.clone(), |_| {});
        self.put(range, claim);
    }

    /// The owner of the page at this address, if there is one.
    pub fn owner_at(&self, address: u64) -> Option<OwnerId> {
        let (_, extent) = self.extents.get_prev(&address)?;
        (extent.end > address).then_some(extent.claim.owner)
    }

    /// The range has been resident since the fork, although the map did not know.
    pub fn inherit(&mut self, range: Range<u64>, owner: OwnerId) {
        let claim = Claim {
            owner,
            // Older than what has come since: a fork made this map's generation 1 at least.
            generation: self.generation.wrapping_sub(1),
            version: BEFORE_ATTACH,
            guessed: false,
        };
        self.put(range, claim);
    }

    /// The version of the page at this address, if there is one.
    pub fn version_at(&self, address: u64) -> Option<u64> {
        let (_, extent) = self.extents.get_prev(&address)?;
        (extent.end > address).then_some(extent.claim.version)
    }

    /// The range was written and is this process's alone from now on. Returns the bytes that were
    /// shared until now: `is_shared` is asked for each page that another process may have, by its
    /// address, its owner, and its version (None: the map does not know it).
    pub fn unshare(
        &mut self,
        range: Range<u64>,
        is_shared: impl Fn(u64, Option<(OwnerId, u64)>) -> bool,
    ) -> u64 {
        let version = self.version();
        let mut pieces = Vec::new();
        self.take(range.clone(), |piece, claim| pieces.push((piece, claim)));
        let mut pages = 0;
        let count = |piece: Range<u64>, claim: Option<(OwnerId, u64)>| {
            let shared = |address: &u64| is_shared(*address, claim);
            piece.step_by(PAGE_BYTES as usize).filter(shared).count() as u64
        };
        let mut unknown = range.start;
        for (piece, claim) in pieces.into_iter().rev() {
            pages += count(unknown..piece.start, None);
            unknown = piece.end;
            if claim.version != version {
                pages += count(piece.clone(), Some((claim.owner, claim.version)));
            }
            self.put(piece, Claim { version, ..claim });
        }
        pages += count(unknown..range.end, None);
        pages * PAGE_BYTES
    }

    /// The range is given back. Pages that the map does not know were resident before the attach.
    pub fn release(&mut self, range: Range<u64>, mut released: impl FnMut(Released)) {
        let generation = self.generation;
        self.take(range, |piece, claim| {
            released(Released {
                owner: claim.owner,
                inherited: claim.generation != generation,
                bytes: piece.end - piece.start,
            });
        });
    }

    /// [`Residency::release`] of what may turn out not to be given back.
    pub fn cut(&mut self, range: Range<u64>, mut released: impl FnMut(Released)) -> Vec<Cut> {
        let mut pieces = Vec::new();
        self.take(range, |range, claim| pieces.push(Cut { range, claim }));
        for piece in &pieces {
            released(self.released(piece));
        }
        pieces
    }

    /// The piece was not given back after all. Returns what is in the map again: nothing, when
    /// somebody else has come to its place.
    pub fn restore(&mut self, piece: Cut) -> Option<Released> {
        let left = self.vacant(&piece.range)?;
        let restored = self.released(&piece);
        self.put_beside(left, piece.range, piece.claim);
        Some(restored)
    }

    fn released(&self, piece: &Cut) -> Released {
        Released {
            owner: piece.claim.owner,
            inherited: piece.claim.generation != self.generation,
            bytes: piece.range.end - piece.range.start,
        }
    }

    /// Everything is given back (exec).
    pub fn clear(&mut self, mut released: impl FnMut(Released)) {
        for (range, owner, inherited) in self.iter() {
            released(Released {
                owner,
                inherited,
                bytes: range.end - range.start,
            });
        }
        self.extents = OrdMap::new();
        self.owned_bytes = 0;
        self.inherited_bytes = 0;
        self.kinds = [0; 3];
    }

    /// mremap: what was in `old` is now at `new`, with its owners. The destination is released
    /// first, and so is the part of `old` that `new` has no room for.
    pub fn move_range(
        &mut self,
        old: Range<u64>,
        new: Range<u64>,
        mut released: impl FnMut(Released),
    ) {
        let old_len = old.end.saturating_sub(old.start);
        let kept = old_len.min(new.end.saturating_sub(new.start));
        let mut moved = Vec::new();
        self.take(old.start..old.start + kept, |piece, claim| {
            moved.push((piece, claim));
        });
        self.release(old.start + kept..old.end, &mut released);
        self.release(new.clone(), &mut released);
        for (piece, claim) in moved {
            let start = new.start + (piece.start - old.start);
            self.put(start..start + (piece.end - piece.start), claim);
        }
    }

    /// What the map says, in the order of addresses: the range, its owner, whether inherited.
    pub fn iter(&self) -> impl Iterator<Item = (Range<u64>, OwnerId, bool)> + '_ {
        self.extents.iter().map(|(&start, extent)| {
            let inherited = extent.claim.generation != self.generation;
            (start..extent.end, extent.claim.owner, inherited)
        })
    }

    /// Bytes that became resident in this process.
    #[cfg(test)]
    pub fn owned_bytes(&self) -> u64 {
        self.owned_bytes
    }

    /// Cuts the range out of the map, from its high end to its low end.
    fn take(&mut self, range: Range<u64>, mut taken: impl FnMut(Range<u64>, Claim)) {
        if range.is_empty() {
            return;
        }
        let last_byte = range.end - 1;
        while let Some((&start, &extent)) = self.extents.get_prev(&last_byte) {
            if extent.end <= range.start {
                break;
            }
            if start < range.start {
                let head = Extent {
                    end: range.start,
                    ..extent
                };
                self.extents.insert(start, head);
            } else {
                self.extents.remove(&start);
            }
            if extent.end > range.end {
                self.extents.insert(range.end, extent);
            }
            let piece = start.max(range.start)..extent.end.min(range.end);
            let bytes = piece.end - piece.start;
            *self.total(extent.claim) -= bytes;
            self.kinds[extent.claim.owner.kind() as usize] -= bytes;
            taken(piece, extent.claim);
            if start <= range.start {
                break;
            }
        }
    }

    /// Enters a range of which nothing is in the map.
    fn put(&mut self, range: Range<u64>, claim: Claim) {
        if let Some(left) = self.vacant(&range) {
            self.put_beside(left, range, claim);
        }
    }

    /// If nothing of the (not empty) range is in the map: the extent that ends where it begins,
    /// if there is one. One look-up answers both, and look-ups are what a growth costs.
    fn vacant(&self, range: &Range<u64>) -> Option<Option<(u64, Claim)>> {
        match self.extents.get_prev(&(range.end - 1)) {
            Some((_, left)) if left.end > range.start => None,
            Some((&start, left)) if left.end == range.start => Some(Some((start, left.claim))),
            _ => Some(None),
        }
    }

    /// Enters a vacant range, joined with its neighbours if they have the same claim.
    fn put_beside(&mut self, left: Option<(u64, Claim)>, range: Range<u64>, claim: Claim) {
        let left = left.filter(|&(_, left)| left == claim);
        let start = left.map_or(range.start, |(start, _)| start);
        let right = self.extents.get(&range.end);
        let right = right.filter(|right| right.claim == claim);
        let end = right.map_or(range.end, |right| right.end);
        if end > range.end {
            self.extents.remove(&range.end);
        }
        self.extents.insert(start, Extent { end, claim });
        *self.total(claim) += range.end - range.start;
        self.kinds[claim.owner.kind() as usize] += range.end - range.start;
    }

    fn total(&mut self, claim: Claim) -> &mut u64 {
        if claim.generation == self.generation {
            &mut self.owned_bytes
        } else {
            &mut self.inherited_bytes
        }
    }
}

#[cfg(test)]
#[path = "residency_tests.rs"]
mod tests;
