//! What the map says of a range against what the page tables showed there.

use std::ops::Range;

use super::{Extent, Residency};
use crate::model::ledger::OwnerId;
use crate::model::profile::PageKind;

/// Pages that the map has and the page tables had not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Where.
    pub range: Range<u64>,
    /// Whose.
    pub owner: OwnerId,
    /// Only their neighbourhood was known: they are elsewhere in it.
    pub guessed: bool,
}

/// How a range differs. All are in order of address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// In the map alone.
    pub gone: Vec<Gone>,
    /// In the page tables alone.
    pub found: Vec<(Range<u64>, PageKind)>,
    /// In both, and the map had only guessed.
    pub confirmed: Vec<Range<u64>>,
    /// In both, not anonymous, and inherited as far as the map knows: fork copies the page tables
    /// of some mappings of files only, so the process may have faulted them in itself.
    pub inherited: Vec<(Range<u64>, PageKind)>,
}

impl Residency {
    /// Compares `range` with `seen`: the runs of pages in it, in order of address, without
    /// overlap.
    pub fn difference(
        &self,
        range: &Range<u64>,
        seen: &[(Range<u64>, PageKind)],
        difference: &mut Difference,
    ) {
        let mut at = range.start;
        let mut seen = seen.iter().peekable();
        while at < range.end {
            while seen.next_if(|(run, _)| run.end <= at).is_some() {}
            let run = seen.peek().filter(|(run, _)| run.start < range.end);
            let extent = self.extent_from(at).filter(|(start, _)| *start < range.end);
            // The next place at which either changes.
            let mut end = range.end;
            let mut bound = |start: u64, stop: u64| {
                end = end.min(if start > at { start } else { stop });
            };
            if let Some((run, _)) = run {
                bound(run.start, run.end);
            }
            if let Some((start, extent)) = extent {
                bound(start, extent.end);
            }
            let shown = run
                .filter(|(run, _)| run.start <= at)
                .map(|(_, kind)| *kind);
            let believed = extent
                .filter(|(start, _)| *start <= at)
                .map(|(_, extent)| extent);
            difference.add(at..end, believed, shown, self.generation);
            if run.is_none() && extent.is_none() {
                break;
            }
            at = end;
        }
    }

    /// The extent that holds this address, or else the next one.
    fn extent_from(&self, at: u64) -> Option<(u64, Extent)> {
        let holds =
            |(&start, &extent): (&u64, &Extent)| (extent.end > at).then_some((start, extent));
        let next = || {
            self.extents
                .get_next(&at)
                .map(|(&start, &extent)| (start, extent))
        };
        self.extents.get_prev(&at).and_then(holds).or_else(next)
    }

    /// These pages are where they were guessed to be.
    pub fn confirm(&mut self, range: Range<u64>) {
        let mut pieces = Vec::new();
        self.take(range, |piece, claim| pieces.push((piece, claim)));
        for (piece, mut claim) in pieces {
            claim.guessed = false;
            self.put(piece, claim);
        }
    }
}

impl Difference {
    fn add(
        &mut self,
        range: Range<u64>,
        believed: Option<Extent>,
        shown: Option<PageKind>,
        generation: u32,
    ) {
        let same = matches!((&believed, shown), (Some(extent), Some(kind))
            if extent.claim.owner.kind() == kind);
        if let Some(Extent { claim, .. }) = believed {
            if !same {
                self.gone.push(Gone {
                    range: range.clone(),
                    owner: claim.owner,
                    guessed: claim.guessed,
                });
            } else if claim.guessed {
                self.confirmed.push(range.clone());
            } else if claim.generation != generation && claim.owner.kind() != PageKind::Anon {
                let kind = claim.owner.kind();
                self.inherited.push((range.clone(), kind));
            }
        }
        if let (false, Some(kind)) = (same, shown) {
            self.found.push((range, kind));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANON: OwnerId = OwnerId::new(1, PageKind::Anon);
    const FILE: OwnerId = OwnerId::new(2, PageKind::File);

    fn at(page: u64) -> u64 {
        0x7000_0000 + page * 4096
    }

    fn pages(from: u64, to: u64) -> Range<u64> {
        at(from)..at(to)
    }

    fn compare(map: &Residency, seen: &[(Range<u64>, PageKind)]) -> Difference {
        let mut difference = Difference::default();
        map.difference(&pages(0, 32), seen, &mut difference);
        difference
    }

    #[test]
    fn what_is_equal_differs_in_nothing() {
        let mut map = Residency::of(1);
        map.grow(pages(0, 4), ANON, |_| {});
        map.grow(pages(4, 6), FILE, |_| {});
        // A run may be cut anywhere.
        let seen = [
            (pages(0, 1), PageKind::Anon),
            (pages(1, 4), PageKind::Anon),
            (pages(4, 6), PageKind::File),
        ];
        assert_eq!(compare(&map, &seen), Difference::default());
    }

    #[test]
    fn gone_found_and_of_another_kind() {
        let mut map = Residency::of(1);
        map.grow(pages(2, 6), ANON, |_| {});
        map.grow(pages(31, 40), ANON, |_| {});
        let seen = [(pages(0, 3), PageKind::Anon), (pages(5, 8), PageKind::File)];
        let gone = |from, to| Gone {
            range: pages(from, to),
            owner: ANON,
            guessed: false,
        };
        let difference = compare(&map, &seen);
        assert_eq!(difference.gone, [gone(3, 5), gone(5, 6), gone(31, 32)]);
        assert_eq!(
            difference.found,
            [
                (pages(0, 2), PageKind::Anon),
                (pages(5, 6), PageKind::File),
                (pages(6, 8), PageKind::File)
            ]
        );
    }

    #[test]
    fn a_guess_is_confirmed_or_gone() {
        let mut map = Residency::of(1);
        assert_eq!(map.grow_around(at(1)..at(16), 3, FILE, |_| {}), 0);
        let difference = compare(&map, &[(pages(2, 5), PageKind::File)]);
        assert_eq!(difference.confirmed, [pages(2, 4)]);
        assert_eq!(difference.gone.len(), 1);
        assert!(difference.gone[0].guessed && difference.gone[0].range == pages(1, 2));
        assert_eq!(difference.found, [(pages(4, 5), PageKind::File)]);
        map.confirm(pages(2, 4));
        let difference = compare(&map, &[]);
        assert_eq!(
            difference
                .gone
                .iter()
                .map(|gone| gone.guessed)
                .collect::<Vec<bool>>(),
            [true, false]
        );
    }
}
