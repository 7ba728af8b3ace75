//! Which file a page belongs to: the file mappings of every traced process, as /proc/PID/maps had
//! them last.
//!
//! Records are older than the file that is read: up to a tenth of a second. So each map knows when
//! it was read; an unmapping before that is in it already, and a page that is missing from it
//! although it came before that has been unmapped since: its file stays unknown, and reading again
//! would not tell. What was read is kept by a process that has gone.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;

use memprof_common::PAGE_BYTES;
use memprof_common::records::{self, flag, member, space_op};

use super::allowance::{Allowance, UsedTo};
use super::clock;
use crate::model::{FileIndex, MappedFile};
use crate::target::{Mapping, Mappings};

/// Distinct files that are told apart: owners are one a stack and file, so their number has to be
/// bounded. A large service maps some hundreds.
const MAX_FILES: usize = 4096;

/// Longest path kept, in characters: the kernel's PATH_MAX.
const MAX_PATH_CHARS: usize = 4096;

/// Stands for every file beyond [`MAX_FILES`].
const OTHER_FILES: &str = "[other files]";

/// What is shared by mmap without a file; the kernel calls it /dev/zero.
const SHARED_ANONYMOUS: &str = "[anonymous shared memory]";

/// Reading the mappings of one process: 2 % of the time. 1000 mappings take about a millisecond; a
/// program may map one file after another.
const OF_ONE: Allowance = Allowance {
    share: 50,
    saved_ns: 20_000_000,
};

/// Reading those of all: 5 % of the time, and little at once, because records wait meanwhile. A
/// shell script that starts hundreds of programs must not keep us from seeing an interpreter in time.
const OF_ALL: Allowance = Allowance {
    share: 20,
    saved_ns: 5_000_000,
};

/// A system call is announced when it begins: it has happened when a map is read this much later.
const CALL_NS: u64 = 10_000_000;

/// The time of a merged growth may be earlier than its last fault by 16 faults.
const MERGED_NS: u64 = 100_000;

/// A mapped file, from the address that is its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    /// One past the last byte.
    end: u64,
    file: FileIndex,
    shared_memory: bool,
}

/// The file mappings of one process.
#[derive(Clone, Debug, Default)]
struct Space {
    /// By first byte; without overlap.
    extents: BTreeMap<u64, Extent>,
    /// When it was read, `CLOCK_MONOTONIC`; 0: never.
    read_ns: u64,
    /// What was taken out since, and may hold another file now: from the lowest to the highest.
    removed: Range<u64>,
    /// [`OF_ONE`]
    used_to: UsedTo,
    gone: bool,
}

/// The files of a run, and who has them mapped where.
#[derive(Default)]
pub struct Files {
    table: Vec<MappedFile>,
    indexes: HashMap<String, FileIndex>,
    spaces: HashMap<u32, Space>,
    /// [`OF_ALL`]
    used_to: UsedTo,
}

impl Files {
    /// A process is traced from now on; `mappings` were read at `read_ns`.
    pub fn attach(&mut self, pid: u32, mappings: &Mappings, read_ns: u64) {
        let extents = self.extents(mappings);
        let space = self.spaces.entry(pid).or_default();
        space.extents = extents;
        space.read_ns = read_ns;
    }

    /// A child has its parent's mappings.
    pub fn fork(&mut self, parent: u32, child: u32) {
        let space = self.spaces.get(&parent).cloned().unwrap_or_default();
        self.spaces.insert(
            child,
            Space {
                used_to: UsedTo::default(),
                gone: false,
                ..space
            },
        );
    }

    /// A new program has none of the old one's; a process that has gone needs them no more.
    pub fn forget(&mut self, pid: u32) {
        self.spaces.remove(&pid);
    }

    /// A system call is about to change an address space, or has moved a part of it.
    pub fn change(&mut self, change: &records::AddressSpace) {
        let Some(space) = self.spaces.get_mut(&change.header.pid) else {
            return;
        };
        if change.header.time_ns.saturating_add(CALL_NS) < space.read_ns {
            return;
        }
        match change.header.op {
            space_op::UNMAP => space.remove(change.start, change.len),
            space_op::MOVE => {
                space.remove(change.start, change.len);
                space.remove(change.new_start, change.new_len);
            }
            _ => {}
        }
    }

    /// Looks at the mappings now, if a growth needs it whose record is still to come: later they may
    /// be gone.
    pub fn look(&mut self, growth: &records::Growth) {
        if is_placed(growth) {
            self.look_reading(growth, clock::monotonic_ns, Mappings::read);
        }
    }

    /// The parts of a growth of file pages or shared memory by the file that they belong to; None
    /// where it is not known. Pages and events of the parts add up to those of the whole.
    pub fn split(&mut self, growth: &records::Growth) -> Vec<(records::Growth, Option<FileIndex>)> {
        self.split_reading(growth, clock::monotonic_ns, Mappings::read)
    }

    /// [`Files::split`] with the clock and the reading of a process's mappings.
    fn split_reading(
        &mut self,
        growth: &records::Growth,
        now_ns: impl Fn() -> u64,
        read: impl FnOnce(u32) -> io::Result<Mappings>,
    ) -> Vec<(records::Growth, Option<FileIndex>)> {
        if !is_placed(growth) {
            return vec![(*growth, None)];
        }
        self.look_reading(growth, now_ns, read);
        let space = self.spaces.entry(growth.header.pid).or_default();
        if growth.header.flags & flag::WITHIN != 0 {
            return vec![(*growth, space.most_of(growth))];
        }
        space.parts(growth)
    }

    fn look_reading(
        &mut self,
        growth: &records::Growth,
        now_ns: impl Fn() -> u64,
        read: impl FnOnce(u32) -> io::Result<Mappings>,
    ) {
        let pid = growth.header.pid;
        let space = self.spaces.entry(pid).or_default();
        if space.knows(growth) || !space.may_have_changed(growth) {
            return;
        }
        let begin_ns = now_ns();
        if space.used_to.allows(begin_ns) && self.used_to.allows(begin_ns) {
            // Empty is what a zombie has.
            let mappings = read(pid).ok().filter(|read| read.iter().next().is_some());
            self.reread(pid, mappings, begin_ns, now_ns());
        }
    }

    fn reread(&mut self, pid: u32, mappings: Option<Mappings>, begin_ns: u64, end_ns: u64) {
        let extents = mappings.map(|mappings| self.extents(&mappings));
        self.used_to.charge(&OF_ALL, begin_ns, end_ns);
        let space = self.spaces.entry(pid).or_default();
        match extents {
            Some(extents) => {
                space.extents = extents;
                space.read_ns = begin_ns;
                space.removed = 0..0;
                space.used_to.charge(&OF_ONE, begin_ns, end_ns);
            }
            None => space.gone = true,
        }
    }

    fn extents(&mut self, mappings: &Mappings) -> BTreeMap<u64, Extent> {
        let mut extents = BTreeMap::new();
        for mapping in mappings {
            if let Some(name) = name(mapping) {
                let extent = Extent {
                    end: mapping.end,
                    file: self.index(name),
                    shared_memory: mapping.is_shared_memory(),
                };
                extents.insert(mapping.start, extent);
            }
        }
        extents
    }

    fn index(&mut self, name: String) -> FileIndex {
        if let Some(&index) = self.indexes.get(&name) {
            return index;
        }
        let name = match self.table.len() {
            0..MAX_FILES => name,
            _ => OTHER_FILES.to_owned(),
        };
        let table = &mut self.table;
        *self.indexes.entry(name).or_insert_with_key(|name| {
            table.push(MappedFile { path: name.clone() });
            FileIndex(table.len() as u32 - 1)
        })
    }

    /// Every file that was met, by its index.
    pub fn table(&self) -> &[MappedFile] {
        &self.table
    }
}

impl Space {
    /// Every page of an exact growth, or something of a vague one, is in a file that is known.
    fn knows(&self, growth: &records::Growth) -> bool {
        let range = growth.start..growth.end;
        if growth.header.flags & flag::WITHIN != 0 {
            return self.overlapping(range).next().is_some();
        }
        let mut known_to = range.start;
        for (part, _) in self.overlapping(range.clone()) {
            if part.start > known_to {
                break;
            }
            known_to = part.end;
        }
        known_to >= range.end
    }

    /// What a growth is in may not be in the map yet.
    fn may_have_changed(&self, growth: &records::Growth) -> bool {
        let later = growth.header.time_ns.saturating_add(MERGED_NS) >= self.read_ns;
        let again = growth.start < self.removed.end && self.removed.start < growth.end;
        !self.gone && (later || again)
    }

    /// The parts of a range that are in files, by address.
    fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, Extent)> + '_ {
        let before = self.extents.range(..range.start).next_back();
        let inside = self.extents.range(range.clone());
        before
            .into_iter()
            .chain(inside)
            .filter_map(move |(&start, &extent)| {
                let part = start.max(range.start)..extent.end.min(range.end);
                (part.start < part.end).then_some((part, extent))
            })
    }

    /// The file that has most of a growth's window. Shared memory and files are told apart by the
    /// kernel's own count, as far as the names tell them apart.
    fn most_of(&self, growth: &records::Growth) -> Option<FileIndex> {
        let shared_memory = growth.member == member::SHMEM;
        let parts = self.overlapping(growth.start..growth.end);
        let most = parts.max_by_key(|(part, extent)| {
            let alike = extent.shared_memory == shared_memory;
            (alike, part.end - part.start)
        });
        most.map(|(_, extent)| extent.file)
    }

    /// An exact growth by files. Neighbouring ranges of one stack are one growth, whatever is
    /// mapped there.
    fn parts(&self, growth: &records::Growth) -> Vec<(records::Growth, Option<FileIndex>)> {
        let mut files: Vec<(Range<u64>, Option<FileIndex>)> = Vec::new();
        let mut add = |range: Range<u64>, file| match files.last_mut() {
            Some((last, its)) if *its == file => last.end = range.end,
            _ if range.is_empty() => {}
            _ => files.push((range, file)),
        };
        let mut next = growth.start;
        for (part, extent) in self.overlapping(growth.start..growth.end) {
            add(next..part.start, None);
            next = part.end;
            add(part, Some(extent.file));
        }
        add(next..growth.end, None);
        let mut events = growth.events;
        let parts = files.into_iter().map(|(range, file)| {
            let part = records::Growth {
                start: range.start,
                end: range.end,
                pages: ((range.end - range.start) / PAGE_BYTES) as u32,
                // Nobody knows which events made which part.
                events: std::mem::take(&mut events),
                ..*growth
            };
            (part, file)
        });
        parts.collect()
    }

    /// Nothing is known of the range any more. Both numbers are the target's.
    fn remove(&mut self, start: u64, len: u64) {
        // The kernel rounds to whole pages.
        let last_page = !(PAGE_BYTES - 1);
        let end = start
            .saturating_add(len)
            .checked_next_multiple_of(PAGE_BYTES);
        let range = start & last_page..end.unwrap_or(last_page);
        let parts: Vec<_> = self.overlapping(range.clone()).collect();
        for (part, extent) in parts {
            let whole = self.extents.range(..=part.start).next_back();
            let Some((&first, _)) = whole else { continue };
            self.extents.remove(&first);
            self.removed = match self.removed.is_empty() {
                true => part.clone(),
                false => self.removed.start.min(part.start)..self.removed.end.max(part.end),
            };
            if first < part.start {
                let end = part.start;
                self.extents.insert(first, Extent { end, ..extent });
            }
            if part.end < extent.end {
                self.extents.insert(part.end, extent);
            }
        }
    }
}

/// Somebody knows where it is. One that contradicts itself is the model's to count.
fn is_placed(growth: &records::Growth) -> bool {
    let bytes = u64::from(growth.pages) * PAGE_BYTES;
    let exact = growth.start.checked_add(bytes) == Some(growth.end);
    let flags = growth.header.flags;
    flags & flag::UNPLACED == 0 && (flags & flag::WITHIN != 0 || exact)
}

/// What a mapping of a file or of shared memory is called; None for anonymous memory, and for what
/// is the kernel's own (`[stack]`).
fn name(mapping: &Mapping) -> Option<String> {
    let path = mapping.path.to_string_lossy();
    if path.starts_with("[anon_shmem:") {
        return Some(bounded(&path));
    }
    if path.is_empty() || path.starts_with('[') {
        return None;
    }
    if path == "/dev/zero" && mapping.deleted {
        return Some(SHARED_ANONYMOUS.to_owned());
    }
    let deleted = if mapping.deleted { " (deleted)" } else { "" };
    Some(bounded(&path) + deleted)
}

fn bounded(path: &str) -> String {
    path.chars().take(MAX_PATH_CHARS).collect()
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
