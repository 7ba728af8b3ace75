//! The page tables' word on processes whose records left something open.

use std::ops::Range;

use memprof_common::PAGE_BYTES;
use memprof_common::records::{flag, member, space_op, task_op};

use super::super::ledger::StackIndex;
use super::super::process::Look;
use super::*;

const EVERYWHERE: Range<u64> = 0..!(PAGE_BYTES - 1);

fn at(page: u64) -> u64 {
    HEAP + page * PAGE_BYTES
}

fn pages(from: u64, to: u64) -> Range<u64> {
    at(from)..at(to)
}

/// A look at everything, in which these pages are anonymous and those a file's.
fn look(anon: &[Range<u64>], file: &[Range<u64>]) -> Look {
    let anon = anon.iter().map(|range| (range.clone(), PageKind::Anon));
    let file = file.iter().map(|range| (range.clone(), PageKind::File));
    let mut seen: Vec<_> = anon.chain(file).collect();
    seen.sort_by_key(|(range, _)| range.start);
    Look {
        ranges: Vec::from([EVERYWHERE]),
        seen,
        whole: true,
    }
}

fn settle(model: &mut Model, pid: u32, look: &Look) {
    model.rest(pid);
    model.doubt_all(pid);
    model.settle(pid, look, None);
    check_invariant(model);
}

fn found(owners: &[Owner]) -> u64 {
    let found = owners
        .iter()
        .filter(|owner| owner.cause == profile::Cause::Found);
    found.map(|owner| owner.gross / PAGE_BYTES).sum()
}

#[test]
fn what_went_without_a_record_is_freed() {
    let mut model = attached(7);
    model.growth(&growth(7, 0, 10), Some(StackIndex(1)));
    settle(&mut model, 7, &look(&[pages(0, 4), pages(7, 10)], &[]));
    let (_, owners, _) = model.finish(0.0);
    assert_eq!(sums(&owners, 0), [10, 3, 10]);
}

#[test]
fn growth_without_a_place_finds_one_and_keeps_its_owner() {
    let mut model = attached(7);
    let mut unplaced = growth(7, 0, 5);
    (unplaced.start, unplaced.end) = (0, 0);
    unplaced.header.flags = flag::UNPLACED;
    model.growth(&unplaced, Some(StackIndex(1)));
    assert!(model.open_questions(7).is_some_and(|open| open.is_all()));
    settle(&mut model, 7, &look(&[pages(20, 25)], &[]));
    assert!(model.open_questions(7).is_none());
    model.address_space(&unmap(7, 20, 5));
    let (_, owners, _) = model.finish(0.0);
    assert_eq!((sums(&owners, 0), found(&owners)), ([5, 5, 5], 0));
}

#[test]
fn growth_that_is_nowhere_has_gone() {
    let mut model = attached(7);
    let mut unplaced = growth(7, 0, 5);
    (unplaced.start, unplaced.end) = (0, 0);
    unplaced.header.flags = flag::UNPLACED;
    model.growth(&unplaced, Some(StackIndex(1)));
    settle(&mut model, 7, &look(&[pages(20, 22)], &[]));
    let (_, owners, _) = model.finish(0.0);
    assert_eq!(sums(&owners, 0), [5, 3, 5]);
}

#[test]
fn a_guessed_place_is_mended_without_a_release() {
    let mut model = attached(7);
    let mut around = growth(7, 0, 16);
    around.header.flags = flag::WITHIN;
    around.member = member::FILE;
    around.pages = 4;
    model.growth(&around, Some(StackIndex(1)));
    let open = model.open_questions(7).cloned();
    assert_eq!(open.map(Ranges::merged), Some(vec![pages(0, 16)]));
    settle(&mut model, 7, &look(&[], &[pages(9, 13)]));
    model.address_space(&unmap(7, 9, 4));
    let (_, owners, _) = model.finish(0.0);
    assert_eq!((sums(&owners, 0), found(&owners)), ([4, 4, 4], 0));
}

#[test]
fn what_no_record_told_is_named_until_its_record_comes() {
    let mut model = attached(7);
    settle(&mut model, 7, &look(&[pages(0, 8)], &[]));
    assert_eq!(model.status().gross, 8 * PAGE_BYTES);
    // It was on its way.
    model.growth(&growth(7, 0, 6), Some(StackIndex(1)));
    check_invariant(&model);
    let (_, owners, _) = model.finish(0.0);
    assert_eq!((sums(&owners, 0), found(&owners)), ([8, 0, 8], 2));
}

#[test]
fn what_records_touched_since_is_not_judged() {
    let mut model = attached(7);
    model.growth(&growth(7, 0, 4), Some(StackIndex(1)));
    model.rest(7);
    model.doubt_all(7);
    // The look is older than this record, and newer than that one.
    model.growth(&growth(7, 10, 4), Some(StackIndex(1)));
    model.address_space(&unmap(7, 2, 2));
    model.settle(7, &look(&[pages(0, 4)], &[]), None);
    check_invariant(&model);
    assert!(model.open_questions(7).is_some());
    let (_, owners, _) = model.finish(0.0);
    assert_eq!((sums(&owners, 0), found(&owners)), ([8, 2, 6 + 2], 0));
}

#[test]
fn growth_that_is_still_to_come_is_not_found() {
    let mut model = attached(7);
    model.rest(7);
    model.doubt_all(7);
    model.settle(7, &look(&[pages(0, 4)], &[]), Some(pages(0, 3)));
    assert!(model.open_questions(7).is_none());
    let (_, owners, _) = model.finish(0.0);
    assert_eq!((sums(&owners, 0), found(&owners)), ([1, 0, 1], 1));
}

#[test]
fn a_call_that_failed_midway_gives_its_pages_back_to_their_owners() {
    let mut model = attached(7);
    model.growth(&growth(7, 0, 10), Some(StackIndex(1)));
    model.address_space(&unmap(7, 0, 10));
    let mut failed = unmap(7, 0, 10);
    failed.header.op = space_op::UNMAP_FAILED;
    model.address_space(&failed);
    check_invariant(&model);
    let open = model.open_questions(7).cloned();
    assert_eq!(open.map(Ranges::merged), Some(vec![pages(0, 10)]));
    settle(&mut model, 7, &look(&[pages(0, 6)], &[]));
    let (_, owners, _) = model.finish(0.0);
    assert_eq!((sums(&owners, 0), found(&owners)), ([10, 4, 10], 0));
}

#[test]
fn a_child_has_what_its_page_tables_have() {
    let mut model = attached(7);
    model.growth(&growth(7, 0, 10), Some(StackIndex(1)));
    model.task(&task(8, task_op::FORK, 7, 10));
    assert!(model.open_questions(8).is_some_and(|open| open.is_all()));
    settle(&mut model, 8, &look(&[pages(0, 7)], &[]));
    let kinds = model.believed(8, None).expect("the child is there");
    assert_eq!(kinds.anon, 7 * PAGE_BYTES);
    let (processes, owners, _) = model.finish(0.0);
    // Nothing of it is the child's growth or release.
    assert_eq!(sums(&owners, 1), [0, 0, 0]);
    assert_eq!(processes[1].inherited, 10 * PAGE_BYTES);
}

#[test]
fn what_a_parent_had_guessed_is_inherited_where_it_is() {
    let mut model = attached(7);
    let mut around = growth(7, 0, 16);
    around.header.flags = flag::WITHIN;
    around.member = member::FILE;
    around.pages = 4;
    model.growth(&around, Some(StackIndex(1)));
    model.task(&task(8, task_op::FORK, 7, 4));
    settle(&mut model, 8, &look(&[], &[pages(9, 13)]));
    let kinds = model.believed(8, None).expect("the child is there");
    assert_eq!(kinds.file, 4 * PAGE_BYTES);
    // Later ones are its own, and nobody told of them.
    settle(&mut model, 8, &look(&[], &[pages(9, 15)]));
    let (_, owners, _) = model.finish(0.0);
    assert_eq!(sums(&owners, 1), [2, 0, 2]);
    assert_eq!(found(&owners), 2);
}

#[test]
fn a_drift_is_counted_and_has_the_page_tables_asked() {
    let mut model = attached(7);
    model.checked(7, 0);
    assert!(model.open_questions(7).is_none());
    model.checked(7, 3 * PAGE_BYTES);
    assert!(model.open_questions(7).is_some());
    model.checked(7, 0);
    let (processes, ..) = model.finish(0.0);
    let reconciled = processes[0].reconciled;
    assert_eq!(reconciled.checks, 3);
    assert_eq!(reconciled.largest_drift, 3 * PAGE_BYTES);
    assert_eq!(reconciled.corrected, 3 * PAGE_BYTES);
    assert_eq!(reconciled.last_drift, 0);
}

#[test]
fn memory_that_is_borrowed_is_not_looked_at() {
    let mut model = attached(7);
    let mut vfork = task(8, task_op::FORK, 7, 10);
    vfork.shares_memory = 1;
    model.task(&vfork);
    model.doubt_all(8);
    assert!(model.open_questions(8).is_none() && model.believed(8, None).is_none());
    model.task(&task(8, task_op::EXEC, 1, 3));
    assert!(model.open_questions(8).is_some() && model.believed(8, None).is_some());
}

#[test]
fn what_a_child_faulted_in_itself_keeps_its_kind() {
    let mut model = attached(7);
    let mapped = |page, member| {
        let mut growth = growth(7, page, 4);
        growth.member = member;
        growth
    };
    model.growth(&mapped(0, member::FILE), Some(StackIndex(1)));
    model.growth(&mapped(10, member::SHMEM), Some(StackIndex(1)));
    model.task(&task(8, task_op::FORK, 7, 8));
    // One page of each, anywhere: fork had not copied their page tables.
    for member in [member::SHMEM, member::FILE] {
        let mut unplaced = growth(8, 0, 1);
        (unplaced.start, unplaced.end) = (0, 0);
        unplaced.header.flags = flag::UNPLACED;
        unplaced.member = member;
        model.growth(&unplaced, Some(StackIndex(1)));
    }
    let mut look = look(&[], &[pages(0, 4)]);
    look.seen.push((pages(10, 14), PageKind::Shmem));
    settle(&mut model, 8, &look);
    let kinds = model.believed(8, None).expect("the child is there");
    assert_eq!([kinds.file, kinds.shmem], [4 * PAGE_BYTES; 2]);
}

#[test]
fn growth_to_come_takes_the_place_of_what_is_there() {
    let mut model = attached(7);
    let mut read = growth(7, 0, 8);
    read.member = member::FILE;
    model.growth(&read, Some(StackIndex(1)));
    // Copies of the last three pages are on their way.
    let kinds = model.believed(7, Some(pages(5, 12))).expect("it is there");
    assert_eq!(kinds.file, 5 * PAGE_BYTES);
}
