//! Every record of the kernel side decodes to what was written, and nothing else does: cut
//! records, wild lengths and garbage give an error, never a panic.

use bytes::BufMut;
use memprof_common::records::{self, FILENAME_BYTES, Header, NAME_BYTES, kind, name_op};
use memprof_user::decode::{DecodeError, Event, decode};
use proptest::prelude::*;

/// A header of pid 7, tid 8, flags 9, time 10.
fn header(kind: u16, op: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_u16_ne(kind);
    bytes.put_u16_ne(op);
    [7, 8, 9].into_iter().for_each(|n| bytes.put_u32_ne(n));
    bytes.put_u64_ne(10);
    assert_eq!(bytes.len(), size_of::<records::Header>());
    bytes
}

fn words(mut bytes: Vec<u8>, words: &[u64]) -> Vec<u8> {
    words.iter().for_each(|&word| bytes.put_u64_ne(word));
    bytes
}

/// Two numbers of four bytes in one word, in memory order.
fn pair(first: u32, second: u32) -> u64 {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_ne_bytes());
    bytes[4..].copy_from_slice(&second.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

fn growth() -> Vec<u8> {
    let tail = [
        0x1000,
        0x3000,
        99,
        0x4000,
        pair(2, 1),
        pair(records::member::ANON, 0),
    ];
    words(header(kind::GROWTH, 0), &tail)
}

fn stack() -> Vec<u8> {
    words(header(kind::STACK, 0), &[99, pair(2, 0), 11, 12, 13, 14])
}

fn code() -> Vec<u8> {
    let (name, file) = ("grün", "a.py");
    let text = |length: u32| pair(length, u32::from(length as u16) | 1 << 16);
    let fields = [
        0x5000,
        1,
        pair(42, 3),
        pair(0x030b, 3),
        pair(3, 184),
        0x6000,
        text(4),
        text(4),
    ];
    let mut bytes = words(header(kind::CODE, 0), &fields);
    let mut slot = vec![0; NAME_BYTES + FILENAME_BYTES];
    // Latin-1, as CPython keeps it.
    name.chars().zip(&mut slot).for_each(|(c, b)| *b = c as u8);
    slot[NAME_BYTES..NAME_BYTES + file.len()].copy_from_slice(file.as_bytes());
    bytes.extend(slot);
    assert_eq!(bytes.len(), size_of::<records::Code>());
    bytes.extend([1, 2, 3]);
    bytes
}

fn mark_name(text: &str) -> Vec<u8> {
    said(name_op::NUMBER, text)
}

fn said(op: u16, text: &str) -> Vec<u8> {
    let bytes = words(
        header(kind::MARK_NAME, op),
        &[pair(text.len() as u32 + 1, 0)],
    );
    let mut slot = vec![0; records::MARK_NAME_BYTES];
    slot[..text.len()].copy_from_slice(text.as_bytes());
    let bytes = [bytes, slot].concat();
    assert_eq!(bytes.len(), size_of::<records::MarkName>());
    bytes
}

fn all() -> Vec<Vec<u8>> {
    vec![
        growth(),
        stack(),
        code(),
        words(header(kind::ADDRESS_SPACE, 2), &[1, 2, 3, 4, 5]),
        words(header(kind::TASK, 1), &[pair(6, 1), 1, 2, 3, 4]),
        words(header(kind::INTERPRETER, 0), &[21, pair(22, 0), 23]),
        words(header(kind::MAPPING, 1), &[0x1000, 0x2000, 99, pair(3, 0)]),
        words(header(kind::MARK, 2), &[31, 32, 33, 34, pair(35, 36)]),
        mark_name("1f:app.grün"),
        said(name_op::FUNCTION, "1f:a:app:Store.grün"),
    ]
}

#[test]
fn every_record_is_read_as_it_was_written() {
    let events: Vec<Event> = all().iter().map(|r| decode(r).unwrap()).collect();
    let Event::Growth(growth) = &events[0] else {
        panic!("{:?}", events[0])
    };
    assert_eq!((growth.header.pid, growth.header.tid), (7, 8));
    assert_eq!((growth.header.flags, growth.header.time_ns), (9, 10));
    assert_eq!(
        (growth.start, growth.end, growth.stack),
        (0x1000, 0x3000, 99)
    );
    assert_eq!((growth.ip, growth.pages, growth.events), (0x4000, 2, 1));
    let Event::Stack { id, frames, .. } = &events[1] else {
        panic!("{:?}", events[1])
    };
    let frames: Vec<_> = frames.iter().map(|f| (f.code, f.instr)).collect();
    assert_eq!((*id, frames), (99, vec![(11, 12), (13, 14)]));
    let Event::Code(code) = &events[2] else {
        panic!("{:?}", events[2])
    };
    assert_eq!(code.name.as_deref(), Some("grün"));
    assert_eq!(code.filename.as_deref(), Some("a.py"));
    assert_eq!((code.address, code.first_line), (0x5000, 42));
    assert_eq!(code.linetable, [1, 2, 3]);
    let Event::AddressSpace(space) = &events[3] else {
        panic!("{:?}", events[3])
    };
    assert_eq!((space.start, space.new_len, space.rss_pages), (1, 4, 5));
    let Event::Task(task) = &events[4] else {
        panic!("{:?}", events[4])
    };
    assert_eq!((task.other, task.shares_memory), (6, 1));
    assert_eq!(task.rss_pages, [1, 2, 3, 4]);
    let Event::Interpreter(found) = &events[5] else {
        panic!("{:?}", events[5])
    };
    assert_eq!(
        (found.key.inode, found.key.device, found.base),
        (21, 22, 23)
    );
    let Event::Mapping(mapping) = &events[6] else {
        panic!("{:?}", events[6])
    };
    assert_eq!((mapping.header.op, mapping.header.flags), (1, 9));
    assert_eq!((mapping.start, mapping.len), (0x1000, 0x2000));
    assert_eq!(
        (mapping.stack, mapping.member),
        (99, records::member::SHMEM)
    );
    let Event::Mark(mark) = &events[7] else {
        panic!("{:?}", events[7])
    };
    assert_eq!((mark.header.op, mark.header.flags), (2, 9));
    assert_eq!((mark.function, mark.lane, mark.key), (31, 32, 33));
    assert_eq!((mark.rss_pages, mark.source, mark.depth), (34, 35, 36));
    let Event::MarkName { function, name, .. } = &events[8] else {
        panic!("{:?}", events[8])
    };
    assert_eq!((*function, name.as_str()), (0x1f, "app.grün"));
    let Event::Definition(definition) = &events[9] else {
        panic!("{:?}", events[9])
    };
    assert_eq!((definition.code, definition.token), (0x1f, Some(0xa)));
    assert_eq!(definition.module.as_deref(), Some("app"));
    assert_eq!(definition.qualname, "Store.grün");
    let unsure = decode(&said(name_op::FUNCTION, "1f:0::a:b"));
    let Ok(Event::Definition(unsure)) = unsure else {
        panic!("{unsure:?}")
    };
    assert_eq!((unsure.token, unsure.module), (None, None));
    assert_eq!(unsure.qualname, "a:b");
}

#[test]
fn a_cut_record_is_refused_wherever_it_is_cut() {
    for record in all() {
        for len in 0..record.len() {
            assert!(decode(&record[..len]).is_err(), "{len} of {}", record.len());
        }
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let backwards = [2, 1, 0, 0, 0, pair(records::member::ANON, 0)];
    let record = words(header(kind::GROWTH, 0), &backwards);
    assert_eq!(decode(&record), Err(DecodeError::Length));
    let no_member = words(header(kind::GROWTH, 0), &[1, 2, 0, 0, 0, pair(4, 0)]);
    assert_eq!(decode(&no_member), Err(DecodeError::Length));
    let past_the_end = words(header(kind::MAPPING, 0), &[2, u64::MAX, 0, pair(1, 0)]);
    assert_eq!(decode(&past_the_end), Err(DecodeError::Length));
    let no_member = words(header(kind::MAPPING, 0), &[1, 2, 0, pair(5, 0)]);
    assert_eq!(decode(&no_member), Err(DecodeError::Length));
    for text in ["", "no colon", "g:not a number"] {
        let record = decode(&mark_name(text));
        assert_eq!(record, Err(DecodeError::Length), "{text}");
    }
    for text in ["", "1:", "1:2", "1:2:app", "1:g:app:f", ":::"] {
        let record = decode(&said(name_op::FUNCTION, text));
        assert_eq!(record, Err(DecodeError::Length), "{text}");
    }
    let mut unterminated = mark_name("1:a");
    unterminated[size_of::<Header>()] -= 1;
    assert_eq!(decode(&unterminated), Err(DecodeError::Length));
    let mut too_long = mark_name("1:a");
    too_long[size_of::<Header>() + 1] = 3;
    assert_eq!(decode(&too_long), Err(DecodeError::Length));
    let deep = words(header(kind::STACK, 0), &[1, pair(u32::MAX, 0)]);
    assert_eq!(decode(&deep), Err(DecodeError::Length));
    assert_eq!(decode(&header(77, 0)), Err(DecodeError::Kind(77)));
}

proptest! {
    #[test]
    fn garbage_never_panics(kind in 0u16..11, body in prop::collection::vec(any::<u8>(), 0..2048)) {
        let mut record = header(kind, 0);
        record.extend(body);
        let _ = decode(&record);
    }
}
