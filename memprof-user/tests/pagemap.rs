//! The page tables of a Python that maps, touches and gives back known pages, and then waits.

mod interpreters;

use std::collections::BTreeMap;
use std::process::Command;

use interpreters::{Program, supported};
use memprof_user::target::pagemap::{EVERYWHERE, Method, Run, Sole};
use memprof_user::target::{Mappings, PageBytes, PageKind, Pagemap, Rss, resident_bytes};

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;
const METHODS: [Method; 2] = [Method::Scan, Method::Entries];

const PAGES: &str = include_str!("interpreters/pages.py");

/// Address of each area that the program made.
type Areas = BTreeMap<String, u64>;

/// The program, asleep, and its areas.
fn program() -> (Program, Areas) {
    let python = supported().pop().expect("an interpreter");
    let mut program = Program::start(Command::new(python.path).args(["-S", "-c", PAGES]));
    let areas = serde_json::from_str(&program.line()).unwrap();
    program.await_read(program.pid());
    (program, areas)
}

/// The pages of an area as (first page, pages, kind), by page number from its start.
fn pages(pagemap: &mut Pagemap, start: u64, count: u64) -> Vec<(u64, u64, PageKind)> {
    let mut found = Vec::new();
    pagemap
        .pages(start..start + count * PAGE, |run| {
            found.push(((run.start - start) / PAGE, run.len() / PAGE, run.kind));
        })
        .unwrap();
    found
}

#[test]
fn known_pages_are_where_they_were_touched() {
    use PageKind::{Anon, File, Zero};
    let (program, areas) = program();
    for method in METHODS {
        let mut pagemap = Pagemap::open_by(program.pid(), method).unwrap();
        assert_eq!(pagemap.method(), method);
        let mut of = |name: &str| pages(&mut pagemap, areas[name], 64);
        assert_eq!(of("untouched"), [], "{method:?}");
        // Written: 0, 5 to 9. Read only: 20.
        let touched = [(0, 1, Anon), (5, 5, Anon), (20, 1, Zero)];
        assert_eq!(of("touched"), touched, "{method:?}");
        // All written, then 8 to 15 given back.
        assert_eq!(of("given_back"), [(0, 8, Anon), (16, 48, Anon)]);
        // Of a file, private: page 3 written, all read.
        let private = [(0, 3, File), (3, 1, Anon), (4, 60, File)];
        assert_eq!(of("private_file"), private, "{method:?}");
        assert_eq!(of("shared_file"), [(0, 64, File)]);
        // Shared memory without a file: pages 1 and 2 written.
        assert_eq!(of("shared_anonymous"), [(1, 2, File)]);
        // A guard region in the middle of written pages (Linux 6.13), where there is one.
        match of("guarded")[..] {
            [(0, 64, Anon)] | [(0, 4, Anon), (6, 58, Anon)] => {}
            ref other => panic!("{method:?}: {other:?}"),
        }
    }
}

#[test]
fn huge_pages_are_told_and_the_huge_zero_page_is_not_memory() {
    let (program, areas) = program();
    let runs = |method, name: &str| {
        let mut pagemap = Pagemap::open_by(program.pid(), method).unwrap();
        let start = areas[name];
        let mut runs: Vec<Run> = Vec::new();
        let range = start..start + 4 * MIB;
        pagemap.pages(range, |run| runs.push(run)).unwrap();
        runs
    };
    if areas["huge"] == 0 {
        interpreters::missing("transparent huge pages");
        return;
    }
    // 4 MiB with one byte written in the first half, one read in the second.
    let start = areas["huge"];
    let run = |from: u64, kind, huge| Run {
        start: start + from * MIB,
        end: start + (from + 2) * MIB,
        kind,
        huge,
    };
    assert_eq!(
        runs(Method::Scan, "huge"),
        [run(0, PageKind::Anon, true), run(2, PageKind::Zero, true)]
    );
    assert_eq!(
        runs(Method::Entries, "huge"),
        [run(0, PageKind::Anon, false), run(2, PageKind::Zero, false)]
    );
}

#[test]
fn the_sums_are_the_kernel_s() {
    let (program, _) = program();
    let pid = program.pid();
    let mappings = Mappings::read(pid).unwrap();
    let rss = Rss::read(pid).unwrap();
    let all = METHODS.map(|method| {
        let mut pagemap = Pagemap::open_by(pid, method).unwrap();
        let mut runs = 0;
        let sums = pagemap
            .address_space(&mappings, &[EVERYWHERE], |mapping, run| {
                assert!(mapping.start <= run.start && run.end <= mapping.end);
                runs += 1;
            })
            .unwrap();
        assert!(runs > mappings.iter().count() / 2);
        assert_eq!(sums.resident(), resident_bytes(pid).unwrap(), "{method:?}");
        assert_eq!(sums.anon, rss.anon, "{method:?}");
        assert_eq!(sums.file, rss.file + rss.shmem, "{method:?}");
        assert_eq!(sums.swapped, rss.swap, "{method:?}");
        sums
    });
    let without_huge = |sums: PageBytes| PageBytes { huge: 0, ..sums };
    assert_eq!(without_huge(all[0]), all[1]);
    // Nothing of it is read by the page: `touched` alone has three runs in 64 pages.
    assert!(all[0].zero >= PAGE);
}

#[test]
fn a_range_is_reported_whole_across_calls() {
    let (program, areas) = program();
    for method in METHODS {
        let mut pagemap = Pagemap::open_by(program.pid(), method).unwrap();
        // 80 MiB lie across the boundary of a call; every second page of 8 MiB overflows the
        // kernel's list of regions.
        let start = areas["large"];
        assert_eq!(
            pages(&mut pagemap, start, 80 * MIB / PAGE),
            [(0, 80 * MIB / PAGE, PageKind::Anon)],
            "{method:?}"
        );
        let striped = pages(&mut pagemap, areas["striped"], 8 * MIB / PAGE);
        let want = (0..8 * MIB / PAGE).step_by(2);
        let want: Vec<_> = want.map(|page| (page, 1, PageKind::Anon)).collect();
        assert_eq!(striped, want, "{method:?}");
        // A part of a page stands for the page.
        let mut runs = Vec::new();
        pagemap
            .resident(start + 1..start + 2, |run| runs.push(run))
            .unwrap();
        assert_eq!(runs.len(), 1);
        assert_eq!((runs[0].start, runs[0].end), (start, start + PAGE));
    }
}

#[test]
fn a_process_that_has_gone_has_no_pages() {
    let (program, areas) = program();
    let pid = program.pid();
    let mut open = METHODS.map(|method| Pagemap::open_by(pid, method).unwrap());
    drop(program);
    for pagemap in &mut open {
        assert_eq!(pages(pagemap, areas["touched"], 64), []);
    }
    assert!(Pagemap::open(pid).is_err());
}

#[test]
fn what_nobody_else_maps_is_sole() {
    let (program, areas) = program();
    let mut sole = Sole::open(program.pid()).unwrap();
    let mut of = |name: &str| {
        let start = areas[name];
        let mut found = Vec::new();
        let range = start..start + 64 * PAGE;
        sole.pages(range, |run| {
            found.push(((run.start - start) / PAGE, (run.end - run.start) / PAGE));
        })
        .unwrap();
        found
    };
    // Written ones; the zero page is everybody's.
    assert_eq!(of("touched"), [(0, 1), (5, 5)]);
    assert_eq!(of("given_back"), [(0, 8), (16, 48)]);
    assert_eq!(of("untouched"), []);
}
