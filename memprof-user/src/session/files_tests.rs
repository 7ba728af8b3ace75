//! Growth by files, on mappings that change between the readings.

use memprof_common::records::Header;

use super::*;

const PID: u32 = 7;
const MS: u64 = 1_000_000;

/// Pages 16–19 of a library, 20–21 of a memfd, 24 of a deleted file, 32 of anonymous shared memory.
const MAPS: &str = "\
00010000-00012000 r--p 00000000 08:01 12    /usr/lib/liba.so
00012000-00014000 r-xp 00002000 08:01 12    /usr/lib/liba.so
00014000-00016000 rw-s 00000000 00:01 13    /memfd:x (deleted)
00018000-00019000 r--p 00000000 08:01 14    /srv/old.so (deleted)
00019000-0001a000 rw-p 00000000 00:00 0     [heap]
00020000-00021000 rw-s 00000000 00:01 15    /dev/zero (deleted)
";

fn growth(first: u64, pages: u64, time_ns: u64) -> records::Growth {
    records::Growth {
        header: Header {
            pid: PID,
            time_ns,
            ..Header::default()
        },
        start: first * PAGE_BYTES,
        end: (first + pages) * PAGE_BYTES,
        pages: pages as u32,
        events: pages as u32,
        member: member::FILE,
        ..records::Growth::default()
    }
}

fn unmap(first: u64, pages: u64, time_ns: u64) -> records::AddressSpace {
    records::AddressSpace {
        header: Header {
            pid: PID,
            op: space_op::UNMAP,
            time_ns,
            ..Header::default()
        },
        start: first * PAGE_BYTES,
        len: pages * PAGE_BYTES,
        ..records::AddressSpace::default()
    }
}

fn attached(read_ns: u64) -> Files {
    let mut files = Files::default();
    files.attach(PID, &Mappings::parse(MAPS.as_bytes()), read_ns);
    files
}

/// The parts as (first page, pages, path), at `now_ns`; `maps` is what a reading would find.
fn split(
    files: &mut Files,
    growth: &records::Growth,
    now_ns: u64,
    maps: Option<&str>,
) -> Vec<(u64, u32, String)> {
    let read = |_| match maps {
        Some(maps) => Ok(Mappings::parse(maps.as_bytes())),
        None => Err(io::ErrorKind::NotFound.into()),
    };
    let parts = files.split_reading(growth, || now_ns, read);
    let pages: u32 = parts.iter().map(|(part, _)| part.pages).sum();
    let events: u32 = parts.iter().map(|(part, _)| part.events).sum();
    assert_eq!((pages, events), (growth.pages, growth.events));
    let path = |file: Option<FileIndex>| match file {
        Some(file) => files.table[file.0 as usize].path.clone(),
        None => String::new(),
    };
    parts
        .into_iter()
        .map(|(part, file)| (part.start / PAGE_BYTES, part.pages, path(file)))
        .collect()
}

/// What a test that must not read reads.
fn unread(_: u32) -> io::Result<Mappings> {
    panic!("the mappings are not to be read")
}

#[test]
fn a_growth_over_several_files_is_parted_at_their_ends() {
    let mut files = attached(1);
    let all = split(&mut files, &growth(16, 18, 1), 1, Some(MAPS));
    let row = |first, pages, path: &str| (first, pages, path.to_owned());
    let expected = [
        row(16, 4, "/usr/lib/liba.so"),
        row(20, 2, "/memfd:x (deleted)"),
        row(22, 2, ""),
        row(24, 1, "/srv/old.so (deleted)"),
        row(25, 7, ""),
        row(32, 1, "[anonymous shared memory]"),
        row(33, 1, ""),
    ];
    assert_eq!(all, expected);
}

#[test]
fn a_window_belongs_to_the_file_that_has_most_of_it_and_is_of_its_kind() {
    let mut files = attached(1);
    let mut window = growth(16, 8, 1);
    window.header.flags = flag::WITHIN;
    window.pages = 3;
    let one = |files: &mut Files, growth: &_| split(files, growth, 1, Some(MAPS)).remove(0).2;
    assert_eq!(one(&mut files, &window), "/usr/lib/liba.so");
    window.member = member::SHMEM;
    assert_eq!(one(&mut files, &window), "/memfd:x (deleted)");
    window.header.flags = flag::UNPLACED;
    assert_eq!(one(&mut files, &window), "");
}

#[test]
fn a_page_that_is_not_covered_is_looked_up_once_for_all_that_came_before() {
    let mut files = attached(10 * MS);
    let later = "00100000-00110000 r--p 00000000 08:01 12 /srv/data\n";
    let data = split(&mut files, &growth(0x100, 2, 50 * MS), 60 * MS, Some(later));
    assert_eq!(data, [(0x100, 2, "/srv/data".to_owned())]);
    // Older than the reading by far: it had been unmapped by then.
    let old = files.split_reading(&growth(16, 1, 20 * MS), || 900 * MS, unread);
    assert_eq!(old[0].1, None);
    let again = split(&mut files, &growth(16, 1, 70 * MS), 80 * MS, Some(MAPS));
    assert_eq!(again[0].2, "/usr/lib/liba.so");
}

#[test]
fn readings_take_a_bounded_part_of_the_time() {
    let mut used_to = UsedTo::default();
    let mut read = |now_ns: u64| {
        let allowed = used_to.allows(now_ns);
        if allowed {
            used_to.charge(&OF_ONE, now_ns, now_ns + 5 * MS);
        }
        allowed
    };
    // 5 ms each: 20 ms were saved, and one may begin while anything is left.
    let at_once = (0..100).filter(|_| read(10_000 * MS)).count();
    assert_eq!(at_once, 5);
    // 2 % of ten seconds, at one try a millisecond.
    let later = (10_001..20_000).filter(|now_ms| read(now_ms * MS)).count();
    assert_eq!(later, 39);
}

#[test]
fn a_process_whose_time_is_used_up_is_not_read() {
    let mut files = attached(1);
    files.spaces.get_mut(&PID).unwrap().used_to = UsedTo(101 * MS);
    let late = files.split_reading(&growth(0x100, 1, 90 * MS), || 100 * MS, unread);
    assert_eq!(late[0].1, None);
    let maps = "00100000-00110000 r--p 00000000 08:01 12 /srv/data\n";
    let parts = split(&mut files, &growth(0x100, 1, 90 * MS), 101 * MS, Some(maps));
    assert_eq!(parts[0].2, "/srv/data");
    // Nor any other, when all of them together had theirs.
    files.used_to = UsedTo(201 * MS);
    let mut other = growth(0x100, 1, 190 * MS);
    other.header.pid = 8;
    assert_eq!(files.split_reading(&other, || 200 * MS, unread)[0].1, None);
    assert_eq!(
        split(&mut files, &other, 201 * MS, Some(maps))[0].2,
        "/srv/data"
    );
}

#[test]
fn what_was_unmapped_after_the_reading_is_read_anew() {
    let mut files = attached(100 * MS);
    // Long before the reading: in it already.
    files.change(&unmap(16, 4, 80 * MS));
    let parts = files.split_reading(&growth(16, 4, 81 * MS), || 110 * MS, unread);
    assert_eq!(parts.len(), 1);
    // After it: the middle is gone, the ends stay.
    files.change(&unmap(17, 2, 120 * MS));
    files.split_reading(&growth(16, 1, 121 * MS), || 130 * MS, unread);
    files.split_reading(&growth(19, 3, 121 * MS), || 130 * MS, unread);
    let other = "00011000-00013000 r--p 00000000 08:01 99 /srv/other\n";
    let parts = split(&mut files, &growth(17, 2, 121 * MS), 130 * MS, Some(other));
    assert_eq!(parts, [(17, 2, "/srv/other".to_owned())]);
    // Announced just before the reading: it may have happened after it.
    files.change(&unmap(17, 2, 125 * MS));
    let maps = "00011000-00013000 r--p 00000000 08:01 99 /srv/third\n";
    let parts = split(&mut files, &growth(17, 2, 126 * MS), 140 * MS, Some(maps));
    assert_eq!(parts, [(17, 2, "/srv/third".to_owned())]);
}

#[test]
fn a_process_that_has_gone_keeps_what_was_read() {
    let mut files = attached(1);
    assert_eq!(split(&mut files, &growth(0x100, 1, 2), 2, None)[0].2, "");
    let parts = files.split_reading(&growth(0x100, 1, 9 * MS), || 900 * MS, unread);
    assert_eq!(parts[0].1, None);
    let kept = files.split_reading(&growth(16, 1, 9 * MS), || 900 * MS, unread);
    assert_eq!(kept[0].1, Some(FileIndex(0)));
}

#[test]
fn a_child_has_its_parents_files_until_it_executes() {
    let mut files = attached(1);
    files.fork(PID, 8);
    files.forget(PID);
    let mut of_child = growth(16, 1, 2);
    of_child.header.pid = 8;
    let kept = files.split_reading(&of_child, || 2, unread);
    assert_eq!(kept[0].1, Some(FileIndex(0)));
    files.forget(8);
    assert_eq!(split(&mut files, &of_child, 2, None)[0].2, "");
}

#[test]
fn the_number_of_files_is_bounded() {
    let mut files = Files::default();
    for number in 0..MAX_FILES + 10 {
        files.index(format!("/tmp/{number}"));
    }
    assert_eq!(files.index("/tmp/5".to_owned()), FileIndex(5));
    assert_eq!(
        files.index("/tmp/x".to_owned()),
        FileIndex(MAX_FILES as u32)
    );
    let table = files.table();
    assert_eq!(table.len(), MAX_FILES + 1);
    assert_eq!(table[MAX_FILES].path, OTHER_FILES);
}

#[test]
fn numbers_of_the_target_do_no_harm() {
    let mut files = attached(1);
    for (start, len) in [(u64::MAX, u64::MAX), (0, 0), (5, 1), (0x11000, u64::MAX)] {
        let mut change = unmap(0, 0, 1);
        (change.start, change.len) = (start, len);
        files.change(&change);
    }
    let left = &files.spaces[&PID].extents;
    assert_eq!(left.keys().collect::<Vec<_>>(), [&0x10000]);
    assert_eq!(left[&0x10000].end, 0x11000);
}

#[test]
fn what_is_unmapped_in_part_goes_by_whole_pages() {
    let mut files = attached(1);
    let mut change = unmap(17, 0, CALL_NS + 2);
    change.len = 0xa17;
    files.change(&change);
    let all = split(&mut files, &growth(16, 4, CALL_NS + 2), CALL_NS + 2, None);
    let pages: Vec<_> = all
        .iter()
        .map(|(first, pages, _)| (*first, *pages))
        .collect();
    assert_eq!(pages, [(16, 1), (17, 1), (18, 2)]);
}
