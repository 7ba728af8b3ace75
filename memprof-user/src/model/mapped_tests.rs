//! Requested address space, told in records: who asked, what is left, and what a failed unmap,
//! a fork and an exec make of it.

use memprof_common::PAGE_BYTES;
use memprof_common::records::{
    AddressSpace, Growth, Header, Mapping, Task, flag, member, space_op, task_op, walk_result,
};

use super::super::{Attach, Model, Owner, PageKind, StackIndex};

const HEAP: u64 = 0x7f00_0000_0000;
const PID: u32 = 7;

fn header(tid: u32, op: u16) -> Header {
    Header {
        pid: PID,
        tid,
        op,
        ..Header::default()
    }
}

fn address(page: u64) -> u64 {
    HEAP + page * PAGE_BYTES
}

fn mapping(page: u64, pages: u64, member: u32) -> Mapping {
    Mapping {
        header: header(PID, walk_result::STACK),
        start: address(page),
        len: pages * PAGE_BYTES,
        stack: 1,
        member,
        _padding: 0,
    }
}

fn change(tid: u32, op: u16, page: u64, pages: u64) -> AddressSpace {
    AddressSpace {
        header: header(tid, op),
        start: address(page),
        len: pages * PAGE_BYTES,
        ..AddressSpace::default()
    }
}

fn moved(op: u16, from: (u64, u64), to: (u64, u64)) -> AddressSpace {
    AddressSpace {
        new_start: address(to.0),
        new_len: to.1 * PAGE_BYTES,
        ..change(PID, op, from.0, from.1)
    }
}

fn task(pid: u32, op: u16, other: u32) -> Task {
    Task {
        header: Header {
            pid,
            ..header(pid, op)
        },
        other,
        ..Task::default()
    }
}

struct Traced(Model);

impl Traced {
    fn new() -> Self {
        let mut model = Model::new(0.0);
        model.attach(Attach {
            pid: PID,
            python: Some("3.11.7".into()),
            ..Attach::default()
        });
        Traced(model)
    }

    /// Anonymous memory, asked for by this stack.
    fn map(&mut self, page: u64, pages: u64, stack: u32) -> &mut Self {
        let mapping = mapping(page, pages, member::ANON);
        self.0.mapping(&mapping, Some(StackIndex(stack)));
        self
    }

    fn change(&mut self, change: AddressSpace) -> &mut Self {
        self.0.address_space(&change);
        self
    }

    fn op(&mut self, op: u16, page: u64, pages: u64) -> &mut Self {
        self.change(change(PID, op, page, pages))
    }

    fn owners(self) -> Vec<Owner> {
        self.0.finish(0.0).1
    }

    /// In pages, by stack: mapped, mapped_gross.
    fn sums(self) -> Vec<(u32, u64, u64)> {
        let row = |owner: &Owner| {
            let pages = |bytes: u64| bytes / PAGE_BYTES;
            (owner.stack, pages(owner.mapped), pages(owner.mapped_gross))
        };
        self.owners().iter().map(row).collect()
    }
}

#[test]
fn a_block_that_is_touched_in_part_has_both_numbers_in_one_row() {
    let mut traced = Traced::new();
    traced.map(0, 100, 1);
    for (page, stack) in [(10, 1), (50, 2)] {
        let growth = Growth {
            header: header(PID, walk_result::STACK),
            start: address(page),
            end: address(page + 10),
            stack: 1,
            ip: 0,
            pages: 10,
            events: 1,
            member: member::ANON,
            _padding: 0,
        };
        traced.0.growth(&growth, Some(StackIndex(stack)));
    }
    // Across the end of what was asked for.
    let reaching_out = Growth {
        header: header(PID, walk_result::STACK),
        start: address(95),
        end: address(110),
        stack: 1,
        ip: 0,
        pages: 15,
        events: 1,
        member: member::ANON,
        _padding: 0,
    };
    traced.0.growth(&reaching_out, Some(StackIndex(2)));
    traced.map(105, 10, 3);
    let owners = traced.owners();
    let pages = |owner: &Owner| {
        [
            owner.net(),
            owner.mapped,
            owner.mapped_gross,
            owner.mapped_touched,
        ]
        .map(|bytes| bytes / PAGE_BYTES)
    };
    // Who touched it does not matter to who asked for it.
    let rows: Vec<_> = owners.iter().map(|o| (o.stack, pages(o))).collect();
    assert_eq!(
        rows,
        [
            (1, [10, 100, 100, 25]),
            (2, [25, 0, 0, 0]),
            (3, [0, 10, 10, 5])
        ]
    );
}

#[test]
fn an_unmap_takes_a_part_and_a_discard_takes_nothing() {
    let mut traced = Traced::new();
    traced.map(0, 10, 1).map(10, 10, 2);
    traced.op(space_op::DISCARD, 0, 20);
    traced.op(space_op::UNMAP, 8, 4);
    // What was there before the attach is nobody's.
    traced.op(space_op::UNMAP, 500, 4);
    assert_eq!(traced.sums(), [(1, 8, 10), (2, 8, 10)]);
}

#[test]
fn a_mapping_over_another_one_replaces_it() {
    let mut traced = Traced::new();
    traced.map(0, 10, 1);
    traced.op(space_op::UNMAP, 2, 4).map(2, 4, 2);
    // Its UNMAP was lost.
    traced.map(8, 4, 3);
    assert_eq!(traced.sums(), [(1, 4, 10), (2, 4, 4), (3, 4, 4)]);
}

#[test]
fn a_move_takes_the_request_along_and_growth_is_whose_call_it_is() {
    let mut traced = Traced::new();
    let shared = mapping(0, 10, member::SHMEM);
    traced.0.mapping(&shared, Some(StackIndex(1)));
    traced.change(moved(space_op::MOVE, (0, 10), (100, 15)));
    let more = mapping(110, 5, Mapping::LIKE_BEFORE);
    traced.0.mapping(&more, Some(StackIndex(2)));
    // The old addresses are nobody's any more; the new ones are.
    traced.op(space_op::UNMAP, 0, 10);
    traced.op(space_op::UNMAP, 100, 1);
    let owners = traced.0.finish(0.0).1;
    let rows = owners.iter().map(|o| (o.stack, o.kind, o.mapped));
    let expected = [
        (1, PageKind::Shmem, 9 * PAGE_BYTES),
        (2, PageKind::Shmem, 5 * PAGE_BYTES),
    ];
    assert!(rows.eq(expected), "{owners:?}");
}

#[test]
fn a_move_of_the_pages_leaves_the_old_range_mapped() {
    let mut traced = Traced::new();
    traced.map(0, 10, 1);
    traced.change(moved(space_op::MOVE_PAGES, (0, 10), (100, 10)));
    traced.map(100, 10, 2);
    assert_eq!(traced.sums(), [(1, 10, 10), (2, 10, 10)]);
}

#[test]
fn a_failed_unmap_gives_back_what_it_took() {
    let mut traced = Traced::new();
    traced.map(0, 10, 1).map(10, 10, 2);
    traced.op(space_op::UNMAP, 5, 10);
    // Other threads at the same time.
    traced.change(change(8, space_op::UNMAP, 0, 2));
    traced.change(change(9, space_op::DISCARD, 0, 20));
    traced.op(space_op::UNMAP_FAILED, 5, 10);
    traced.change(change(9, space_op::UNMAP_FAILED, 0, 20));
    // Told twice: it is in the map already.
    traced.op(space_op::UNMAP_FAILED, 5, 10);
    assert_eq!(traced.sums(), [(1, 8, 10), (2, 10, 10)]);
}

#[test]
fn a_failed_discard_does_not_undo_an_older_unmap() {
    let mut traced = Traced::new();
    traced.map(0, 10, 1);
    traced.op(space_op::UNMAP, 0, 10);
    traced.op(space_op::DISCARD, 0, 10);
    traced.op(space_op::UNMAP_FAILED, 0, 10);
    // Nor does the failure of a call whose announcement was lost.
    traced.map(20, 10, 2);
    traced.op(space_op::UNMAP, 20, 10);
    traced.op(space_op::UNMAP_FAILED, 22, 2);
    assert_eq!(traced.sums(), [(1, 0, 10), (2, 0, 10)]);
}

#[test]
fn only_so_many_unmaps_can_be_taken_back() {
    let mut traced = Traced::new();
    traced.map(0, 20, 1);
    for tid in 0..20 {
        traced.change(change(100 + tid, space_op::UNMAP, u64::from(tid), 1));
    }
    for tid in 0..20 {
        traced.change(change(100 + tid, space_op::UNMAP_FAILED, u64::from(tid), 1));
    }
    assert_eq!(traced.sums(), [(1, super::ANNOUNCED as u64, 20)]);
}

#[test]
fn a_child_inherits_the_mappings_and_not_the_request() {
    let mut traced = Traced::new();
    traced.map(0, 10, 1);
    traced.0.task(&task(8, task_op::FORK, PID));
    let child = |mapping: Mapping| Mapping {
        header: Header {
            pid: 8,
            ..mapping.header
        },
        ..mapping
    };
    traced
        .0
        .mapping(&child(mapping(20, 5, member::ANON)), Some(StackIndex(1)));
    // In the child: all of the parent's, and one page of its own.
    let mut unmap = change(8, space_op::UNMAP, 0, 21);
    unmap.header.pid = 8;
    traced.change(unmap);
    let owners = traced.owners();
    let rows = owners.iter().map(|o| (o.process, o.mapped, o.mapped_gross));
    let bytes = |pages: u64| pages * PAGE_BYTES;
    let expected = [(0, bytes(10), bytes(10)), (1, bytes(4), bytes(5))];
    assert!(rows.eq(expected), "{owners:?}");
}

#[test]
fn exec_unmaps_everything_and_exit_nothing() {
    let mut traced = Traced::new();
    traced.map(0, 10, 1);
    traced.0.task(&task(PID, task_op::EXEC, 1));
    traced.map(0, 5, 2);
    traced.0.task(&task(PID, task_op::EXIT, 0));
    traced.map(50, 5, 2);
    assert_eq!(traced.sums(), [(1, 0, 10), (2, 5, 5)]);
}

#[test]
fn the_shutdown_of_the_interpreter_closes_the_sums() {
    let mut traced = Traced::new();
    traced.map(0, 10, 1);
    let mut late = mapping(20, 5, member::ANON);
    late.header.flags = flag::FINALIZING;
    traced.0.mapping(&late, Some(StackIndex(1)));
    let mut unmap = change(PID, space_op::UNMAP, 0, 10);
    unmap.header.flags = flag::FINALIZING;
    traced.change(unmap);
    assert_eq!(traced.sums(), [(1, 10, 10)]);
}

#[test]
fn what_a_loader_has_not_mapped_yet_is_no_shutdown() {
    let mut traced = Traced::new();
    traced.0.task(&task(PID, task_op::EXEC, 1));
    let mut early = mapping(0, 10, member::ANON);
    early.header.op = walk_result::NO_THREAD_STATE;
    early.header.flags = flag::FINALIZING;
    traced.0.mapping(&early, None);
    let mut unmap = change(PID, space_op::UNMAP, 50, 1);
    unmap.header.flags = flag::FINALIZING;
    traced.change(unmap);
    traced.map(20, 5, 2);
    assert!(traced.sums().contains(&(2, 5, 5)));
}

#[test]
fn a_reserve_counts_until_it_is_touched() {
    let mut traced = Traced::new();
    let mut reserve = mapping(0, 10, member::ANON);
    reserve.header.flags = flag::RESERVED;
    traced.0.mapping(&reserve, Some(StackIndex(1)));
    let growth = Growth {
        header: header(PID, walk_result::STACK),
        start: address(0),
        end: address(3),
        stack: 1,
        ip: 0,
        pages: 3,
        events: 1,
        member: member::ANON,
        _padding: 0,
    };
    traced.0.growth(&growth, Some(StackIndex(1)));
    let owners = traced.owners();
    let [owner] = owners.as_slice() else {
        panic!("{owners:?}")
    };
    assert_eq!(owner.mapped, 10 * PAGE_BYTES);
    assert_eq!(owner.mapped_reserved, 7 * PAGE_BYTES);
    assert_eq!(owner.mapped_touched, 3 * PAGE_BYTES);
}

#[test]
fn garbage_does_no_harm() {
    let mut traced = Traced::new();
    for (start, len) in [(u64::MAX, u64::MAX), (0, u64::MAX), (1, 0), (0, 1)] {
        for member in 0..=Mapping::LIKE_BEFORE + 1 {
            let mut mapping = mapping(0, 1, member);
            (mapping.start, mapping.len) = (start, len);
            traced.0.mapping(&mapping, None);
        }
        for op in 0..9 {
            let mut change = moved(op, (0, 0), (0, 0));
            (change.start, change.len) = (start, len);
            (change.new_start, change.new_len) = (len, start);
            traced.change(change);
        }
    }
    let mut stray = mapping(0, 1, member::ANON);
    stray.header.pid = 99;
    traced.0.mapping(&stray, None);
    assert_eq!(traced.0.anomalies().strays, 1);
    for owner in traced.owners() {
        assert!(owner.mapped <= owner.mapped_gross, "{owner:?}");
        assert!(owner.mapped_touched <= owner.mapped, "{owner:?}");
    }
}
