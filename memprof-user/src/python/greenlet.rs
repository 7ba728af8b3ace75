//! Where greenlet's extension module keeps each thread's state, so that a stack that begins inside
//! a greenlet can be told from a thread's own.
//!
//! greenlet 2 and later has one thread-local variable, `g_thread_state_global`, that leads to the
//! thread's main greenlet and to the one that runs (src/greenlet/TThreadState.hpp). Where a module
//! with such variables stands in a thread's vector of them, the loader writes into the module's
//! global offset table. Nothing of it depends on the version of CPython.

use std::fs::File;
use std::path::Path;

use super::image::Images;
use crate::target::elf::{self, Segment};
use crate::target::{Image, Mapping, Mappings, ReadMemory};

/// How the extension module's file is named, before its suffix for the interpreter.
const FILE: &str = "_greenlet.";
/// The variable as the compiler names it: static, in no namespace, or in greenlet's.
const VARIABLE: [&str; 2] = [
    "_ZL21g_thread_state_global",
    "_ZN8greenletL21g_thread_state_globalE",
];

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Address of the word that holds the module's number, in the file's own address space.
    module_at: u64,
    /// Offset of the variable among the module's.
    offset: u32,
    segments: Vec<Segment>,
}

/// Where a process has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// `PythonLayout::greenlet_module`
    pub module: u32,
    /// `PythonLayout::greenlet_offset`
    pub offset: u32,
}

/// What a file says; None when it is not greenlet's, or not built as it is known.
pub(super) fn facts(file: File) -> Option<Facts> {
    let image = Image::open(file).ok()?;
    let variable = image.symbols(VARIABLE).into_iter().flatten().next();
    let offset = match (variable, image.thread_local_bytes()) {
        (Some(variable), bytes) if variable.address < bytes => variable.address,
        // Stripped: the compiler's own flag, of one byte, comes first, or there is none.
        (None, bytes @ (8 | 16)) => bytes - 8,
        _ => return None,
    };
    Some(Facts {
        module_at: image.thread_local_module()?,
        offset: u32::try_from(offset).ok()?,
        segments: image.segments().to_vec(),
    })
}

/// Where a process has greenlet; None when it has none, or its loader has not come so far.
pub(super) fn find(
    images: &mut Images,
    pid: u32,
    mappings: &Mappings,
    memory: &impl ReadMemory,
) -> Option<Place> {
    let mapping = mappings.iter().find(|mapping| is_greenlet(mapping))?;
    let facts = images.greenlet(pid, mapping)?;
    let base = elf::base(false, &facts.segments, mapping)?;
    let module = memory.word(base.wrapping_add(facts.module_at))?;
    Some(Place {
        module: u32::try_from(module).ok().filter(|&module| module != 0)?,
        offset: facts.offset,
    })
}

fn is_greenlet(mapping: &Mapping) -> bool {
    let name = Path::new(&mapping.path).file_name();
    mapping.executable && name.is_some_and(|name| name.to_string_lossy().starts_with(FILE))
}
