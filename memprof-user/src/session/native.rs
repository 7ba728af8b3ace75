//! Which native code an instruction is in: the executable mappings of every traced process, as
//! /proc/PID/maps had them last, and the functions of the files behind them.
//!
//! Records are older than what is read: a library may be gone by then, and another one at its
//! addresses. So what is known follows the records in their order: mappings are read when a record
//! tells that a file was mapped, and when an instruction is in none that is known; what was read is
//! added only where nothing is known, and goes when a record says that it was unmapped. Which file
//! it was is told too: when the mappings show another one, that one came later, and its record is
//! still to come. What was read is kept by a process that has gone. A file's symbols are read once,
//! when the first instruction is in it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use memprof_common::PAGE_BYTES;
use memprof_common::records::{self, space_op};

use super::allowance::{Allowance, UsedTo};
use super::clock;
use crate::model::Native;
use crate::target::elf::{self, Image, Segment};
use crate::target::open::{self, FileKey};
use crate::target::{Functions, Mapping, Mappings, ProcessMemory, ReadMemory as _, demangled};

/// Distinct pieces of code that are told apart: stacks are one a piece, so their number has to be
/// bounded. A large service runs some thousands of native functions.
const MAX_NATIVES: usize = 65536;

/// Stands for every piece beyond [`MAX_NATIVES`].
const OTHER_CODE: &str = "[other code]";

/// Code that was unmapped before anybody looked, or of a process that went too soon.
const NOT_KNOWN: &str = "[code not known]";

/// Code without a file: what a just-in-time compiler or a foreign function interface made.
const ANONYMOUS: &str = "[anonymous code]";

/// Symbols kept of all files together, in bytes; of files beyond, only the name is told. Those of
/// OpenBLAS, which is not stripped, take 1 MB.
const MAX_SYMBOL_BYTES: usize = 256 << 20;

/// Files whose mappings are kept for processes that end too soon.
const MAX_FILES: usize = 4096;

/// Longest library path kept, in characters: the kernel's PATH_MAX.
const MAX_PATH_CHARS: usize = 4096;

/// Reading the mappings of one process, and of all: as in [`super::files`], but that a program may
/// map a hundred libraries in its first second, and the user has asked for their names.
const OF_ONE: Allowance = Allowance {
    share: 20,
    saved_ns: 50_000_000,
};
const OF_ALL: Allowance = Allowance {
    share: 10,
    saved_ns: 50_000_000,
};

/// The time of a merged growth may be earlier than its last fault by 16 faults.
const MERGED_NS: u64 = 100_000;

/// The interpreter's own loop: a fault in it is the Python frame's.
const EVAL_LOOP: &[u8] = b"_PyEval_EvalFrameDefault";
/// The same where each instruction is a function (Python/ceval_macros.h of 3.14).
const EVAL_TAIL_CALL: &[u8] = b"_TAIL_CALL_";

/// An executable mapping, from the address that is its key.
#[derive(Clone, Debug)]
struct Extent {
    /// One past the last byte.
    end: u64,
    /// As it was read, whatever part is left of it.
    mapping: Arc<Mapping>,
    /// Index of its file; the inner None: that cannot be had.
    image: Option<Option<usize>>,
}

/// The executable mappings of one process.
#[derive(Clone, Debug, Default)]
struct Space {
    /// By first byte; without overlap.
    extents: BTreeMap<u64, Extent>,
    /// What was read last, by first byte: it may be newer than the records.
    last: BTreeMap<u64, Arc<Mapping>>,
    /// When it was read, `CLOCK_MONOTONIC`; 0: never.
    read_ns: u64,
    /// Something was mapped or unmapped since.
    stale: bool,
    /// [`OF_ONE`]
    used_to: UsedTo,
    gone: bool,
}

/// What makes a file the same one while its process has gone: device, inode and path, as its
/// mapping has them.
type Named = ((u32, u32), u64, PathBuf);

/// A file with code.
#[derive(Debug, Default)]
struct Library {
    functions: Functions,
    /// See [`elf::base`].
    fixed: bool,
    segments: Vec<Segment>,
}

/// The native code of a run, and who has it mapped where.
#[derive(Default)]
pub struct Natives {
    table: Vec<Native>,
    indexes: HashMap<Native, u32>,
    libraries: Vec<Library>,
    by_file: HashMap<FileKey, usize>,
    by_name: HashMap<Named, usize>,
    symbol_bytes: usize,
    /// What [`Self::at`] said of each function, by file and number.
    named: HashMap<(usize, usize), Option<u32>>,
    spaces: HashMap<u32, Space>,
    /// [`OF_ALL`]
    used_to: UsedTo,
    /// Mappings of files, by inode and device, that had the same numbers in a record and in
    /// /proc/PID/maps.
    agreed: HashMap<(u64, u64), Arc<Mapping>>,
    /// The devices among them. Before Linux 6.8 those of an overlayfs never are.
    agreed_devices: HashSet<u64>,
}

impl Natives {
    /// A process is traced from now on; `mappings` were read at `read_ns`.
    pub fn attach(&mut self, pid: u32, mappings: &Mappings, read_ns: u64) {
        let space = self.spaces.entry(pid).or_default();
        space.read(mappings, read_ns);
    }

    /// A child has its parent's mappings.
    pub fn fork(&mut self, parent: u32, child: u32) {
        let space = self.spaces.get(&parent).cloned().unwrap_or_default();
        let space = Space {
            used_to: UsedTo::default(),
            gone: false,
            ..space
        };
        self.spaces.insert(child, space);
    }

    /// A process has executed a new program.
    pub fn exec(&mut self, pid: u32) {
        self.spaces.insert(pid, Space::default());
        self.reread(pid, Mappings::read);
    }

    /// A process has gone.
    pub fn forget(&mut self, pid: u32) {
        self.spaces.remove(&pid);
    }

    /// A system call has changed an address space, or is about to.
    pub fn change(&mut self, change: &records::AddressSpace) {
        self.change_reading(change, Mappings::read);
    }

    fn change_reading(
        &mut self,
        change: &records::AddressSpace,
        read: impl FnOnce(u32) -> io::Result<Mappings>,
    ) {
        let Some(space) = self.spaces.get_mut(&change.header.pid) else {
            return;
        };
        match change.header.op {
            space_op::MAP_EXECUTABLE => self.mapped(change, read),
            space_op::UNMAP => space.remove(change.start, change.len),
            space_op::MOVE => {
                space.remove(change.start, change.len);
                space.remove(change.new_start, change.new_len);
            }
            _ => {}
        }
    }

    /// A file was mapped executable.
    fn mapped(
        &mut self,
        change: &records::AddressSpace,
        read: impl FnOnce(u32) -> io::Result<Mappings>,
    ) {
        let (pid, start) = (change.header.pid, change.start);
        let (inode, device) = (change.new_start, change.new_len);
        let is_it = |mapping: &Arc<Mapping>| {
            let (major, minor) = mapping.device;
            (mapping.inode, u64::from(major << 20 | minor)) == (inode, device)
        };
        let space = self.spaces.entry(pid).or_default();
        // Whatever was there has gone, if a record of it or not.
        space.remove(start, change.len);
        if !space.last_at(start).is_some_and(is_it) {
            space.stale = true;
            self.reread(pid, read);
        }
        let space = self.spaces.entry(pid).or_default();
        let found = space.last_at(start).cloned();
        space.remove(start, change.len);
        let end = page_end(start, change.len);
        let known = self.agreed.get(&(inode, device));
        let moved = known.filter(|known| known.len() == end - start);
        let mapping = match found {
            Some(found) if is_it(&found) => found,
            // Gone before anybody could look. Another process has had the same part of the file.
            _ if moved.is_some() => Arc::new(Mapping {
                start,
                end,
                ..moved.map(|known| Mapping::clone(known)).unwrap_or_default()
            }),
            // Nobody could look: the next instruction there asks again.
            _ if space.read_ns < change.header.time_ns => return,
            Some(found) if !self.agreed_devices.contains(&device) => found,
            _ => Arc::new(Mapping {
                start,
                end,
                executable: true,
                path: NOT_KNOWN.into(),
                ..Mapping::default()
            }),
        };
        space.add(&mapping);
        if is_it(&mapping) && self.agreed.len() < MAX_FILES {
            self.agreed_devices.insert(device);
            self.agreed.insert((inode, device), mapping);
        }
    }

    /// The code at an address, as an index into [`Self::table`]. None for the interpreter's own
    /// loop. `time_ns`: when the instruction was met.
    pub fn at(&mut self, pid: u32, ip: u64, time_ns: u64) -> Option<u32> {
        self.at_reading(pid, ip, time_ns, Mappings::read)
    }

    /// [`Natives::at`] with the reading of a process's mappings.
    fn at_reading(
        &mut self,
        pid: u32,
        ip: u64,
        time_ns: u64,
        read: impl FnOnce(u32) -> io::Result<Mappings>,
    ) -> Option<u32> {
        let space = self.spaces.entry(pid).or_default();
        if space.at(ip).is_none() && space.may_have_changed(time_ns) {
            self.reread(pid, read);
        }
        let space = self.spaces.entry(pid).or_default();
        let Some(Extent { mapping, image, .. }) = space.at(ip).cloned() else {
            return Some(self.index(NOT_KNOWN, None));
        };
        if !mapping.is_file() {
            let name = mapping.path.to_string_lossy();
            // vdso, vsyscall
            let has_name = name.starts_with("[v") || name == NOT_KNOWN;
            return Some(self.index(if has_name { &name } else { ANONYMOUS }, None));
        }
        let image = image.unwrap_or_else(|| {
            let image = self.image(pid, &mapping);
            if let Some(extent) = self.spaces.entry(pid).or_default().at_mut(ip) {
                extent.image = Some(image);
            }
            image
        });
        let function = image.and_then(|image| {
            let library = self.libraries.get(image)?;
            let base = elf::base(library.fixed, &library.segments, &mapping)?;
            let number = library.functions.at(ip.wrapping_sub(base))?;
            Some(((image, number), library.functions.name(number)))
        });
        let known = function.and_then(|(key, _)| self.named.get(&key).copied());
        if let Some(known) = known {
            return known;
        }
        let path = bounded(&mapping.path.to_string_lossy(), MAX_PATH_CHARS);
        let Some((key, name)) = function else {
            return Some(self.index(&path, None));
        };
        let is_loop = name == EVAL_LOOP || name.starts_with(EVAL_TAIL_CALL);
        let name = demangled(name);
        let native = (!is_loop).then(|| self.index(&path, Some(name)));
        self.named.insert(key, native);
        native
    }

    fn reread(&mut self, pid: u32, read: impl FnOnce(u32) -> io::Result<Mappings>) {
        let begin_ns = clock::monotonic_ns();
        let space = self.spaces.entry(pid).or_default();
        if !space.used_to.allows(begin_ns) || !self.used_to.allows(begin_ns) {
            return;
        }
        // Empty is what a zombie has.
        match read(pid).ok().filter(|read| read.iter().next().is_some()) {
            Some(mappings) => space.read(&mappings, begin_ns),
            None => space.gone = true,
        }
        let end_ns = clock::monotonic_ns();
        space.used_to.charge(&OF_ONE, begin_ns, end_ns);
        self.used_to.charge(&OF_ALL, begin_ns, end_ns);
    }

    /// The symbols of the file behind a mapping.
    fn image(&mut self, pid: u32, mapping: &Mapping) -> Option<usize> {
        let named = (mapping.device, mapping.inode, mapping.path.clone());
        let Ok(file) = open::once_mapped_file(pid, mapping) else {
            return self.by_name.get(&named).copied();
        };
        let key = FileKey::from(&file.metadata().ok()?);
        if let Some(&image) = self.by_file.get(&key) {
            self.by_name.insert(named, image);
            return Some(image);
        }
        if self.symbol_bytes >= MAX_SYMBOL_BYTES {
            return None;
        }
        // What is no ELF file has no symbols either.
        let library = match Image::open(file) {
            Ok(image) => Library::of(pid, mapping, &image),
            Err(_) => Library::default(),
        };
        self.symbol_bytes += library.functions.size_bytes() + size_of::<Library>();
        self.symbol_bytes += mapping.path.as_os_str().len();
        let image = self.libraries.len();
        self.libraries.push(library);
        self.by_file.insert(key, image);
        self.by_name.insert(named, image);
        Some(image)
    }

    fn index(&mut self, library: &str, symbol: Option<String>) -> u32 {
        let mut native = Native {
            library: library.to_owned(),
            symbol,
        };
        if let Some(&index) = self.indexes.get(&native) {
            return index;
        }
        if self.table.len() >= MAX_NATIVES {
            native = Native {
                library: OTHER_CODE.to_owned(),
                symbol: None,
            };
        }
        let table = &mut self.table;
        *self.indexes.entry(native).or_insert_with_key(|native| {
            table.push(native.clone());
            table.len() as u32 - 1
        })
    }

    /// Every piece of code that was met, by its index.
    pub fn table(&self) -> &[Native] {
        &self.table
    }
}

impl Library {
    /// From a file that this process has mapped.
    fn of(pid: u32, mapping: &Mapping, image: &Image) -> Self {
        let memory = ProcessMemory::new(pid);
        let base = image.base(mapping);
        let functions = Functions::of(image, |address| {
            let chosen = memory.word(address.wrapping_add(base?))?;
            Some(chosen.wrapping_sub(base?))
        });
        Library {
            functions,
            fixed: image.is_fixed(),
            segments: image.segments().to_vec(),
        }
    }
}

impl Space {
    /// Adds what is not known yet.
    fn read(&mut self, mappings: &Mappings, read_ns: u64) {
        let executable = mappings.iter().filter(|mapping| mapping.executable);
        let shared = executable.map(|mapping| (mapping.start, Arc::new(mapping.clone())));
        let last: BTreeMap<_, _> = shared.collect();
        last.values().for_each(|mapping| self.add(mapping));
        self.last = last;
        self.read_ns = read_ns;
        self.stale = false;
    }

    /// What was read last at an address.
    fn last_at(&self, address: u64) -> Option<&Arc<Mapping>> {
        let (_, mapping) = self.last.range(..=address).next_back()?;
        (address < mapping.end).then_some(mapping)
    }

    /// Adds those parts of a mapping where nothing is known.
    fn add(&mut self, mapping: &Arc<Mapping>) {
        let before = self.extents.range(..mapping.start).next_back();
        let mut next = before
            .map_or(0, |(_, extent)| extent.end)
            .max(mapping.start);
        let inside = self.extents.range(mapping.start..mapping.end);
        let known: Vec<(u64, u64)> = inside.map(|(&start, extent)| (start, extent.end)).collect();
        for (start, end) in known.into_iter().chain([(mapping.end, mapping.end)]) {
            if next < start {
                let extent = Extent {
                    end: start,
                    mapping: Arc::clone(mapping),
                    image: None,
                };
                self.extents.insert(next, extent);
            }
            next = next.max(end);
        }
    }

    fn at(&self, ip: u64) -> Option<&Extent> {
        let (_, extent) = self.extents.range(..=ip).next_back()?;
        (ip < extent.end).then_some(extent)
    }

    fn at_mut(&mut self, ip: u64) -> Option<&mut Extent> {
        let (_, extent) = self.extents.range_mut(..=ip).next_back()?;
        (ip < extent.end).then_some(extent)
    }

    /// What an instruction is in may not be in the map yet.
    fn may_have_changed(&self, time_ns: u64) -> bool {
        let later = time_ns.saturating_add(MERGED_NS) >= self.read_ns;
        !self.gone && (self.stale || later)
    }

    /// Nothing is known of the range any more. Both numbers are the target's.
    fn remove(&mut self, start: u64, len: u64) {
        let end = page_end(start, len);
        let before = self.extents.range(..start).next_back();
        let inside = self.extents.range(start..end.max(start));
        let touched = before.into_iter().chain(inside);
        let touched: Vec<u64> = touched
            .filter(|(_, extent)| start < extent.end && len > 0)
            .map(|(&first, _)| first)
            .collect();
        for first in touched {
            let Some(extent) = self.extents.remove(&first) else {
                continue;
            };
            self.stale = true;
            if end < extent.end {
                self.extents.insert(end, extent.clone());
            }
            if first < start {
                let end = start;
                self.extents.insert(first, Extent { end, ..extent });
            }
        }
    }
}

/// One past the last byte of a range of whole pages, as the kernel rounds it.
fn page_end(start: u64, len: u64) -> u64 {
    let end = start.saturating_add(len);
    end.checked_next_multiple_of(PAGE_BYTES).unwrap_or(u64::MAX)
}

fn bounded(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

#[cfg(test)]
#[path = "native_tests.rs"]
mod tests;
