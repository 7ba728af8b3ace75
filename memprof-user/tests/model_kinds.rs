//! What the model tells apart: files, kinds of pages before the attach, and the course of PSS.

use memprof_common::PAGE_BYTES;
use memprof_common::records::{self, Header, flag, member, space_op, walk_result};
use memprof_user::model::{
    Attach, ByPageKind, FileIndex, Model, PageKind, Process, Share, StackIndex,
};

const PID: u32 = 7;
const BASE: u64 = 0x7f00_0000_0000;

fn attached() -> Model {
    let mut model = Model::new(0.0);
    model.attach(Attach {
        pid: PID,
        python: Some("3.11.7".to_owned()),
        rss_bytes: 100 * PAGE_BYTES,
        ..Attach::default()
    });
    model
}

fn growth(page: u64, pages: u32, member: u32) -> records::Growth {
    let start = BASE + page * PAGE_BYTES;
    records::Growth {
        header: Header {
            pid: PID,
            op: walk_result::STACK,
            ..Header::default()
        },
        start,
        end: start + u64::from(pages) * PAGE_BYTES,
        pages,
        events: 1,
        member,
        ..records::Growth::default()
    }
}

fn unmap(page: u64, pages: u64) -> records::AddressSpace {
    records::AddressSpace {
        header: Header {
            pid: PID,
            op: space_op::UNMAP,
            ..Header::default()
        },
        start: BASE + page * PAGE_BYTES,
        len: pages * PAGE_BYTES,
        ..records::AddressSpace::default()
    }
}

#[test]
fn one_stack_has_an_owner_for_each_file() {
    let mut model = attached();
    let stack = Some(StackIndex(1));
    for (page, file) in [(0, Some(0)), (10, Some(1)), (20, None), (30, Some(0))] {
        let growth = growth(page, 4, member::FILE);
        model.growth_of(&growth, stack, file.map(FileIndex));
    }
    model.growth(&growth(40, 4, member::ANON), stack);
    model.address_space(&unmap(30, 2));
    let (_, owners, _) = model.finish(0.0);
    let mut rows: Vec<_> = owners
        .iter()
        .map(|owner| {
            let pages = |bytes| bytes / PAGE_BYTES;
            (
                owner.kind,
                owner.file,
                pages(owner.gross),
                pages(owner.freed),
            )
        })
        .collect();
    rows.sort();
    let expected = [
        (PageKind::Anon, None, 4, 0),
        (PageKind::File, None, 4, 0),
        (PageKind::File, Some(0), 8, 2),
        (PageKind::File, Some(1), 4, 0),
    ];
    assert_eq!(rows, expected);
}

fn finished(model: Model) -> Process {
    model.finish(0.0).0.remove(0)
}

#[test]
fn what_is_left_of_before_the_attach_is_known_by_kind() {
    let mut model = attached();
    let range = |page: u64, pages: u64| {
        let start = BASE + page * PAGE_BYTES;
        start..start + pages * PAGE_BYTES
    };
    model.was_resident(PID, range(0, 10), PageKind::Anon);
    model.was_resident(PID, range(10, 8), PageKind::File);
    model.was_resident(PID, range(18, 4), PageKind::Shmem);
    // Three anonymous pages and two of the file go; one more of the file is written.
    model.address_space(&unmap(7, 5));
    model.growth(&growth(12, 1, member::ANON), Some(StackIndex(1)));
    let process = finished(model);
    let pages = |anon, file, shmem| ByPageKind {
        anon: anon * PAGE_BYTES,
        file: file * PAGE_BYTES,
        shmem: shmem * PAGE_BYTES,
    };
    assert_eq!(process.before_attach_by_kind, pages(10, 8, 4));
    assert_eq!(process.before_attach_end_by_kind, pages(7, 5, 4));
    assert_eq!(process.before_attach, 22 * PAGE_BYTES);
    assert_eq!(process.before_attach_end, 16 * PAGE_BYTES);
}

#[test]
fn pss_and_uss_have_a_start_an_end_and_a_peak() {
    let mut model = attached();
    for (time, pss, uss, keep) in [(1.0, 5, 3, true), (1.5, 9, 2, false), (2.0, 7, 4, true)] {
        model.set_share(PID, time, pss, uss, keep);
    }
    // Of a process that nobody knows.
    model.set_share(99, 2.0, 1, 1, true);
    // Its interpreter shuts down: what comes then goes with a closed ledger.
    let mut last = growth(0, 1, member::ANON);
    last.header.flags = flag::FINALIZING;
    model.growth(&last, None);
    model.set_share(PID, 3.0, 1, 1, false);
    let share = |epoch_s, pss, uss| Share {
        epoch_s,
        process: 0,
        pss,
        uss,
    };
    assert_eq!(model.take_shares(), [share(1.0, 5, 3), share(2.0, 7, 4)]);
    let process = finished(model);
    let pss = (process.pss_start, process.pss_end, process.pss_peak);
    let uss = (process.uss_start, process.uss_end, process.uss_peak);
    assert_eq!(pss, (Some(5), Some(7), Some(9)));
    assert_eq!(uss, (Some(3), Some(4), Some(4)));
}
