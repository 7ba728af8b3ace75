//! A bounded set of address ranges.

use std::ops::Range;

/// Ranges kept apart at most; beyond, the set is all of the address space.
const MOST: usize = 1 << 14;

/// A set of addresses.
#[derive(Clone, Debug, Default)]
pub struct Ranges {
    list: Vec<Range<u64>>,
    all: bool,
}

impl Ranges {
    /// Adds a range.
    pub fn add(&mut self, range: Range<u64>) {
        if self.all || range.is_empty() {
            return;
        }
        match self.list.last_mut() {
            // Growth goes on where it stood, mostly.
            Some(last) if last.start <= range.start && range.start <= last.end => {
                last.end = last.end.max(range.end);
            }
            _ => self.list.push(range),
        }
        if self.list.len() > MOST {
            self.merge();
            if self.list.len() > MOST / 2 {
                self.add_all();
            }
        }
    }

    /// Adds every address.
    pub fn add_all(&mut self) {
        self.all = true;
        self.list = Vec::new();
    }

    /// True when every address is in it.
    pub fn is_all(&self) -> bool {
        self.all
    }

    /// True when an address of this range is in it. Looks at every range.
    pub fn meets(&self, other: &Range<u64>) -> bool {
        let meet = |range: &Range<u64>| range.start < other.end && other.start < range.end;
        self.all || self.list.iter().any(meet)
    }

    /// True when nothing is in it.
    pub fn is_empty(&self) -> bool {
        !self.all && self.list.is_empty()
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.all = false;
        self.list.clear();
    }

    /// The ranges in order of address, none touching another. Nothing when it is all.
    pub fn merged(mut self) -> Vec<Range<u64>> {
        self.merge();
        self.list
    }

    fn merge(&mut self) {
        self.list.sort_unstable_by_key(|range| range.start);
        let mut merged: Vec<Range<u64>> = Vec::with_capacity(self.list.len());
        for range in self.list.drain(..) {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        self.list = merged;
    }
}

/// What is in `ranges` and not in `holes`; both in order of address without overlap.
pub fn without(ranges: &[Range<u64>], holes: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut left = Vec::new();
    let mut first_hole = 0;
    for range in ranges {
        let mut at = range.start;
        while first_hole < holes.len() && holes[first_hole].end <= at {
            first_hole += 1;
        }
        for hole in &holes[first_hole..] {
            if hole.start >= range.end {
                break;
            }
            if hole.start > at {
                left.push(at..hole.start);
            }
            at = at.max(hole.end);
        }
        if at < range.end {
            left.push(at..range.end);
        }
    }
    left
}

/// Those of `ranges` that meet none of `others`; both in order of address without overlap.
pub fn apart_from(ranges: &[Range<u64>], others: &[Range<u64>]) -> Vec<Range<u64>> {
    let meets_none = |range: &&Range<u64>| {
        let next = others.partition_point(|other| other.end <= range.start);
        others
            .get(next)
            .is_none_or(|other| other.start >= range.end)
    };
    ranges.iter().filter(meets_none).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_and_overlaps_are_one() {
        let mut set = Ranges::default();
        for range in [5..7, 1..3, 3..4, 6..9, 20..21] {
            set.add(range);
        }
        assert_eq!(set.merged(), [1..4, 5..9, 20..21]);
    }

    #[test]
    fn too_many_are_all() {
        let mut set = Ranges::default();
        (0..=MOST as u64).for_each(|page| set.add(2 * page..2 * page + 1));
        assert!(set.is_all() && !set.is_empty());
        set.clear();
        assert!(set.is_empty());
    }

    #[test]
    fn holes_are_cut_out() {
        let one = |range: Range<u64>| [range];
        assert_eq!(without(&one(0..10), &[2..3, 5..7]), [0..2, 3..5, 7..10]);
        assert_eq!(without(&[0..4, 6..9], &[3..7, 8..20]), [0..3, 7..8]);
        assert_eq!(without(&one(2..4), &one(0..9)), []);
        assert_eq!(without(&one(2..4), &[]), one(2..4));
        assert_eq!(
            apart_from(&[0..4, 6..9, 12..13], &[3..4, 9..12]),
            [6..9, 12..13]
        );
    }
}
