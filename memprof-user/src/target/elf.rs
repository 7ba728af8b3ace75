//! An ELF file, read in pieces: where its symbols, sections and segments are, and where a
//! mapping of it places them.
//!
//! Files come from outside: every table read is bound in size, and a file that contradicts
//! itself is an error. Nothing is mapped, so a file cut short meanwhile cannot kill the reader.

use std::fs::File;
use std::os::unix::fs::FileExt;

use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, ProgramHeader64, SectionHeader64};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use object::read::{ReadCache, SectionIndex};

use super::Mapping;
use memprof_common::PAGE_BYTES;

/// Largest section that is read: the string table of a large static program with full symbols.
const SECTION_BYTES: u64 = 64 << 20;

/// A symbol of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Symbol {
    /// Its address in the file's own address space (add [`Image::base`]).
    pub address: u64,
    /// Its size, 0 when the file does not say.
    pub size: u64,
    /// It gives way to another one of its name; often a second name of a function (STB_WEAK).
    pub is_weak: bool,
}

/// A loadable segment (PT_LOAD).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Its address in the file's own address space.
    pub address: u64,
    /// Bytes in memory.
    pub memory_bytes: u64,
    /// Where it is in the file.
    pub offset: u64,
    /// Bytes in the file; the rest of `memory_bytes` is zero at the start.
    pub file_bytes: u64,
    /// It holds code.
    pub executable: bool,
}

/// A section by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Section {
    name: Vec<u8>,
    kind: u32,
    address: u64,
    offset: u64,
    bytes: u64,
    /// Of a symbol table: the section that holds its names.
    link: usize,
}

/// An opened ELF file: 64 bits, little endian, a program or a shared object.
#[derive(Debug)]
pub struct Image {
    file: File,
    fixed: bool,
    segments: Vec<Segment>,
    sections: Vec<Section>,
}

impl Image {
    /// Reads the headers. The error is a sentence for people.
    pub fn open(file: File) -> Result<Self, String> {
        let reader = file.try_clone().map_err(|e| e.to_string())?;
        let cache = ReadCache::new(reader);
        let parse = |error: object::Error| error.to_string();
        let header = FileHeader64::<LE>::parse(&cache).map_err(parse)?;
        let fixed = match header.e_type(LE) {
            elf::ET_EXEC => true,
            elf::ET_DYN => false,
            _ => return Err("neither a program nor a shared object".to_owned()),
        };
        let segments = header.program_headers(LE, &cache).map_err(parse)?;
        let segments: Vec<Segment> = segments.iter().filter_map(segment).collect();
        let headers = header.section_headers(LE, &cache).map_err(parse)?;
        let names = match header.shstrndx(LE, &cache) {
            Ok(index) => headers.get(index as usize).map(|s| section(s, Vec::new())),
            Err(_) => None,
        };
        let names = names.and_then(|names| read_section(&file, &names));
        let sections = headers
            .iter()
            .map(|header| {
                let at = header.sh_name(LE) as usize;
                section(
                    header,
                    string(names.as_deref().unwrap_or_default(), at).to_vec(),
                )
            })
            .collect();
        Ok(Image {
            file,
            fixed,
            segments,
            sections,
        })
    }

    /// Its PT_LOAD segments.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Address and size of a section.
    pub fn section(&self, name: &str) -> Option<(u64, u64)> {
        let section = self.section_named(name)?;
        Some((section.address, section.bytes))
    }

    /// The contents of a section that is in the file and not excessively large.
    pub fn section_data(&self, name: &str) -> Option<Vec<u8>> {
        read_section(&self.file, self.section_named(name)?)
    }

    fn section_named(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| s.name == name.as_bytes())
    }

    /// Looks the names up that are defined here: first among the exported symbols, which
    /// stripping leaves, then, for those not found, among all symbols.
    pub fn symbols<const N: usize>(&self, names: [&str; N]) -> [Option<Symbol>; N] {
        let mut found = [None; N];
        for kind in [elf::SHT_DYNSYM, elf::SHT_SYMTAB] {
            if found.iter().any(Option::is_none) {
                self.symbols_in(kind, &names, &mut found);
            }
        }
        found
    }

    /// The same, among the exported symbols only.
    pub fn exported<const N: usize>(&self, names: [&str; N]) -> [Option<Symbol>; N] {
        let mut found = [None; N];
        self.symbols_in(elf::SHT_DYNSYM, &names, &mut found);
        found
    }

    fn symbols_in(&self, kind: u32, names: &[&str], found: &mut [Option<Symbol>]) {
        self.each_symbol(kind, |name, _, symbol| {
            for (wanted, slot) in names.iter().zip(found.iter_mut()) {
                if slot.is_none() && name == wanted.as_bytes() {
                    *slot = Some(symbol);
                }
            }
        });
    }

    /// Tells each symbol that is defined here: its name, its type (`STT_FUNC`, …), and where it is.
    /// First those that are exported, then all, where the file has not been stripped.
    pub fn all_symbols(&self, mut tell: impl FnMut(&[u8], u8, Symbol)) {
        for kind in [elf::SHT_DYNSYM, elf::SHT_SYMTAB] {
            self.each_symbol(kind, &mut tell);
        }
    }

    fn each_symbol(&self, kind: u32, mut tell: impl FnMut(&[u8], u8, Symbol)) {
        let Some(table) = self.sections.iter().find(|s| s.kind == kind) else {
            return;
        };
        let Some(data) = read_section(&self.file, table) else {
            return;
        };
        let strings = self.sections.get(table.link);
        let Some(strings) = strings.and_then(|strings| read_section(&self.file, strings)) else {
            return;
        };
        for symbol in entries::<elf::Sym64<LE>>(&data) {
            if !symbol.is_undefined(LE) {
                let name = string(&strings, symbol.st_name(LE) as usize);
                let place = Symbol {
                    address: symbol.st_value(LE),
                    size: symbol.st_size(LE),
                    is_weak: symbol.st_bind() == elf::STB_WEAK,
                };
                tell(name, symbol.st_type(), place);
            }
        }
    }

    /// Functions that the loader chooses for the processor (IFUNC, as glibc's `memset`) and that
    /// the file itself calls: for each, where it will find the address of the chosen one, and the
    /// address of the function that chooses, both in the file's own address space.
    pub fn chosen_at_load(&self) -> Vec<(u64, u64)> {
        let relocations = self.sections.iter().filter(|s| s.kind == elf::SHT_RELA);
        let mut found = Vec::new();
        for data in relocations.filter_map(|section| read_section(&self.file, section)) {
            let entries = entries::<elf::Rela64<LE>>(&data).iter();
            let chosen = entries.filter(|rela| rela.r_type(LE, false) == elf::R_X86_64_IRELATIVE);
            found.extend(chosen.map(|rela| (rela.r_offset.get(LE), rela.r_addend.get(LE) as u64)));
        }
        found
    }

    /// Reads initialised data: what the file holds for this address of its own address space.
    /// None when the address is in no segment, or is zero-initialised and not in the file.
    pub fn data(&self, address: u64, bytes: usize) -> Option<Vec<u8>> {
        let segment = self.segments.iter().find(|segment| {
            address
                .checked_sub(segment.address)
                .and_then(|skip| skip.checked_add(bytes as u64))
                .is_some_and(|end| end <= segment.file_bytes)
        })?;
        let mut data = vec![0; bytes];
        let offset = segment.offset.checked_add(address - segment.address)?;
        self.file.read_exact_at(&mut data, offset).ok()?;
        Some(data)
    }

    /// Values of the entries of the dynamic section with these tags (`DT_NEEDED`, `DT_RPATH`, …)
    /// that are strings, in order.
    pub fn dynamic_strings(&self, tags: &[u32]) -> Vec<String> {
        let (Some(entries), Some(strings)) =
            (self.section_data(".dynamic"), self.section_data(".dynstr"))
        else {
            return Vec::new();
        };
        // Elf64_Dyn { d_tag: i64, d_val: u64 }
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or(0);
        entries
            .chunks_exact(16)
            .map(|entry| (number(&entry[..8]), number(&entry[8..])))
            .filter(|(tag, _)| tags.iter().any(|wanted| u64::from(*wanted) == *tag))
            .map(|(_, at)| String::from_utf8_lossy(string(&strings, at as usize)).into_owned())
            .collect()
    }

    /// What to add to the file's addresses in a process that maps it so. `mapping` is one of its
    /// executable mappings.
    pub fn base(&self, mapping: &Mapping) -> Option<u64> {
        base(self.fixed, &self.segments, mapping)
    }

    /// True for a program that only runs at its own addresses (ET_EXEC).
    pub fn is_fixed(&self) -> bool {
        self.fixed
    }
}

/// See [`Image::base`].
pub fn base(fixed: bool, segments: &[Segment], mapping: &Mapping) -> Option<u64> {
    let floor = |number: u64| number & !(PAGE_BYTES - 1);
    let segment = segments.iter().find(|segment| {
        segment.executable
            && floor(segment.offset) <= mapping.offset
            && mapping.offset < segment.offset.saturating_add(segment.file_bytes)
    })?;
    let skip = mapping.offset - floor(segment.offset);
    let base = mapping
        .start
        .wrapping_sub(floor(segment.address).wrapping_add(skip));
    // A program with fixed addresses that is mapped elsewhere is only being looked at.
    (!fixed || base == 0).then_some(base)
}

fn segment(header: &ProgramHeader64<LE>) -> Option<Segment> {
    (header.p_type(LE) == elf::PT_LOAD).then(|| Segment {
        address: header.p_vaddr(LE),
        memory_bytes: header.p_memsz(LE),
        offset: header.p_offset(LE),
        file_bytes: header.p_filesz(LE),
        executable: header.p_flags(LE) & elf::PF_X != 0,
    })
}

fn section(header: &SectionHeader64<LE>, name: Vec<u8>) -> Section {
    Section {
        name,
        kind: header.sh_type(LE),
        address: header.sh_addr(LE),
        offset: header.sh_offset(LE),
        bytes: header.sh_size(LE),
        link: SectionIndex(header.sh_link(LE) as usize).0,
    }
}

fn read_section(file: &File, section: &Section) -> Option<Vec<u8>> {
    if section.kind == elf::SHT_NOBITS || section.bytes > SECTION_BYTES {
        return None;
    }
    // Not more than the file has, whatever its header says.
    let in_file = file.metadata().ok()?.len().checked_sub(section.offset)?;
    if section.bytes > in_file {
        return None;
    }
    let mut data = vec![0; usize::try_from(section.bytes).ok()?];
    file.read_exact_at(&mut data, section.offset).ok()?;
    Some(data)
}

/// A section as its entries; what is left over at its end is left out.
fn entries<T: object::Pod>(data: &[u8]) -> &[T] {
    let whole = data.len() - data.len() % size_of::<T>();
    object::slice_from_all_bytes(&data[..whole]).unwrap_or_default()
}

/// The string that begins at `at`, without its NUL; empty when out of range.
fn string(table: &[u8], at: usize) -> &[u8] {
    let rest = table.get(at..).unwrap_or_default();
    let end = rest.iter().position(|&b| b == 0).unwrap_or(rest.len());
    &rest[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Mappings;
    use crate::target::open::mapped_file;
    use std::io::Write;

    // SAFETY: no other symbol has this name.
    #[unsafe(no_mangle)]
    static MEMPROF_ELF_TEST: u32 = 0x5eed_cafe;

    fn myself() -> (Image, Mapping) {
        let maps = Mappings::read(std::process::id()).unwrap();
        let mapping = maps
            .at(myself as fn() -> _ as usize as u64)
            .unwrap()
            .clone();
        let file = mapped_file(std::process::id(), &mapping).unwrap();
        (Image::open(file).unwrap(), mapping)
    }

    #[test]
    fn a_symbol_of_this_program_is_where_the_program_has_it() {
        let (image, mapping) = myself();
        let base = image.base(&mapping).unwrap();
        let [symbol, none] = image.symbols(["MEMPROF_ELF_TEST", "no such symbol"]);
        let symbol = symbol.unwrap();
        assert_eq!(none, None);
        assert_eq!(base + symbol.address, &raw const MEMPROF_ELF_TEST as u64);
        let bytes = image.data(symbol.address, 4).unwrap();
        assert_eq!(bytes, MEMPROF_ELF_TEST.to_le_bytes());
        let (text, bytes) = image.section(".text").unwrap();
        let here = myself as fn() -> _ as usize as u64 - base;
        assert!((text..text + bytes).contains(&here));
        assert!(image.section_data(".bss").is_none());
    }

    #[test]
    fn zero_initialised_data_is_not_in_the_file() {
        let (image, _) = myself();
        let last = image.segments().iter().max_by_key(|s| s.address).unwrap();
        assert!(image.data(last.address + last.file_bytes, 1).is_none());
        assert!(image.data(u64::MAX, 8).is_none());
    }

    #[test]
    fn the_base_comes_from_the_executable_segment() {
        let segment = Segment {
            address: 0x41f000,
            memory_bytes: 0x2b2289,
            offset: 0x1f000,
            file_bytes: 0x2b2289,
            executable: true,
        };
        let mapping = |start, offset| Mapping {
            start,
            end: start + 0x1000,
            offset,
            ..Mapping::default()
        };
        assert_eq!(base(true, &[segment], &mapping(0x41f000, 0x1f000)), Some(0));
        assert_eq!(base(true, &[segment], &mapping(0x900000, 0x1f000)), None);
        let loaded = mapping(0x7f00_0041_f000, 0x1f000);
        assert_eq!(base(false, &[segment], &loaded), Some(0x7f00_0000_0000));
        // The kernel splits a mapping when a part of it changes its protection.
        let part = mapping(0x7f00_0042_0000, 0x20000);
        assert_eq!(base(false, &[segment], &part), Some(0x7f00_0000_0000));
        assert_eq!(base(false, &[segment], &mapping(0x1000, 0)), None);
    }

    #[test]
    fn damaged_files_are_errors() {
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let open = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            Image::open(file)
        };
        assert!(open(b"").is_err());
        assert!(open(b"#!/bin/sh\n").is_err());
        // Cut files: headers are missing, or sections lie beyond the end.
        for len in [16, 64, 100, 4096] {
            if let Ok(image) = open(&whole[..len]) {
                assert_eq!(image.symbols(["MEMPROF_ELF_TEST"]), [None]);
            }
        }
        // A header of garbage.
        let mut garbage = whole[..8192].to_vec();
        for (i, byte) in garbage[24..64].iter_mut().enumerate() {
            *byte = (i * 37) as u8;
        }
        assert!(open(&garbage).is_err());
    }
}
