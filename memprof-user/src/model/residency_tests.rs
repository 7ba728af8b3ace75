//! Residency against a plain page table: one entry a page, nothing clever.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;

/// Pages of the address space that the tests use: small, so that ranges meet.
const PAGES: u64 = 96;
/// Not aligned to the fault-around window's size times anything, only to the window.
const BASE: u64 = 0x7f12_3457_0000;

#[derive(Clone, Debug)]
enum Op {
    Grow(u64, u64, u32),
    Around(u64, u64, u32),
    Release(u64, u64),
    Restore(u64, u64),
    Move(u64, u64, u64, u64),
    Fork,
    Clear,
}

fn op() -> impl Strategy<Value = Op> {
    let page = || 0..PAGES;
    let len = || prop_oneof![4 => 0..6u64, 1 => 0..PAGES];
    let owner = || 0..4u32;
    prop_oneof![
        8 => (page(), len(), owner()).prop_map(|(p, n, o)| Op::Grow(p, n, o)),
        3 => (page(), 0..20u64, owner()).prop_map(|(p, n, o)| Op::Around(p, n, o)),
        5 => (page(), len()).prop_map(|(p, n)| Op::Release(p, n)),
        1 => (page(), len()).prop_map(|(p, n)| Op::Restore(p, n)),
        3 => (page(), len(), page(), len()).prop_map(|(p, n, q, m)| Op::Move(p, n, q, m)),
        1 => Just(Op::Fork),
        1 => Just(Op::Clear),
    ]
}

/// Owner and whether inherited, of each resident page.
#[derive(Clone, Debug, Default, PartialEq)]
struct PageTable(HashMap<u64, (u32, bool)>);

type Credits = BTreeMap<(u32, bool), u64>;

impl PageTable {
    fn release(&mut self, pages: Range<u64>, credits: &mut Credits) {
        for page in pages {
            if let Some(claim) = self.0.remove(&page) {
                *credits.entry(claim).or_default() += PAGE_BYTES;
            }
        }
    }

    fn grow(&mut self, page: u64, owner: u32, credits: &mut Credits) {
        self.release(page..page + 1, credits);
        self.0.insert(page, (owner, false));
    }

    fn around(&mut self, page: u64, count: u64, owner: u32, credits: &mut Credits) -> u64 {
        let first = page / 16 * 16;
        let mut free: Vec<u64> = (page..first + 16)
            .filter(|page| self.0.get(page).is_none_or(|claim| claim.1))
            .collect();
        free.truncate(count as usize);
        for &page in &free {
            self.grow(page, owner, credits);
        }
        count - free.len() as u64
    }

    fn move_pages(&mut self, old: u64, len: u64, new: u64, new_len: u64, credits: &mut Credits) {
        let kept = len.min(new_len);
        let moved: Vec<_> = (0..kept).map(|page| self.0.remove(&(old + page))).collect();
        self.release(old + kept..old + len, credits);
        self.release(new..new + new_len, credits);
        for (page, claim) in (new..).zip(moved) {
            if let Some(claim) = claim {
                self.0.insert(page, claim);
            }
        }
    }

    fn fork(&self) -> PageTable {
        let pages = self.0.iter();
        PageTable(pages.map(|(&page, &(o, _))| (page, (o, true))).collect())
    }

    fn bytes(&self, inherited: bool) -> u64 {
        let pages = self.0.values().filter(|claim| claim.1 == inherited);
        pages.count() as u64 * PAGE_BYTES
    }
}

fn at(page: u64) -> u64 {
    BASE + page * PAGE_BYTES
}

/// One address space, twice.
#[derive(Clone, Debug, Default)]
struct Space {
    residency: Residency,
    table: PageTable,
}

impl Space {
    /// Does the same to both; returns the child of a fork.
    fn apply(&mut self, op: &Op) -> Option<Space> {
        let (mut told, mut truth) = (Credits::new(), Credits::new());
        let tell = |released: Released| {
            *told
                .entry((released.owner.0, released.inherited))
                .or_default() += released.bytes;
        };
        let Space { residency, table } = self;
        match *op {
            Op::Grow(page, len, owner) => {
                residency.grow(at(page)..at(page + len), OwnerId(owner), tell);
                (page..page + len).for_each(|page| table.grow(page, owner, &mut truth));
            }
            Op::Around(page, count, owner) => {
                // To the end of the window; its beginning is any byte of the page.
                let window_end = (at(page) & !(FAULT_AROUND_BYTES - 1)) + FAULT_AROUND_BYTES;
                let range = at(page) + 123..window_end;
                let left = residency.grow_around(range, count, OwnerId(owner), tell);
                assert_eq!(left, table.around(page, count, owner, &mut truth));
            }
            Op::Release(page, len) => {
                residency.release(at(page)..at(page + len), tell);
                table.release(page..page + len, &mut truth);
            }
            Op::Restore(page, len) => {
                let (mut cut, mut back) = (Vec::new(), Vec::new());
                let pieces = residency.cut(at(page)..at(page + len), |piece| cut.push(piece));
                for piece in pieces {
                    back.extend(residency.restore(piece.clone()));
                    assert_eq!(residency.restore(piece), None, "restored twice");
                }
                assert_eq!(cut, back);
            }
            Op::Move(old, len, new, new_len) => {
                residency.move_range(at(old)..at(old + len), at(new)..at(new + new_len), tell);
                table.move_pages(old, len, new, new_len, &mut truth);
            }
            Op::Fork => {
                return Some(Space {
                    residency: residency.fork(next_id()),
                    table: table.fork(),
                });
            }
            Op::Clear => {
                residency.clear(tell);
                table.release(0..3 * PAGES, &mut truth);
            }
        }
        assert_eq!(told, truth, "credits of {op:?}");
        None
    }

    fn check(&self) {
        let mut expanded = PageTable::default();
        let mut before: Option<(Range<u64>, Claim)> = None;
        for (range, owner, inherited) in self.residency.iter() {
            assert!(!range.is_empty());
            let claim = self.residency.extents[&range.start].claim;
            if let Some((left, left_claim)) = before {
                assert!(left.end <= range.start, "extents overlap");
                let alike = left_claim == claim && !inherited;
                assert!(left.end < range.start || !alike, "neighbours not joined");
            }
            for address in range.clone().step_by(PAGE_BYTES as usize) {
                let page = (address - BASE) / PAGE_BYTES;
                expanded.0.insert(page, (owner.0, inherited));
            }
            before = Some((range, claim));
        }
        assert_eq!(expanded, self.table);
        assert_eq!(self.residency.owned_bytes(), self.table.bytes(false));
        assert_eq!(self.residency.inherited_bytes(), self.table.bytes(true));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Every address space of a family of forks stays what a page table says, and none changes
    /// with another's.
    #[test]
    fn is_a_page_table(ops in prop::collection::vec((any::<prop::sample::Index>(), op()), 1..80)) {
        let mut spaces = vec![Space::default()];
        for (which, op) in &ops {
            let index = which.index(spaces.len());
            if let Some(child) = spaces[index].apply(op) {
                spaces.push(child);
            }
            spaces.iter().for_each(Space::check);
        }
    }
}

fn released(residency: &mut Residency, range: Range<u64>) -> Vec<Released> {
    let mut all = Vec::new();
    residency.release(range, |released| all.push(released));
    all
}

fn nothing(released: Released) {
    panic!("{released:?} was not to be released");
}

#[test]
fn an_ascending_storm_is_one_extent() {
    let mut residency = Residency::default();
    (0..10_000).for_each(|page| residency.grow(at(page)..at(page + 1), OwnerId(7), nothing));
    assert_eq!(residency.extents.len(), 1);
    assert_eq!(residency.owned_bytes(), 10_000 * PAGE_BYTES);
}

#[test]
fn a_hole_splits_an_extent_and_its_filling_joins_it() {
    let mut residency = Residency::default();
    residency.grow(at(0)..at(9), OwnerId(1), nothing);
    let hole = released(&mut residency, at(3)..at(4));
    assert_eq!(
        hole,
        [Released {
            owner: OwnerId(1),
            inherited: false,
            bytes: PAGE_BYTES
        }]
    );
    assert_eq!(residency.extents.len(), 2);
    residency.grow(at(3)..at(4), OwnerId(1), nothing);
    assert_eq!(residency.extents.len(), 1);
}

#[test]
fn what_was_resident_before_the_attach_is_nobodys() {
    let mut residency = Residency::default();
    assert_eq!(released(&mut residency, 0..u64::MAX), []);
    residency.move_range(at(0)..at(5), at(20)..at(25), nothing);
    assert_eq!(residency.owned_bytes(), 0);
}

#[test]
fn a_fork_of_a_fork_inherits_everything() {
    let mut parent = Residency::default();
    parent.grow(at(0)..at(4), OwnerId(1), nothing);
    let mut child = parent.fork(next_id());
    child.grow(at(4)..at(6), OwnerId(2), nothing);
    let mut grandchild = child.fork(next_id());
    assert_eq!(grandchild.owned_bytes(), 0);
    assert_eq!(grandchild.inherited_bytes(), 6 * PAGE_BYTES);
    let gone = released(&mut grandchild, at(3)..at(5));
    assert!(gone.iter().all(|released| released.inherited));
    assert_eq!(child.owned_bytes(), 2 * PAGE_BYTES);
    assert_eq!(child.inherited_bytes(), 4 * PAGE_BYTES);
    assert_eq!(parent.owned_bytes(), 4 * PAGE_BYTES);
}

#[test]
fn moves_at_the_end_of_the_address_space_do_not_overflow() {
    let mut residency = Residency::default();
    let top = !(PAGE_BYTES - 1);
    residency.grow(top - PAGE_BYTES..top, OwnerId(1), nothing);
    residency.move_range(top - PAGE_BYTES..top, 0..PAGE_BYTES, nothing);
    residency.move_range(0..top, PAGE_BYTES..top, nothing);
    assert_eq!(residency.owned_bytes(), PAGE_BYTES);
    assert_eq!(
        residency.grow_around(top..u64::MAX, 3, OwnerId(1), nothing),
        3
    );
}

/// Numbers of processes, none twice.
fn next_id() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[test]
fn a_page_is_unshared_once_by_each_while_another_has_it() {
    let write = |space: &mut Residency, pages: Range<u64>, others: &[&Residency]| {
        let shared = |address, claim: Option<(OwnerId, u64)>| {
            let version = claim.map(|(_, version)| version);
            others
                .iter()
                .any(|other| other.version_at(address) == version)
        };
        space.unshare(at(pages.start)..at(pages.end), shared) / PAGE_BYTES
    };
    let mut parent = Residency::of(next_id());
    parent.grow(at(0)..at(10), OwnerId(1), |_| {});
    let mut child = parent.fork(next_id());
    let mut other = parent.fork(next_id());
    assert_eq!(write(&mut child, 2..5, &[&parent, &other]), 3);
    assert_eq!(
        write(&mut child, 2..5, &[&parent, &other]),
        0,
        "it is its own"
    );
    assert_eq!(write(&mut child, 4..6, &[&parent, &other]), 1);
    // The other one still shares those with the parent; then the parent is left alone.
    assert_eq!(write(&mut other, 2..4, &[&parent, &child]), 2);
    assert_eq!(
        write(&mut parent, 2..4, &[&child, &other]),
        0,
        "nobody has it any more"
    );
    assert_eq!(write(&mut parent, 8..10, &[&child, &other]), 2);
    parent.grow(at(10)..at(12), OwnerId(1), |_| {});
    assert_eq!(
        write(&mut parent, 10..12, &[&child, &other]),
        0,
        "grown after"
    );
    // Unsharing is no growth: what was inherited stays so, and owners stay.
    assert_eq!(child.inherited_bytes(), 10 * PAGE_BYTES);
    assert_eq!(child.owned_bytes(), 0);
    let mut grandchild = child.fork(next_id());
    assert_eq!(write(&mut grandchild, 2..3, &[&parent, &child, &other]), 1);
    // Gone from the other one: alone.
    child.release(at(0)..at(10), |_| {});
    assert_eq!(write(&mut grandchild, 4..6, &[&child]), 0);
}

#[test]
fn what_was_there_before_the_attach_may_be_shared() {
    let (mut master, mut worker) = (Residency::of(next_id()), Residency::of(next_id()));
    master.was_resident(at(0)..at(4), OwnerId(1));
    worker.was_resident(at(2)..at(6), OwnerId(2));
    let shared = |address, claim: Option<(OwnerId, u64)>| {
        claim.is_some_and(|(_, version)| master.version_at(address) == Some(version))
    };
    // Told to be the worker's alone: the master has copied it since the fork.
    assert_eq!(worker.unshare(at(3)..at(4), |_, _| false), 0);
    assert_eq!(worker.unshare(at(0)..at(6), shared), PAGE_BYTES);
    assert_eq!(worker.unshare(at(0)..at(6), shared), 0);
}
