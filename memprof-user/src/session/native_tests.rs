//! Instructions in code that comes and goes.

use memprof_common::records::Header;

use super::*;

const PID: u32 = 7;
const MS: u64 = 1_000_000;

/// A program, a library, code without a file, and the kernel's own. No file is there.
const MAPS: &str = "\
00010000-00012000 r--p 00000000 08:01 12    /no/bin/python
00012000-00014000 r-xp 00002000 08:01 12    /no/bin/python
00020000-00024000 r-xp 00001000 08:01 13    /no/lib/liba.so
00030000-00031000 rwxp 00000000 00:00 0     [anon:jit]
00040000-00041000 r-xp 00000000 00:00 0     [vdso]
";

/// Another library where the first one was.
const LATER: &str = "00020000-00022000 r-xp 00000000 08:01 14    /no/lib/libb.so (deleted)\n";

fn change(op: u16, start: u64, len: u64, time_ns: u64) -> records::AddressSpace {
    records::AddressSpace {
        header: Header {
            pid: PID,
            op,
            time_ns,
            ..Header::default()
        },
        start,
        len,
        ..records::AddressSpace::default()
    }
}

fn attached(read_ns: u64) -> Natives {
    let mut natives = Natives::default();
    natives.attach(PID, &Mappings::parse(MAPS.as_bytes()), read_ns);
    natives
}

/// The library at an address; `maps` is what a reading would find.
fn at(natives: &mut Natives, pid: u32, ip: u64, time_ns: u64, maps: Option<&str>) -> String {
    let read = |_| match maps {
        Some(maps) => Ok(Mappings::parse(maps.as_bytes())),
        None => Err(io::ErrorKind::NotFound.into()),
    };
    let index = natives.at_reading(pid, ip, time_ns, read);
    let native = &natives.table()[index.expect("no eval loop here") as usize];
    assert_eq!(native.symbol, None);
    native.library.clone()
}

fn unread(_: u32) -> io::Result<Mappings> {
    panic!("the mappings are not to be read")
}

#[test]
fn code_is_named_by_what_is_mapped_there() {
    let mut natives = attached(MS);
    for (ip, name) in [
        (0x12000, "/no/bin/python"),
        (0x13fff, "/no/bin/python"),
        (0x20010, "/no/lib/liba.so"),
        (0x30000, ANONYMOUS),
        (0x40fff, "[vdso]"),
    ] {
        let index = natives.at_reading(PID, ip, MS, unread).unwrap();
        assert_eq!(natives.table()[index as usize].library, name);
    }
    // Data is no code, and nobody knows more after another look.
    for ip in [0, 0x11000, 0x14000, 0x31000, u64::MAX] {
        assert_eq!(at(&mut natives, PID, ip, 2 * MS, Some(MAPS)), NOT_KNOWN);
    }
    // One entry each, whatever the instruction.
    assert_eq!(natives.table().len(), 5);
}

#[test]
fn what_was_unmapped_gives_its_addresses_to_what_comes_next() {
    let mut natives = attached(MS);
    let unmap = change(space_op::UNMAP, 0x20000, 0x1800, 20 * MS);
    natives.change_reading(&unmap, unread);
    // What is left of it is still known.
    assert_eq!(
        at(&mut natives, PID, 0x22000, 20 * MS, None),
        "/no/lib/liba.so"
    );
    // The rest is looked for, and is another library by now.
    assert_eq!(
        at(&mut natives, PID, 0x21fff, 21 * MS, Some(LATER)),
        "/no/lib/libb.so"
    );
}

/// A file was mapped executable.
fn mapped(start: u64, len: u64, inode: u64) -> records::AddressSpace {
    records::AddressSpace {
        new_start: inode,
        new_len: 8 << 20 | 1,
        ..change(space_op::MAP_EXECUTABLE, start, len, 2 * MS)
    }
}

#[test]
fn what_was_read_late_does_not_name_what_ran_before() {
    let mut natives = attached(MS);
    let late = || Ok(Mappings::parse(LATER.as_bytes()));
    natives.change_reading(&mapped(0x20000, 0x4000, 13), unread);
    // Looked for because of another instruction; the first library is unmapped by then.
    at(&mut natives, PID, 0x50000, 2 * MS, Some(LATER));
    assert_eq!(at(&mut natives, PID, 0x20000, MS, None), "/no/lib/liba.so");
    // Its end comes, then the begin of one that was gone too when the mappings were read.
    natives.change_reading(&change(space_op::UNMAP, 0x20000, 0x4000, 2 * MS), unread);
    natives.change_reading(&mapped(0x20000, 0x1000, 99), |_| late());
    assert_eq!(at(&mut natives, PID, 0x20000, 2 * MS, None), NOT_KNOWN);
    // And at last the one that is there.
    natives.change_reading(&change(space_op::UNMAP, 0x20000, 0x1000, 2 * MS), unread);
    natives.change_reading(&mapped(0x20000, 0x2000, 14), unread);
    assert_eq!(
        at(&mut natives, PID, 0x20000, 2 * MS, None),
        "/no/lib/libb.so"
    );
}

#[test]
fn a_process_that_has_gone_is_told_by_what_others_had() {
    let mut natives = attached(MS);
    natives.change_reading(&mapped(0x20000, 0x4000, 13), unread);
    let gone = |_: u32| -> io::Result<Mappings> { Err(io::ErrorKind::NotFound.into()) };
    let record = |start, len, inode| {
        let mut record = mapped(start, len, inode);
        record.header.pid = PID + 1;
        record
    };
    natives.spaces.insert(PID + 1, Space::default());
    for (start, len, inode, name) in [
        (0x70000, 0x4000, 13, "/no/lib/liba.so"),
        (0x80000, 0x1000, 13, NOT_KNOWN),
        (0x90000, 0x4000, 99, NOT_KNOWN),
    ] {
        natives.change_reading(&record(start, len, inode), gone);
        assert_eq!(at(&mut natives, PID + 1, start, 3 * MS, None), name);
    }
}

#[test]
fn a_device_whose_numbers_never_agree_is_believed_to_have_the_file() {
    let mut natives = attached(MS);
    let record = records::AddressSpace {
        new_len: 33,
        ..mapped(0x20000, 0x2000, 99)
    };
    natives.change_reading(&record, |_| Ok(Mappings::parse(LATER.as_bytes())));
    assert_eq!(
        at(&mut natives, PID, 0x20000, 2 * MS, None),
        "/no/lib/libb.so"
    );
}

#[test]
fn an_old_instruction_in_nothing_that_is_known_is_not_looked_for_again() {
    let mut natives = attached(100 * MS);
    let index = natives.at_reading(PID, 0x50000, 50 * MS, unread).unwrap();
    assert_eq!(natives.table()[index as usize].library, NOT_KNOWN);
}

#[test]
fn a_library_is_known_from_when_it_is_mapped() {
    let mut natives = attached(MS);
    natives.change_reading(&change(space_op::UNMAP, 0x20000, 0x4000, 2 * MS), unread);
    natives.change_reading(&mapped(0x20000, 0x2000, 14), |_| {
        Ok(Mappings::parse(LATER.as_bytes()))
    });
    // The process has gone when the records are read: nothing can be asked any more.
    assert_eq!(
        at(&mut natives, PID, 0x20000, 3 * MS, None),
        "/no/lib/libb.so"
    );
    natives.fork(PID, PID + 1);
    natives.forget(PID);
    assert_eq!(
        at(&mut natives, PID + 1, 0x20000, 4 * MS, None),
        "/no/lib/libb.so"
    );
    assert_eq!(at(&mut natives, PID, 0x20000, 4 * MS, None), NOT_KNOWN);
}

#[test]
fn functions_of_this_program_have_their_names() {
    let pid = std::process::id();
    let mut natives = Natives::default();
    natives.attach(pid, &Mappings::read(pid).unwrap(), clock::monotonic_ns());
    let mut named = |address: u64| {
        let index = natives.at_reading(pid, address, 0, unread).unwrap();
        natives.table()[index as usize].clone()
    };
    let own = named(functions_of_this_program_have_their_names as fn() as usize as u64 + 1);
    assert_eq!(
        own.library,
        std::env::current_exe().unwrap().to_string_lossy()
    );
    let symbol = own.symbol.unwrap();
    assert!(
        symbol.contains("functions_of_this_program_have_their_names"),
        "{symbol}"
    );
    // Chosen by the loader for this processor, and without a name of its own.
    let memset = libc::memset as *const () as u64;
    assert_eq!(named(memset + 4).symbol.as_deref(), Some("memset"));
    let read = named(libc::read as *const () as u64);
    assert_eq!(read.symbol.as_deref(), Some("read"));
    assert!(read.library.ends_with("/libc.so.6"), "{read:?}");
}
