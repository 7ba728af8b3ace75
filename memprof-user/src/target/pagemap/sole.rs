//! Which pages no other process maps: of what was forked long ago, this tells what is still shared.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use memprof_common::PAGE_BYTES;

use super::entries::{ENTRIES, ENTRY_BYTES, EXCLUSIVE, PRESENT};

/// /proc/PID/pagemap, read for this alone: PAGEMAP_SCAN has no such category.
#[derive(Debug)]
pub struct Sole {
    pagemap: File,
    bytes: Box<[u8]>,
}

impl Sole {
    /// Of a live process; takes the same privilege as reading its memory.
    pub fn open(pid: u32) -> io::Result<Self> {
        Ok(Sole {
            pagemap: super::open(pid)?,
            bytes: vec![0; ENTRIES * ENTRY_BYTES].into_boxed_slice(),
        })
    }

    /// Reports the pages of a range (whole pages) that are mapped here and nowhere else, in order
    /// of address; neighbours may come in several pieces.
    pub fn pages(&mut self, range: Range<u64>, mut each: impl FnMut(Range<u64>)) -> io::Result<()> {
        let mut from = range.start;
        while from < range.end {
            let pages = (range.end - from).div_ceil(PAGE_BYTES).min(ENTRIES as u64) as usize;
            let bytes = &mut self.bytes[..pages * ENTRY_BYTES];
            let offset = from / PAGE_BYTES * ENTRY_BYTES as u64;
            // The end of the address space, or of the process: what is left is nobody's.
            let read = self.pagemap.read_at(bytes, offset)? / ENTRY_BYTES;
            if read == 0 {
                return Ok(());
            }
            let entries = bytes[..read * ENTRY_BYTES].chunks_exact(ENTRY_BYTES);
            let is_sole = |entry: &[u8]| {
                let entry = entry.try_into().map_or(0, u64::from_ne_bytes);
                entry & PRESENT != 0 && entry & EXCLUSIVE != 0
            };
            let mut run = from..from;
            for sole in entries.map(is_sole) {
                let next = run.end + PAGE_BYTES;
                if !sole {
                    if !run.is_empty() {
                        each(run);
                    }
                    run = next..next;
                } else {
                    run.end = next;
                }
            }
            from = run.end;
            if !run.is_empty() {
                each(run);
            }
        }
        Ok(())
    }
}
