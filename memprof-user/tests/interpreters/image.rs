//! Memory recorded from a process: what a walk read, and nothing else.

use std::cell::RefCell;
use std::collections::BTreeMap;

use memprof_common::PythonLayout;
use memprof_user::python::layout::{Addresses, layout};
use memprof_user::python::roots::Roots;
use memprof_user::python::tls_code::TlsCode;
use memprof_user::python::versions::{Offsets, Row, row};
use memprof_user::python::{FallbackReader, code_object, debug_offsets};
use memprof_user::target::ReadMemory;
use serde::{Deserialize, Serialize};

/// A recorded process, as it is kept under tests/fixtures/.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fixture {
    /// `3.11.7`
    pub version: String,
    /// `_PyRuntime`; 0 in 3.6
    #[serde(with = "address")]
    pub runtime: u64,
    /// 3.6: `interp_head`, `autoTLSkey`, `_PyThreadState_Current`, `_Py_Finalizing`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub globals: Vec<u64>,
    /// 3.15: `_Py_tss_gilstate`, from the thread pointer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gilstate: Option<i32>,
    /// Range of the interpreter's image; 0 where the version needs none.
    #[serde(with = "address")]
    pub image_start: u64,
    #[serde(with = "address")]
    pub image_end: u64,
    pub threads: Vec<Thread>,
    pub memory: Vec<Range>,
}

/// A recorded thread.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Thread {
    #[serde(with = "address")]
    pub thread_pointer: u64,
    /// What the program itself said: `name (file:line)`, root first.
    pub frames: Vec<String>,
}

/// Neighbouring bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Range {
    #[serde(with = "address")]
    pub at: u64,
    pub hex: String,
}

/// Addresses in hexadecimal, for people who look into a fixture.
mod address {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(address: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{address:#x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        let digits = text.strip_prefix("0x").unwrap_or(&text);
        u64::from_str_radix(digits, 16).map_err(D::Error::custom)
    }
}

impl Fixture {
    pub fn row(&self) -> &'static Row {
        row(self.version.split('.').nth(1).unwrap().parse().unwrap()).unwrap()
    }

    pub fn image(&self) -> Image {
        let ranges = self.memory.iter().map(|range| {
            let bytes =
                range.hex.as_bytes().chunks(2).map(|pair| {
                    u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()
                });
            (range.at, bytes.collect())
        });
        Image {
            ranges: ranges.collect(),
        }
    }

    /// The layout by the table of versions and, from 3.13 on, by the recorded process.
    pub fn layout(&self, memory: &impl ReadMemory) -> (Offsets, PythonLayout) {
        let offsets = offsets_of(self.row(), memory, self.runtime);
        let at = Addresses {
            roots: self.roots(&offsets),
            image: (self.image_start, self.image_end),
            tls: self.tls(),
        };
        (offsets, layout(self.row(), &offsets, at).unwrap())
    }

    pub fn roots(&self, offsets: &Offsets) -> Roots {
        match self.globals[..] {
            [interpreters_head, thread_key, current, finalizing] => Roots {
                interpreters_head,
                thread_key,
                current,
                finalizing,
            },
            _ => Roots::in_runtime(offsets, self.runtime),
        }
    }

    pub fn tls(&self) -> Option<TlsCode> {
        self.gilstate.map(|gilstate| TlsCode {
            gilstate,
            // Not used: this one decides.
            tstate: gilstate,
            from_thread_pointer: true,
        })
    }
}

/// As the detection reads them.
pub fn offsets_of(row: &Row, memory: &impl ReadMemory, runtime: u64) -> Offsets {
    match row.debug_offsets {
        None => row.offsets,
        Some(_) => {
            let bytes = memory.bytes(runtime, debug_offsets::BYTES).unwrap();
            debug_offsets::offsets(row, &bytes).unwrap()
        }
    }
}

/// Recorded memory.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pub ranges: BTreeMap<u64, Vec<u8>>,
}

impl ReadMemory for Image {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let Some((start, bytes)) = self.ranges.range(..=address).next_back() else {
            return buffer.is_empty();
        };
        let skip = usize::try_from(address - start).unwrap();
        match skip
            .checked_add(buffer.len())
            .and_then(|end| bytes.get(skip..end))
        {
            Some(found) => {
                buffer.copy_from_slice(found);
                true
            }
            None => buffer.is_empty(),
        }
    }
}

/// Remembers every byte that is read through it.
pub struct Recorder<M> {
    memory: M,
    bytes: RefCell<BTreeMap<u64, u8>>,
}

impl<M: ReadMemory> Recorder<M> {
    pub fn new(memory: M) -> Self {
        Recorder {
            memory,
            bytes: RefCell::default(),
        }
    }

    pub fn ranges(&self) -> Vec<Range> {
        let mut ranges: Vec<Range> = Vec::new();
        let mut end = None;
        for (&address, byte) in self.bytes.borrow().iter() {
            let hex = format!("{byte:02x}");
            match ranges.last_mut() {
                Some(last) if end == Some(address) => last.hex.push_str(&hex),
                _ => ranges.push(Range { at: address, hex }),
            }
            end = address.checked_add(1);
        }
        ranges
    }
}

impl<M: ReadMemory> ReadMemory for Recorder<M> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let read = self.memory.read(address, buffer);
        if read {
            let bytes = buffer.iter().enumerate();
            self.bytes
                .borrow_mut()
                .extend(bytes.map(|(i, &byte)| (address + i as u64, byte)));
        }
        read
    }
}

/// Reads code objects from any memory.
pub struct CodeFrom<M>(pub M);

impl<M: ReadMemory> FallbackReader for CodeFrom<M> {
    fn code_object(
        &mut self,
        _pid: u32,
        layout: &PythonLayout,
        address: u64,
    ) -> Option<memprof_user::decode::CodeObject> {
        code_object::read(&self.0, layout, address)
    }
}
