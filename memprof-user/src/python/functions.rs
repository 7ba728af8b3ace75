//! The functions that a live process has now, found in its memory: every function object, and
//! every code object that no function has yet.
//!
//! Objects are told by their type's address, one word in the heap. So closures, methods, callbacks
//! and what a decorator hides are found like a module's own functions, and no dictionary has to
//! be understood. Freed memory may still look like an object; what its fields lead to has to fit.

use std::collections::HashMap;
use std::io;
use std::ops::Range;

use imbl::HashMap as SharedMap;

use super::code_object::string;
use super::detect::Interpreter;
use super::patterns::Naming;
use super::versions::Offsets;
use crate::decode::Definition;
use crate::target::{Mappings, PageKind, Pagemap, ProcessMemory, ReadMemory, pagemap};

/// Read at once.
const BLOCK: u64 = 1 << 20;

/// Memory that is looked through at most: an interpreter's heap, not a data set.
const MOST_BYTES: u64 = 8 << 30;

/// Longest name that is read, in bytes.
const NAME_BYTES: usize = 1024;

/// More references than any code object has. What stands in the place of the count in freed
/// memory is an address, which is greater, or 0.
const MOST_REFERENCES: u64 = 10_000_000;

/// `ob_type` of an object (Include/object.h).
const OB_TYPE: u64 = 8;

/// `CO_GENERATOR`, `CO_COROUTINE`, `CO_ASYNC_GENERATOR` (Include/cpython/code.h).
const MAKES_GENERATOR: u32 = 0x20 | 0x80 | 0x200;

/// `CO_OPTIMIZED` and `CO_NEWLOCALS`: code of a function, not of a module or a class.
const OF_FUNCTION: u32 = 0x1 | 0x2;

/// A function of a process, by its code object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFunction {
    /// Address of the code object.
    pub code: u64,
    /// What it is called.
    pub naming: Naming,
    /// `co_firstlineno`
    pub first_line: u32,
    /// A call makes a generator or a coroutine.
    pub is_generator: bool,
    /// Bytes of a frame on the datastack; 0 before 3.11.
    pub frame_bytes: u32,
}

/// What one process was found to have. A forked child's is a clone, made in O(1).
#[derive(Clone, Default)]
pub struct Functions {
    /// Objects seen, by address, with the words that tell whether they are still the same.
    seen: SharedMap<u64, [u64; 3]>,
    /// Names by address of the code object. What a function says goes before what its code does.
    names: SharedMap<u64, Naming>,
}

impl Functions {
    /// Looks through the process, and returns the functions that are new, or whose names are.
    /// None: it has gone, or cannot be read.
    pub fn look(&mut self, pid: u32, interpreter: &Interpreter) -> Option<Vec<FoundFunction>> {
        let types = Types {
            code: interpreter.code_type?,
            function: interpreter.function_type?,
        };
        let mut look = Look {
            memory: ProcessMemory::new(pid),
            interpreter,
            strings: HashMap::new(),
            found: HashMap::new(),
        };
        let mut block = vec![0; BLOCK as usize];
        let mut left = MOST_BYTES;
        for run in heap(pid).ok()? {
            let mut at = run.start;
            while at < run.end && left > 0 {
                let len = BLOCK.min(run.end - at).min(left);
                left -= len;
                let read = block.get_mut(..len as usize).and_then(|buffer| {
                    let read = look.memory.read_some(at, buffer).ok()?;
                    Some(&buffer[..read])
                });
                self.block(&mut look, types, at, read.unwrap_or_default());
                at += len;
            }
        }
        Some(look.found.into_values().collect())
    }

    /// Takes in the code object of a function that the process is about to define, by the names
    /// that it says itself. None: there is none at this address.
    pub fn define(
        &mut self,
        pid: u32,
        interpreter: &Interpreter,
        definition: &Definition,
    ) -> Option<FoundFunction> {
        let mut look = Look {
            memory: ProcessMemory::new(pid),
            interpreter,
            strings: HashMap::new(),
            found: HashMap::new(),
        };
        let code = definition.code;
        if look.memory.word(code.wrapping_add(OB_TYPE))? != interpreter.code_type? {
            return None;
        }
        let names = (definition.qualname.clone(), definition.module.clone());
        let found = look.code(code, Some(names))?;
        self.names.insert(code, found.naming.clone());
        Some(found)
    }

    /// What a code object of this process is called, if it was seen.
    pub fn naming(&self, code: u64) -> Option<&Naming> {
        self.names.get(&code)
    }

    /// Everything seen so far.
    pub fn namings(&self) -> impl Iterator<Item = &Naming> {
        self.names.values()
    }

    fn block(&mut self, look: &mut Look<'_>, types: Types, start: u64, bytes: &[u8]) {
        let block = Block { start, bytes };
        for (index, word) in bytes.chunks_exact(8).enumerate() {
            let word = number(word);
            if word != types.code && word != types.function {
                continue;
            }
            let object = start.wrapping_add(index as u64 * 8).wrapping_sub(OB_TYPE);
            let of_function = word == types.function;
            let Some(key) = look.key(block, object, of_function) else {
                continue;
            };
            if self.seen.get(&object) == Some(&key) {
                continue;
            }
            self.seen.insert(object, key);
            let named = match of_function {
                true => look.function(key, types.code),
                false => look.code(object, None),
            };
            // Comprehensions and their like are part of the function that they stand in.
            let is_part = |found: &FoundFunction| {
                let name = &found.naming.qualname;
                name.ends_with('>') && !name.ends_with("<lambda>")
            };
            let Some(found) = named.filter(|found| !is_part(found)) else {
                continue;
            };
            let known = self.names.get(&found.code);
            let is_better = known
                .is_none_or(|known| !found.naming.says_less_than(known) && *known != found.naming);
            if is_better {
                self.names.insert(found.code, found.naming.clone());
                look.found.insert(found.code, found);
            }
        }
    }
}

/// Addresses of types.
#[derive(Clone, Copy)]
struct Types {
    code: u64,
    function: u64,
}

/// A piece of memory that was just read.
#[derive(Clone, Copy)]
struct Block<'a> {
    start: u64,
    bytes: &'a [u8],
}

impl Block<'_> {
    /// A word of it, or of what lies beyond it.
    fn word(&self, memory: &impl ReadMemory, address: u64) -> Option<u64> {
        let offset = address.checked_sub(self.start);
        let offset = offset.and_then(|offset| usize::try_from(offset).ok());
        let inside = offset.and_then(|offset| self.bytes.get(offset..offset.checked_add(8)?));
        match inside {
            Some(word) => Some(number(word)),
            None => memory.word(address),
        }
    }
}

/// One look through a process.
struct Look<'a> {
    memory: ProcessMemory,
    interpreter: &'a Interpreter,
    strings: HashMap<u64, Option<String>>,
    found: HashMap<u64, FoundFunction>,
}

impl Look<'_> {
    /// The words of an object that name it; None when it cannot be one.
    fn key(&self, block: Block<'_>, object: u64, of_function: bool) -> Option<[u64; 3]> {
        let (offsets, layout) = (&self.interpreter.offsets, &self.interpreter.layout);
        let references = match layout.version {
            // The count is the low half of the word (Include/object.h).
            0x030c.. => block.word(&self.memory, object)? & 0xffff_ffff,
            _ => block.word(&self.memory, object)?,
        };
        if references == 0 || references > MOST_REFERENCES {
            return None;
        }
        let fields = match of_function {
            true => [
                offsets.function_code,
                offsets.function_qualname,
                offsets.function_module,
            ],
            false => [
                offsets.code_name,
                offsets.code_filename,
                offsets.code_firstlineno,
            ],
        };
        let word = |offset: u32| block.word(&self.memory, object.wrapping_add(offset.into()));
        Some([word(fields[0])?, word(fields[1])?, word(fields[2])?])
    }

    /// The function whose key this is.
    fn function(&mut self, key: [u64; 3], code_type: u64) -> Option<FoundFunction> {
        let [code, qualname, module] = key;
        if self.memory.word(code.wrapping_add(OB_TYPE))? != code_type {
            return None;
        }
        let qualname = self.string(qualname)?;
        let module = self.string(module);
        self.code(code, Some((qualname, module)))
    }

    /// A code object, by its own name or by what its function says.
    fn code(
        &mut self,
        code: u64,
        function: Option<(String, Option<String>)>,
    ) -> Option<FoundFunction> {
        let offsets = self.interpreter.offsets;
        let int = |offset: u32| {
            let word = self.memory.word(code.wrapping_add(offset.into()))?;
            Some(word as u32)
        };
        let words = |offset: Option<u32>| offset.map_or(Some(0), int);
        let frame_words = words(offsets.code_frame_words)?
            .checked_add(words(offsets.code_stack_words)?)?
            .checked_add(frame_specials(&offsets))?;
        let flags = int(offsets.code_flags)?;
        if flags & OF_FUNCTION != OF_FUNCTION {
            return None;
        }
        let is_generator = flags & MAKES_GENERATOR != 0;
        let first_line = int(offsets.code_firstlineno)?;
        let pointer = |offset: u32| self.memory.word(code.wrapping_add(offset.into()));
        let (name, file) = (pointer(offsets.code_name)?, pointer(offsets.code_filename)?);
        let file = self.string(file)?;
        let (qualname, module) = match function {
            Some(named) => named,
            None => (self.string(name)?, None),
        };
        Some(FoundFunction {
            code,
            naming: Naming {
                module,
                qualname,
                file,
            },
            first_line,
            is_generator,
            frame_bytes: frame_words.checked_mul(8)?,
        })
    }

    fn string(&mut self, address: u64) -> Option<String> {
        let (memory, layout) = (&self.memory, &self.interpreter.layout);
        let known = self.strings.entry(address);
        known
            .or_insert_with(|| string(memory, layout, address, NAME_BYTES))
            .clone()
    }
}

/// `FRAME_SPECIALS_SIZE` (Include/internal/pycore_frame.h of 3.11), in words, where the code
/// object does not count it in.
pub fn frame_specials(offsets: &Offsets) -> u32 {
    match offsets.code_stack_words {
        Some(_) => 9,
        None => 0,
    }
}

/// What of a process's private memory is there. A read elsewhere would map pages into it.
fn heap(pid: u32) -> io::Result<Vec<Range<u64>>> {
    let mappings = Mappings::read(pid)?;
    let mut runs = Vec::new();
    let mut pages = Pagemap::open(pid)?;
    pages.address_space(&mappings, &[pagemap::EVERYWHERE], |mapping, run| {
        if run.kind == PageKind::Anon && mapping.writable && !mapping.shared {
            runs.push(run.start..run.end);
        }
    })?;
    Ok(runs)
}

fn number(word: &[u8]) -> u64 {
    word.try_into().map_or(0, u64::from_ne_bytes)
}
