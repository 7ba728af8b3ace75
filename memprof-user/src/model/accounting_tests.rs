//! Lives of processes, told in records.

use memprof_common::PAGE_BYTES;
use memprof_common::records::{self, Header, flag, member, space_op, task_op, walk_result};

use super::*;

const HEAP: u64 = 0x7f00_0000_0000;
const BEFORE: u64 = 1000 * PAGE_BYTES;

fn header(pid: u32, op: u16) -> Header {
    Header {
        pid,
        op,
        tid: pid,
        ..Header::default()
    }
}

fn growth(pid: u32, page: u64, pages: u32) -> records::Growth {
    let start = HEAP + page * PAGE_BYTES;
    records::Growth {
        header: header(pid, walk_result::STACK),
        start,
        end: start + u64::from(pages) * PAGE_BYTES,
        stack: 1,
        ip: 0,
        pages,
        events: pages,
        member: member::ANON,
        _padding: 0,
    }
}

fn unmap(pid: u32, page: u64, pages: u64) -> records::AddressSpace {
    records::AddressSpace {
        header: header(pid, space_op::UNMAP),
        start: HEAP + page * PAGE_BYTES,
        len: pages * PAGE_BYTES,
        ..records::AddressSpace::default()
    }
}

fn task(pid: u32, op: u16, other: u32, rss_pages: i64) -> records::Task {
    records::Task {
        header: Header {
            time_ns: 5_000_000_000,
            ..header(pid, op)
        },
        other,
        shares_memory: 0,
        // Swap is not resident.
        rss_pages: [0, rss_pages, 77, 0],
    }
}

fn attached(pid: u32) -> Model {
    let mut model = Model::new(100.0);
    let index = model.attach(Attach {
        pid,
        ppid: 1,
        role: "server".into(),
        python: Some("3.11.7".into()),
        rss_bytes: BEFORE,
        epoch_s: 101.0,
    });
    assert_eq!(index, 0);
    model
}

/// In pages: gross, freed, peak of a process.
fn sums(owners: &[Owner], process: u32) -> [u64; 3] {
    let own = owners.iter().filter(|owner| owner.process == process);
    own.fold([0; 3], |[gross, freed, peak], owner| {
        [
            gross + owner.gross / PAGE_BYTES,
            freed + owner.freed / PAGE_BYTES,
            peak + owner.peak / PAGE_BYTES,
        ]
    })
}

fn check_invariant(model: &Model) {
    let (processes, ledger) = model.parts();
    for process in processes.all().iter().filter(|process| process.counts()) {
        let own = ledger.owners().filter(|o| o.0.process == process.index());
        let net: u64 = own.map(|(_, totals)| totals.gross - totals.freed).sum();
        assert_eq!(net, process.resident_bytes());
        assert_eq!(net, ledger.resident(process.index()));
    }
}

fn sample(model: &mut Model, pid: u32, epoch_s: f64, rss_bytes: u64, main: bool) {
    model.set_rss(pid, rss_bytes, 0);
    model.sample(pid, epoch_s, rss_bytes, main);
}

#[test]
fn allocating_and_freeing_is_gross_without_net() {
    let mut model = attached(7);
    model.growth(&growth(7, 0, 10), Some(StackIndex(1)));
    model.growth(&growth(7, 20, 4), Some(StackIndex(2)));
    // Half of the first, and pages that were there before the attach.
    model.address_space(&unmap(7, 5, 10));
    check_invariant(&model);
    model.growth(&growth(7, 5, 1), Some(StackIndex(2)));
    assert_eq!(model.status().gross, 15 * PAGE_BYTES);
    assert_eq!(model.status().net, 10 * PAGE_BYTES);
    let (processes, owners, _) = model.finish(111.0);
    let row = |stack| *owners.iter().find(|owner| owner.stack == stack).unwrap();
    let amounts = |owner: Owner| [owner.gross, owner.freed, owner.peak].map(|b| b / PAGE_BYTES);
    assert_eq!(amounts(row(1)), [10, 5, 10]);
    assert_eq!(amounts(row(2)), [5, 0, 4]);
    assert_eq!(row(1).events, 10);
    assert_eq!(row(1).cause, Cause::Python);
    assert_eq!(processes[0].rss_start, BEFORE);
    assert_eq!(processes[0].rss_end, BEFORE + 10 * PAGE_BYTES);
    assert_eq!(processes[0].rss_peak, BEFORE + 14 * PAGE_BYTES);
    assert_eq!(processes[0].last_epoch_s, 111.0);
    assert!(!processes[0].exited);
}

#[test]
fn a_move_takes_ownership_along() {
    let mut model = attached(7);
    model.growth(&growth(7, 0, 10), Some(StackIndex(1)));
    model.address_space(&records::AddressSpace {
        header: header(7, space_op::MOVE),
        start: HEAP,
        len: 10 * PAGE_BYTES,
        new_start: HEAP + 100 * PAGE_BYTES,
        // The kernel rounds lengths up.
        new_len: 20 * PAGE_BYTES - 1,
        rss_pages: 0,
    });
    model.address_space(&unmap(7, 0, 100));
    model.address_space(&unmap(7, 108, 50));
    check_invariant(&model);
    assert_eq!(sums(&model.finish(0.0).1, 0), [10, 2, 10]);
}

#[test]
fn growth_over_what_is_resident_is_an_unseen_release() {
    let mut model = attached(7);
    model.growth(&growth(7, 0, 10), Some(StackIndex(1)));
    model.growth(&growth(7, 8, 4), Some(StackIndex(2)));
    check_invariant(&model);
    assert_eq!(model.anomalies().displaced_bytes, 2 * PAGE_BYTES);
    assert_eq!(sums(&model.finish(0.0).1, 0), [14, 2, 12]);
}

#[test]
fn a_child_grows_on_its_own() {
    let mut model = attached(7);
    model.growth(&growth(7, 0, 10), Some(StackIndex(1)));
    model.task(&task(8, task_op::FORK, 7, 900));
    model.growth(&growth(8, 50, 3), Some(StackIndex(1)));
    // What the child gives back of its parent's is in no sum.
    model.address_space(&unmap(8, 0, 4));
    model.address_space(&unmap(7, 9, 1));
    check_invariant(&model);
    let child = model.process_index(8).unwrap() as usize;
    let inherited_now = model.parts().0.all()[child].inherited_now();
    assert_eq!(inherited_now, 6 * PAGE_BYTES);
    let (processes, owners, _) = model.finish(9.0);
    assert_eq!(sums(&owners, 0), [10, 1, 10]);
    assert_eq!(sums(&owners, 1), [3, 0, 3]);
    let child = &processes[child];
    assert_eq!((child.pid, child.ppid), (8, 7));
    assert_eq!(child.python.as_deref(), Some("3.11.7"));
    assert_eq!(child.role, "server");
    assert_eq!(child.first_epoch_s, 105.0);
    assert_eq!(child.rss_start, 900 * PAGE_BYTES);
    assert_eq!(child.inherited, 900 * PAGE_BYTES);
    assert_eq!(child.rss_end, (900 + 3 - 4) * PAGE_BYTES);
    assert_eq!(child.rss_peak, 903 * PAGE_BYTES);
}

#[test]
fn a_child_that_borrows_its_parents_memory_has_none() {
    let mut model = attached(7);
    model.growth(&growth(7, 0, 10), Some(StackIndex(1)));
    let mut vfork = task(8, task_op::FORK, 7, 900);
    vfork.shares_memory = 1;
    model.task(&vfork);
    assert_eq!(model.parts().0.live(8).unwrap().inherited_now(), 0);
    model.growth(&growth(8, 20, 1), None);
    model.address_space(&unmap(8, 0, 10));
    model.task(&task(8, task_op::EXEC, 0, 0));
    model.growth(&growth(8, 0, 2), None);
    check_invariant(&model);
    let (processes, owners, _) = model.finish(9.0);
    assert_eq!(sums(&owners, 0), [10, 0, 10]);
    assert_eq!(sums(&owners, 1), [3, 1, 2]);
    assert_eq!((processes[1].rss_start, processes[1].inherited), (0, 0));
}

#[test]
fn exit_keeps_what_was_resident_just_before() {
    let mut model = attached(7);
    model.growth(&growth(7, 0, 10), Some(StackIndex(1)));
    model.address_space(&unmap(7, 0, 1));
    model.task(&task(7, task_op::EXIT, 0, 0));
    model.address_space(&unmap(7, 0, 10));
    assert_eq!(model.anomalies().strays, 1);
    assert_eq!(model.process_index(7), None);
    let (processes, owners, _) = model.finish(999.0);
    assert_eq!(sums(&owners, 0), [10, 1, 10]);
    assert!(processes[0].exited);
    assert_eq!(processes[0].last_epoch_s, 105.0);
    assert_eq!(processes[0].rss_end, BEFORE + 9 * PAGE_BYTES);
}

#[test]
fn the_kernels_word_on_rss_at_exit_is_the_last() {
    let mut model = attached(7);
    sample(&mut model, 7, 102.0, 1, true);
    model.task(&task(7, task_op::EXIT, 0, 2000));
    let (processes, ..) = model.finish(0.0);
    assert_eq!(processes[0].rss_end, 2000 * PAGE_BYTES);
    assert_eq!(processes[0].rss_peak, 2000 * PAGE_BYTES);
}

#[test]
fn a_reading_is_carried_on_until_the_exit() {
    let mut model = attached(7);
    model.growth(&growth(7, 0, 10), Some(StackIndex(1)));
    // 500 pages from before the attach were given back: only a reading tells.
    sample(&mut model, 7, 102.0, 510 * PAGE_BYTES, true);
    model.growth(&growth(7, 10, 2), Some(StackIndex(1)));
    model.task(&task(7, task_op::EXIT, 0, 0));
    let (processes, _, samples) = model.finish(0.0);
    assert_eq!(processes[0].rss_end, 512 * PAGE_BYTES);
    assert_eq!(samples.len(), 1);
    assert_eq!(samples[0].bytes, 510 * PAGE_BYTES);
    assert!(samples[0].main);
}

#[test]
fn a_reused_pid_is_another_process() {
    let mut model = attached(1);
    for stack in 1..=2 {
        model.task(&task(8, task_op::FORK, 1, 10));
        model.growth(&growth(8, 0, stack), Some(StackIndex(stack)));
        model.task(&task(8, task_op::EXIT, 0, 0));
        model.growth(&growth(8, 0, 5), Some(StackIndex(stack)));
    }
    assert_eq!(model.anomalies().strays, 2);
    // The exit of the third was lost.
    for _ in 0..2 {
        model.task(&task(8, task_op::FORK, 1, 10));
        model.growth(&growth(8, 0, 3), Some(StackIndex(3)));
    }
    assert_eq!(model.status().live, 2);
    let (processes, owners, _) = model.finish(0.0);
    let pids: Vec<u32> = processes.iter().map(|process| process.pid).collect();
    assert_eq!(pids, [1, 8, 8, 8, 8]);
    let exited: Vec<bool> = processes.iter().map(|process| process.exited).collect();
    assert_eq!(exited, [false, true, true, true, false]);
    let gross = (1..5).map(|process| sums(&owners, process)[0]);
    assert_eq!(gross.collect::<Vec<_>>(), [1, 2, 3, 3]);
}

#[test]
fn an_attach_and_the_record_of_the_fork_are_one_process() {
    let mut model = attached(7);
    model.growth(&growth(7, 0, 10), Some(StackIndex(1)));
    // Found in /proc before the record of its fork was read.
    let late = Attach {
        pid: 8,
        ppid: 7,
        role: "worker".into(),
        python: Some("3.11.7".into()),
        rss_bytes: 950 * PAGE_BYTES,
        epoch_s: 106.0,
    };
    let index = model.attach(late.clone());
    sample(&mut model, 8, 106.0, 950 * PAGE_BYTES, false);
    model.task(&task(8, task_op::FORK, 7, 900));
    model.growth(&growth(8, 50, 3), Some(StackIndex(1)));
    assert_eq!(model.process_index(8), Some(index));
    // And the other way round.
    assert_eq!(model.attach(late), index);
    check_invariant(&model);
    let (processes, owners, samples) = model.finish(0.0);
    assert_eq!(processes.len(), 2);
    assert_eq!(samples[0].process, index);
    let child = &processes[1];
    assert_eq!(child.role, "worker");
    assert_eq!(child.first_epoch_s, 105.0);
    assert_eq!(child.inherited, 900 * PAGE_BYTES);
    assert_eq!(child.rss_peak, 950 * PAGE_BYTES);
    assert_eq!(sums(&owners, 1), [3, 0, 3]);
}

#[test]
fn exec_gives_everything_back_and_begins_anew() {
    let mut model = attached(7);
    model.growth(&growth(7, 0, 10), Some(StackIndex(1)));
    let mut unplaced = growth(7, 0, 2);
    unplaced.header.flags = flag::UNPLACED;
    (unplaced.start, unplaced.end) = (0, 0);
    model.growth(&unplaced, Some(StackIndex(1)));
    check_invariant(&model);
    model.task(&task(8, task_op::FORK, 7, 900));
    model.growth(&growth(8, 20, 1), Some(StackIndex(1)));
    model.task(&task(8, task_op::EXEC, 0, 0));
    model.task(&task(7, task_op::EXEC, 0, 0));
    check_invariant(&model);
    let mut start_up = growth(8, 0, 5);
    start_up.header.op = walk_result::NO_LAYOUT;
    model.growth(&start_up, None);
    start_up.header.pid = 7;
    model.growth(&start_up, None);
    model.set_python(7, "3.13.0");
    let (processes, owners, _) = model.finish(9.0);
    assert_eq!(sums(&owners, 0), [17, 12, 12]);
    assert_eq!(sums(&owners, 1), [6, 1, 5]);
    let cause = |process| {
        let own = owners.iter().filter(|o| o.process == process);
        own.map(|owner| owner.cause).collect::<Vec<_>>()
    };
    assert_eq!(cause(0), [Cause::Interpreter, Cause::Python]);
    // The fork of a Python, then a program that is not.
    assert_eq!(cause(1), [Cause::NotPython, Cause::Python]);
    assert_eq!(processes[0].python.as_deref(), Some("3.13.0"));
    assert_eq!((&processes[1].python, processes[1].inherited), (&None, 0));
    assert_eq!(processes[1].rss_end, 5 * PAGE_BYTES);
}

#[test]
fn the_launcher_of_a_program_is_not_part_of_it() {
    let mut model = Model::new(0.0);
    model.attach(Attach {
        pid: 7,
        rss_bytes: BEFORE,
        ..Attach::default()
    });
    model.borrow(7);
    // On its way to the exec it writes to a page.
    model.growth(&growth(7, 0, 1), None);
    model.task(&task(7, task_op::EXEC, 0, 0));
    assert!(!model.borrows(7));
    model.growth(&growth(7, 0, 3), Some(StackIndex(1)));
    let (processes, ..) = model.finish(0.0);
    assert_eq!(processes[0].rss_start, 0);
    assert_eq!(processes[0].rss_peak, 3 * PAGE_BYTES);
}

#[test]
fn finalizing_closes_the_ledger() {
    let mut model = attached(7);
    model.growth(&growth(7, 0, 10), Some(StackIndex(1)));
    sample(&mut model, 7, 102.0, BEFORE + 10 * PAGE_BYTES, true);
    let mut finalizing = unmap(7, 0, 10);
    finalizing.header.flags = flag::FINALIZING;
    model.address_space(&finalizing);
    // Nothing reopens it, with the flag or without.
    model.growth(&growth(7, 0, 4), Some(StackIndex(1)));
    sample(&mut model, 7, 103.0, PAGE_BYTES, true);
    model.task(&task(7, task_op::EXIT, 0, 1));
    assert_eq!(model.anomalies().strays, 0);
    let (processes, owners, samples) = model.finish(0.0);
    // What a finalizer made resident went with the process.
    assert_eq!(sums(&owners, 0), [14, 4, 10]);
    assert_eq!(processes[0].rss_end, BEFORE + 10 * PAGE_BYTES);
    assert_eq!(samples.len(), 2);
}

#[test]
fn causes_follow_the_life_of_a_python() {
    let mut model = Model::new(0.0);
    for pid in [7, 9] {
        model.attach(Attach {
            pid,
            ..Attach::default()
        });
    }
    let ops = [
        walk_result::NO_LAYOUT,
        walk_result::STACK,
        walk_result::NO_THREAD_STATE,
        walk_result::NO_FRAME,
        walk_result::FAILED,
    ];
    for (page, op) in ops.into_iter().enumerate() {
        for pid in [7, 9] {
            let mut record = growth(pid, page as u64, 1);
            // The second is no Python: it never has a stack.
            record.header.op = match op {
                walk_result::STACK if pid == 9 => walk_result::NO_LAYOUT,
                op => op,
            };
            model.growth(&record, (op == walk_result::STACK).then_some(StackIndex(1)));
        }
    }
    let mut lost = growth(7, 50, 1);
    lost.header.flags = flag::IN_KERNEL;
    model.growth(&lost, None);
    let (_, owners, _) = model.finish(0.0);
    let rows = |process| {
        let own = owners.iter().filter(move |o| o.process == process);
        own.map(|o| (o.cause, o.stack, o.in_kernel, o.gross / PAGE_BYTES))
            .collect::<Vec<_>>()
    };
    let first = [
        (Cause::Interpreter, 0, false, 2),
        (Cause::NoPythonFrame, 0, false, 1),
        (Cause::Unknown, 0, false, 1),
        (Cause::Unknown, 0, true, 1),
        (Cause::Python, 1, false, 1),
    ];
    assert_eq!(rows(0), first);
    assert_eq!(rows(1), [(Cause::NotPython, 0, false, 5)]);
}

#[test]
fn what_makes_no_sense_is_counted() {
    let mut model = attached(7);
    model.growth(&growth(8, 0, 1), None);
    model.address_space(&unmap(8, 0, 1));
    model.task(&task(8, task_op::EXEC, 0, 0));
    model.task(&task(8, task_op::EXIT, 0, 0));
    assert_eq!(model.anomalies().strays, 4);
    // A child of an unknown parent is followed all the same.
    model.task(&task(9, task_op::FORK, 8, 10));
    assert_eq!(model.anomalies().strays, 5);
    assert_eq!(model.process_index(9), Some(1));

    let mut contradiction = growth(7, 0, 3);
    contradiction.end += 1;
    model.growth(&contradiction, Some(StackIndex(1)));
    let mut swap = growth(7, 0, 3);
    swap.member = member::SWAP;
    model.growth(&swap, None);
    let mut strange = unmap(7, 0, 1);
    strange.header.op = 999;
    model.address_space(&strange);
    let mut unknown = task(7, 999, 0, 0);
    unknown.shares_memory = u32::MAX;
    model.task(&unknown);
    // The end of the address space.
    model.address_space(&records::AddressSpace {
        header: header(7, space_op::MOVE),
        start: u64::MAX,
        len: u64::MAX,
        new_start: 1,
        new_len: u64::MAX,
        rss_pages: 0,
    });
    check_invariant(&model);
    let named: Vec<_> = model.anomalies().named().collect();
    assert_eq!(
        named,
        [
            ("records of unknown processes", 5),
            ("growth records misplaced", 1),
            ("growth records not resident", 1),
            ("records of unknown meaning", 2),
        ]
    );
    assert_eq!(sums(&model.finish(0.0).1, 0), [3, 0, 3]);
}

#[test]
fn a_fault_around_is_placed_near_its_fault() {
    let mut model = attached(7);
    let mut around = growth(7, 0, 16);
    around.header.flags = flag::WITHIN;
    around.member = member::FILE;
    around.pages = 20;
    model.growth(&around, Some(StackIndex(1)));
    model.address_space(&unmap(7, 0, 16));
    check_invariant(&model);
    let (_, owners, _) = model.finish(0.0);
    assert_eq!(owners[0].kind, PageKind::File);
    // Four had no room in the window: they count, without a place.
    assert_eq!(sums(&owners, 0), [20, 16, 20]);
}

#[test]
fn a_populate_fills_the_gaps_of_its_range() {
    let mut model = attached(7);
    model.growth(&growth(7, 10, 4), Some(StackIndex(1)));
    let mut populate = growth(7, 0, 100);
    populate.header.flags = flag::WITHIN;
    populate.pages = 96;
    model.growth(&populate, Some(StackIndex(2)));
    check_invariant(&model);
    // What was resident before kept its owner; the rest of the range is the populate's.
    model.address_space(&unmap(7, 10, 4));
    let (_, owners, _) = model.finish(0.0);
    let mut freed: Vec<_> = owners.iter().map(|o| (o.stack, o.gross, o.freed)).collect();
    freed.sort_unstable();
    let bytes = |pages| pages * PAGE_BYTES;
    assert_eq!(freed, [(1, bytes(4), bytes(4)), (2, bytes(96), 0)]);
}

#[path = "settle_tests.rs"]
mod settle;
