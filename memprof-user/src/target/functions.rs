//! The functions of an ELF file by address: which one an instruction is in.
//!
//! From the file's own symbols, as far as stripping has left them. What the loader chooses for the
//! processor (glibc's `memset` and its like) has local names only, which stripping takes: such a
//! function is found where a process has its address, and its extent in the unwind table.

use gimli::{BaseAddresses, EhFrame, EhFrameHdr, LittleEndian, UnwindSection};
use object::elf::{STT_FUNC, STT_GNU_IFUNC};

use super::elf::{Image, Symbol};

/// Symbols that begin at lower addresses and are looked at, when the nearest does not reach the
/// instruction: functions do not overlap, but for a part inside a larger one in assembler code.
const NEAREST: usize = 8;

/// What GCC and LLVM append to the name of a part or a variant of a function.
/// (GCC: cgraphclones, ipa-split, lto-partition; LLVM: FunctionImportUtils).
const SUFFIXES: [&str; 6] = [
    ".cold",
    ".part.",
    ".isra.",
    ".constprop.",
    ".lto_priv.",
    ".llvm.",
];

#[derive(Clone, Copy, Debug)]
struct Function {
    address: u64,
    end: u64,
    is_weak: bool,
    /// Its name's bytes in [`Functions::names`].
    name: (u32, u32),
}

/// The functions of one file.
#[derive(Clone, Debug, Default)]
pub struct Functions {
    /// By address, one at each.
    all: Vec<Function>,
    names: Vec<u8>,
}

impl Functions {
    /// Those of `image`. `word` reads eight bytes at an address of the file's own address space
    /// where a process has the file, and gives an address in the same; None: it cannot.
    pub fn of(image: &Image, word: impl Fn(u64) -> Option<u64>) -> Self {
        let mut functions = Functions::default();
        let mut choosers = Functions::default();
        image.all_symbols(|name, kind, symbol| match kind {
            STT_FUNC => functions.add(name, symbol),
            STT_GNU_IFUNC => choosers.add(name, symbol),
            _ => {}
        });
        choosers.arrange();
        if !choosers.all.is_empty()
            && let Some(unwind) = Unwind::of(image)
        {
            for (slot, chooser) in image.chosen_at_load() {
                if let Some(index) = choosers.at(chooser)
                    && let Some(address) = word(slot)
                    && let Some(size) = unwind.size(address)
                {
                    functions.add(
                        choosers.name(index),
                        Symbol {
                            address,
                            size,
                            is_weak: choosers.all[index].is_weak,
                        },
                    );
                }
            }
        }
        functions.arrange();
        functions
    }

    fn add(&mut self, name: &[u8], symbol: Symbol) {
        let name = plain(name);
        let begin = u32::try_from(self.names.len());
        let end = u32::try_from(self.names.len() + name.len());
        if let (Ok(begin), Ok(end)) = (begin, end)
            && symbol.size > 0
            && !name.is_empty()
        {
            self.names.extend_from_slice(name);
            self.all.push(Function {
                address: symbol.address,
                end: symbol.address.saturating_add(symbol.size),
                is_weak: symbol.is_weak,
                name: (begin, end),
            });
        }
    }

    /// Of several names at one address, the one that callers use: `read`, not `__libc_read`;
    /// `strrchr`, not `rindex`.
    fn arrange(&mut self) {
        let names = &self.names;
        let rank = |function: &Function| {
            let name = bytes(names, function.name);
            let internal = name.iter().take_while(|&&byte| byte == b'_').count();
            (internal, function.is_weak, name.len(), name)
        };
        self.all.sort_unstable_by(|a, b| {
            let by_address = a.address.cmp(&b.address);
            by_address.then_with(|| rank(a).cmp(&rank(b)))
        });
        self.all.dedup_by_key(|function| function.address);
        self.all.shrink_to_fit();
    }

    /// Number of the function that this instruction is in.
    pub fn at(&self, address: u64) -> Option<usize> {
        let after = self.all.partition_point(|one| one.address <= address);
        let nearest = (0..after).rev().take(NEAREST);
        nearest
            .into_iter()
            .find(|&index| address < self.all[index].end)
    }

    /// The name of a function, as the file has it.
    pub fn name(&self, index: usize) -> &[u8] {
        self.all
            .get(index)
            .map_or(&[], |function| bytes(&self.names, function.name))
    }

    /// Memory that this takes, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.all.len() * size_of::<Function>() + self.names.len()
    }
}

fn bytes(names: &[u8], (begin, end): (u32, u32)) -> &[u8] {
    names.get(begin as usize..end as usize).unwrap_or_default()
}

/// A name without the version of the symbol (`read@@GLIBC_2.2.5`) and without what compilers
/// append.
fn plain(name: &[u8]) -> &[u8] {
    let begins_suffix = |&at: &usize| {
        let rest = &name[at..];
        rest[0] == b'@'
            || SUFFIXES
                .iter()
                .any(|suffix| rest.starts_with(suffix.as_bytes()))
    };
    let marks = name.iter().enumerate().skip(1);
    let marks = marks.filter(|(_, byte)| matches!(byte, b'.' | b'@'));
    let end = marks.map(|(at, _)| at).find(begins_suffix);
    &name[..end.unwrap_or(name.len())]
}

/// The unwind table of a file, which has the extent of every function.
struct Unwind {
    header: Vec<u8>,
    frames: Vec<u8>,
    bases: BaseAddresses,
}

impl Unwind {
    fn of(image: &Image) -> Option<Self> {
        let (header_at, _) = image.section(".eh_frame_hdr")?;
        let (frames_at, _) = image.section(".eh_frame")?;
        Some(Unwind {
            header: image.section_data(".eh_frame_hdr")?,
            frames: image.section_data(".eh_frame")?,
            bases: BaseAddresses::default()
                .set_eh_frame_hdr(header_at)
                .set_eh_frame(frames_at),
        })
    }

    /// Size of the function that begins at this address.
    fn size(&self, address: u64) -> Option<u64> {
        let header = EhFrameHdr::new(&self.header, LittleEndian);
        let header = header.parse(&self.bases, size_of::<u64>() as u8).ok()?;
        let frames = EhFrame::new(&self.frames, LittleEndian);
        let found = header.table()?.fde_for_address(
            &frames,
            &self.bases,
            address,
            EhFrame::cie_from_offset,
        );
        let found = found.ok()?;
        (found.initial_address() == address).then_some(found.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_callers_know_them() {
        for (name, known) in [
            ("read@@GLIBC_2.2.5", "read"),
            ("memcpy@GLIBC_2.14", "memcpy"),
            ("list_resize.part.0", "list_resize"),
            ("_PyEval_EvalFrameDefault.cold", "_PyEval_EvalFrameDefault"),
            ("f.constprop.0.isra.0", "f"),
            ("main.run", "main.run"),
            (".hidden", ".hidden"),
            ("f.", "f."),
            ("", ""),
        ] {
            assert_eq!(plain(name.as_bytes()), known.as_bytes());
        }
    }

    #[test]
    fn the_nearest_function_that_reaches_an_address_has_it() {
        let mut functions = Functions::default();
        let mut add = |name: &str, address, size| {
            let symbol = Symbol {
                address,
                size,
                is_weak: name == "wk",
            };
            functions.add(name.as_bytes(), symbol);
        };
        add("outer", 0x100, 0x100);
        add("__inner", 0x140, 0x10);
        add("inner", 0x140, 0x10);
        add("wk", 0x140, 0x10);
        add("label", 0x180, 0);
        add("last", u64::MAX - 8, 100);
        functions.arrange();
        let name = |address| {
            let found = functions.at(address)?;
            std::str::from_utf8(functions.name(found)).ok()
        };
        for (address, expected) in [
            (0xff, None),
            (0x100, Some("outer")),
            (0x14f, Some("inner")),
            (0x150, Some("outer")),
            (0x180, Some("outer")),
            (0x200, None),
            (u64::MAX - 1, Some("last")),
        ] {
            assert_eq!(name(address), expected, "{address:#x}");
        }
    }
}
