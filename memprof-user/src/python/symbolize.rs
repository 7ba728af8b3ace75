//! Raw frames → functions and lines, by the code objects that the kernel side sent.
//!
//! Code objects are kept per process and address, and outlive the process: a worker that lived
//! for 50 ms has its functions named. A forked child shares its parent's. Stacks are resolved
//! when their record arrives, before an address finds a new owner. Does no I/O; a
//! [`FallbackReader`] may look into the live process for what was cut or lost.

use std::collections::HashMap as StdHashMap;
use std::sync::Arc;

use imbl::HashMap;
use memprof_common::PythonLayout;
use memprof_common::records::{RawFrame, flag};

use super::decorator;
use super::line_table;
use super::tables::Tables;
use crate::decode::CodeObject;
use crate::model::{Frame, Function, Stack};

/// What the name and the file of the interpreter's own `__init__` shim both are
/// (`_Py_InitCleanup`, Python/specialize.c of 3.13).
const INIT_SHIM: &str = "__init__";

/// Reads a code object that the kernel side could not send whole.
pub trait FallbackReader {
    /// The code object that is at this address of the process now, if there is one.
    fn code_object(&mut self, pid: u32, layout: &PythonLayout, address: u64) -> Option<CodeObject>;
}

/// One frame of a stack, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SymbolFrame {
    /// Index of its function ([`Tables::functions`]).
    pub function: u32,
    /// Line; 0 when it is not known.
    pub line: u32,
}

/// A code object with its function's index.
#[derive(Clone, Debug)]
struct Symbol {
    code: Arc<CodeObject>,
    function: u32,
    /// It is not shown: the interpreter's own, or ours.
    is_hidden: bool,
}

/// One process's code objects by address. Cloned in O(1) at fork.
type Codes = HashMap<u64, Symbol>;

/// All code objects seen, by process.
pub struct Symbols {
    processes: StdHashMap<u32, Codes>,
    tables: Tables,
    fallback: Option<Box<dyn FallbackReader + Send>>,
}

impl Symbols {
    /// Knows nothing yet. Without a fallback, what was not sent stays unknown.
    pub fn new(fallback: Option<Box<dyn FallbackReader + Send>>) -> Self {
        Symbols {
            processes: StdHashMap::new(),
            tables: Tables::default(),
            fallback,
        }
    }

    /// Takes a code object in; it replaces an earlier one at its address.
    pub fn insert_code(&mut self, code: CodeObject) {
        let (pid, address) = (code.header.pid, code.address);
        let symbol = self.symbol(code);
        self.processes
            .entry(pid)
            .or_default()
            .insert(address, symbol);
    }

    /// The child has what its parent has.
    pub fn fork(&mut self, parent: u32, child: u32) {
        match self.processes.get(&parent).cloned() {
            Some(codes) => self.processes.insert(child, codes),
            // The pid may have been another process's.
            None => self.processes.remove(&child),
        };
    }

    /// The process executed a new program, or has gone: its addresses mean nothing more. What
    /// was resolved stays.
    pub fn forget(&mut self, pid: u32) {
        self.processes.remove(&pid);
    }

    /// Names the frames of one stack: leaf first in, root first out, without the interpreter's
    /// own shims.
    pub fn frames(
        &mut self,
        pid: u32,
        layout: &PythonLayout,
        raw: &[RawFrame],
    ) -> Vec<SymbolFrame> {
        raw.iter()
            .rev()
            .filter_map(|raw| self.frame(pid, layout, *raw))
            .collect()
    }

    /// The same, as an index into the table of stacks. `flags`: those of its record.
    pub fn stack(&mut self, pid: u32, layout: &PythonLayout, raw: &[RawFrame], flags: u32) -> u32 {
        let frames = self.frames(pid, layout, raw);
        let frames = frames
            .into_iter()
            .map(|SymbolFrame { function, line }| self.tables.frame(Frame { function, line }))
            .collect();
        self.tables.stack(Stack {
            frames,
            truncated: flags & flag::TRUNCATED != 0,
            greenlet: flags & flag::GREENLET != 0,
            native: None,
        })
    }

    /// Functions, frames and stacks so far.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The same, to add what is not Python.
    pub fn tables_mut(&mut self) -> &mut Tables {
        &mut self.tables
    }

    /// The tables, when all is done.
    pub fn into_tables(self) -> Tables {
        self.tables
    }

    /// None for a frame that is not shown.
    fn frame(&mut self, pid: u32, layout: &PythonLayout, raw: RawFrame) -> Option<SymbolFrame> {
        let address = raw.code_address();
        let is_shim = u16::from(raw.owner()) >= layout.frame_shim_owner;
        if is_shim || (layout.image_start..layout.image_end).contains(&address) {
            return None;
        }
        let Some(symbol) = self.known_or_read(pid, layout, address) else {
            return Some(self.unknown(address));
        };
        if symbol.is_hidden {
            return None;
        }
        let lasti = lasti_bytes(&symbol.code, raw.instr);
        let function = symbol.function;
        let line = match line_of(&symbol.code, lasti) {
            None if is_cut(&symbol.code) => self.line_by_fallback(pid, layout, &symbol, lasti),
            line => line,
        };
        Some(SymbolFrame {
            function,
            line: line.unwrap_or(0),
        })
    }

    fn known_or_read(&mut self, pid: u32, layout: &PythonLayout, address: u64) -> Option<Symbol> {
        if let Some(symbol) = self
            .processes
            .get(&pid)
            .and_then(|codes| codes.get(&address))
        {
            return Some(symbol.clone());
        }
        let code = self.read(pid, layout, address)?;
        let symbol = self.symbol(code);
        let codes = self.processes.entry(pid).or_default();
        codes.insert(address, symbol.clone());
        Some(symbol)
    }

    /// Completes the line table of a code object, if the process still has the same one there.
    fn line_by_fallback(
        &mut self,
        pid: u32,
        layout: &PythonLayout,
        symbol: &Symbol,
        lasti: i64,
    ) -> Option<u32> {
        let cut = &symbol.code;
        let read = self.read(pid, layout, cut.address)?;
        let is_same = read.first_line == cut.first_line
            && read.name == cut.name
            && read.linetable_len == cut.linetable_len
            && read.linetable.starts_with(&cut.linetable);
        if !is_same {
            return None;
        }
        let line = line_of(&read, lasti);
        let code = CodeObject {
            linetable: read.linetable,
            ..CodeObject::clone(cut)
        };
        let whole = Symbol {
            code: Arc::new(code),
            ..symbol.clone()
        };
        let codes = self.processes.entry(pid).or_default();
        codes.insert(cut.address, whole);
        line
    }

    fn read(&mut self, pid: u32, layout: &PythonLayout, address: u64) -> Option<CodeObject> {
        self.fallback.as_mut()?.code_object(pid, layout, address)
    }

    fn symbol(&mut self, code: CodeObject) -> Symbol {
        let shown = |text: &Option<String>, unknown: String| text.clone().unwrap_or(unknown);
        let is_init_shim = [&code.name, &code.filename]
            .iter()
            .all(|text| text.as_deref() == Some(INIT_SHIM));
        let file = code.filename.as_deref().unwrap_or_default();
        let is_ours = decorator::is_ours(file);
        let function = self.tables.function(Function {
            name: shown(&code.name, unknown_name(code.address)),
            file: shown(&code.filename, String::new()),
            first_line: u32::try_from(code.first_line).unwrap_or(0),
        });
        Symbol {
            code: Arc::new(code),
            function,
            is_hidden: is_init_shim || is_ours,
        }
    }

    /// Says honestly that nothing but the address is known.
    fn unknown(&mut self, address: u64) -> SymbolFrame {
        let function = self.tables.function(Function {
            name: unknown_name(address),
            ..Function::default()
        });
        SymbolFrame { function, line: 0 }
    }
}

fn unknown_name(address: u64) -> String {
    format!("<unknown code {address:#x}>")
}

fn is_cut(code: &CodeObject) -> bool {
    code.linetable.len() < code.linetable_len as usize
}

fn line_of(code: &CodeObject, lasti: i64) -> Option<u32> {
    line_table::line(
        code.version,
        code.first_line,
        &code.linetable,
        is_cut(code),
        lasti,
    )
}

/// The instruction as an offset in bytes into the byte code.
fn lasti_bytes(code: &CodeObject, instr: u64) -> i64 {
    match code.version {
        // prev_instr / instr_ptr: an address inside the code object
        0x030b.. => {
            let start = code.address.wrapping_add(code.code_adaptive.into());
            instr.wrapping_sub(start) as i64
        }
        // f_lasti counts code units in 3.10, and bytes before; it is a signed int.
        0x030a => i64::from(instr as u32 as i32) * 2,
        _ => i64::from(instr as u32 as i32),
    }
}
