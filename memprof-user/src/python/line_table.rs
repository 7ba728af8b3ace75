//! The line tables of code objects: which line the instruction at an offset belongs to.
//!
//! Three formats: `co_lnotab` (3.6–3.9), the line table of 3.10, and the location table of 3.11
//! on (Objects/lnotab_notes.txt, Objects/locations.md, Objects/codeobject.c). The tables come
//! from the traced process, so any bytes are decoded, in one pass over them.

/// First version with the line table of PEP 626.
const LINE_TABLE: u32 = 0x030a;
/// First version with the location table.
const LOCATION_TABLE: u32 = 0x030b;

/// The line of the instruction at byte `lasti` of a function of version `0xMMmm`.
///
/// Before the first instruction, and where the compiler gave no line, it is the first line, as
/// in CPython's own tracebacks. None when the table does not reach that far, or the line is no
/// line: cut, or not a table. `is_cut`: more of the table exists; a `co_lnotab` has no end mark.
pub fn line(
    version: u32,
    first_line: i32,
    table: &[u8],
    is_cut: bool,
    lasti_bytes: i64,
) -> Option<u32> {
    let first = u32::try_from(first_line).ok();
    let Ok(lasti) = u64::try_from(lasti_bytes) else {
        return first;
    };
    let found = match version {
        LOCATION_TABLE.. => location_table(first_line.into(), table, lasti),
        LINE_TABLE => line_table(first_line.into(), table, lasti),
        _ => lnotab(first_line.into(), table, is_cut, lasti).map(Some),
    };
    match found? {
        Some(line) => u32::try_from(line).ok(),
        None => first,
    }
}

/// Pairs (address increment u8, line increment i8). An entry begins *after* its address
/// increment, and the last one has no end.
fn lnotab(first_line: i64, table: &[u8], is_cut: bool, lasti: u64) -> Option<i64> {
    let mut address = 0;
    let mut line = first_line;
    for pair in table.chunks_exact(2) {
        address += u64::from(pair[0]);
        if address > lasti {
            return Some(line);
        }
        line += i64::from(pair[1] as i8);
    }
    (!is_cut).then_some(line)
}

/// Pairs (length u8, line increment i8); −128 marks a range without line.
fn line_table(first_line: i64, table: &[u8], lasti: u64) -> Option<Option<i64>> {
    let mut end = 0;
    let mut line = first_line;
    for pair in table.chunks_exact(2) {
        let delta = pair[1] as i8;
        if delta != i8::MIN {
            line += i64::from(delta);
        }
        end += u64::from(pair[0]);
        if lasti < end {
            return Some((delta != i8::MIN).then_some(line));
        }
    }
    None
}

/// Entries that begin with `1 cccc nnn`: form and length in code units of two bytes.
fn location_table(first_line: i64, table: &[u8], lasti: u64) -> Option<Option<i64>> {
    let mut bytes = table.iter().copied();
    let mut end = 0;
    let mut line = first_line;
    loop {
        let head = bytes.next()?;
        if head & 0x80 == 0 {
            return None; // not the start of an entry: damaged
        }
        let form = (head >> 3) & 15;
        match form {
            // Short forms: the columns, same line.
            0..=9 => skip(&mut bytes, 1)?,
            // One-line forms: the next lines, two columns.
            10..=12 => {
                line += i64::from(form) - 10;
                skip(&mut bytes, 2)?;
            }
            // Line only.
            13 => line = line.checked_add(signed(&mut bytes)?)?,
            // Line, end line and columns.
            14 => {
                line = line.checked_add(signed(&mut bytes)?)?;
                for _ in 0..3 {
                    varint(&mut bytes)?;
                }
            }
            // No line.
            _ => {}
        }
        end += (u64::from(head & 7) + 1) * 2;
        if lasti < end {
            return Some((form != 15).then_some(line));
        }
    }
}

fn skip(bytes: &mut impl Iterator<Item = u8>, count: usize) -> Option<()> {
    for _ in 0..count {
        bytes.next()?;
    }
    Some(())
}

/// Six bits a byte, low ones first; bit 6 says that more follow.
fn varint(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut value = 0;
    // Eight bytes hold 48 bits, far more than a line number has.
    for shift in (0..48).step_by(6) {
        let byte = bytes.next()?;
        value |= u64::from(byte & 63) << shift;
        if byte & 64 == 0 {
            return Some(value);
        }
    }
    None
}

/// The lowest bit is the sign.
fn signed(bytes: &mut impl Iterator<Item = u8>) -> Option<i64> {
    let value = varint(bytes)?;
    let magnitude = (value >> 1) as i64;
    Some(if value & 1 == 0 {
        magnitude
    } else {
        -magnitude
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lnotab_entries_begin_after_their_increment() {
        // Objects/lnotab_notes.txt: addresses 0 1 6 50 350 → lines 1 2 7 207 361
        let table = [0, 1, 6, 1, 44, 5, 255, 0, 45, 127, 0, 73];
        let line = |lasti| line(0x0309, 1, &table, false, lasti);
        assert_eq!(line(-1), Some(1));
        assert_eq!(line(0), Some(2));
        assert_eq!(line(5), Some(2));
        assert_eq!(line(6), Some(3));
        assert_eq!(line(50), Some(8));
        assert_eq!(line(349), Some(8));
        assert_eq!(line(350), Some(208));
        assert_eq!(line(100_000), Some(208));
        // What a cut table says ends where the next entry would begin.
        let cut = |lasti| super::line(0x0309, 1, &table[..4], true, lasti);
        assert_eq!((cut(5), cut(6)), (Some(2), None));
    }

    #[test]
    fn line_table_of_3_10() {
        // Objects/lnotab_notes.txt: 0-6 +1, 6-50 +5, 50-350 no line then lines of +200
        let table = [
            6, 1, 44, 5, 254, 0x80, 46, 0x80, 0, 100, 0, 100, 10, 0, 4, 0xfe,
        ];
        let line = |lasti| line(0x030a, 10, &table, false, lasti);
        assert_eq!(line(-1), Some(10));
        assert_eq!(line(0), Some(11));
        assert_eq!(line(5), Some(11));
        assert_eq!(line(6), Some(16));
        assert_eq!(line(50), Some(10)); // no line: the first
        assert_eq!(line(349), Some(10));
        assert_eq!(line(350), Some(216));
        assert_eq!(line(360), Some(214));
        assert_eq!(line(364), None);
    }

    #[test]
    fn location_table_of_3_11() {
        let table = [
            0x80 | 15 << 3, // one unit without line
            0x80 | 11 << 3 | 1,
            0,
            5, // two units, next line
            0x80 | 3 << 3,
            7, // one unit, same line
            0x80 | 13 << 3,
            0x40 | 0x28,
            3, // one unit, + ((3 << 6 | 40) >> 1) = 116
            0x80 | 14 << 3 | 7,
            0x03,
            0x41,
            0x01,
            2,
            9, // eight units, −1
        ];
        let line = |lasti| line(0x030b, 20, &table, false, lasti);
        assert_eq!(line(-2), Some(20));
        assert_eq!(line(0), Some(20));
        assert_eq!(line(2), Some(21));
        assert_eq!(line(5), Some(21));
        assert_eq!(line(6), Some(21));
        assert_eq!(line(8), Some(137));
        assert_eq!(line(10), Some(136));
        assert_eq!(line(25), Some(136));
        assert_eq!(line(26), None);
    }

    #[test]
    fn a_cut_table_answers_up_to_the_cut() {
        let table = [0x80 | 13 << 3, 4, 0x80 | 14 << 3, 2, 1];
        assert_eq!(line(0x030d, 5, &table, true, 1), Some(7));
        assert_eq!(line(0x030d, 5, &table, true, 2), None);
        assert_eq!(line(0x030d, 5, &[], true, 0), None);
        assert_eq!(line(0x030d, i32::MIN, &[], true, -1), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded(
            version in prop::sample::select(vec![0x0306, 0x0309, 0x030a, 0x030b, 0x030d, 0xffff]),
            first in any::<i32>(),
            table in prop::collection::vec(any::<u8>(), 0..400),
            is_cut in any::<bool>(),
            lasti in prop_oneof![any::<i64>(), -4..2000i64],
        ) {
            line(version, first, &table, is_cut, lasti);
        }
    }
}
