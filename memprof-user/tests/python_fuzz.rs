//! Memory that no interpreter would leave: recorded images with flipped bytes, and processes that
//! answer every read with what would do most harm. Detection and walk end in time, within their
//! bounds, and without a panic.

mod interpreters;

use std::cell::Cell;
use std::path::Path;

use interpreters::image::{CodeFrom, Fixture, Image};
use memprof_common::walk::MAX_FRAMES;
use memprof_user::python::calibrate::{Tls, calibrate, thread_states};
use memprof_user::python::layout::{Addresses, layout};
use memprof_user::python::roots::{Roots, find_interpreters_head};
use memprof_user::python::tls_code::TlsCode;
use memprof_user::python::versions::VERSIONS;
use memprof_user::python::walk::walk;
use memprof_user::python::{FallbackReader, Symbols, code_object, debug_offsets};
use memprof_user::target::ReadMemory;
use proptest::prelude::*;

fn fixtures() -> Vec<Fixture> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let files = std::fs::read_dir(directory).unwrap();
    let paths = files.map(|entry| entry.unwrap().path());
    paths
        .map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
        .collect()
}

/// Changes a byte somewhere in all ranges together.
fn flip(image: &mut Image, mut at: usize, value: u8) {
    for bytes in image.ranges.values_mut() {
        match bytes.get_mut(at) {
            Some(byte) => {
                *byte ^= value;
                return;
            }
            None => at -= bytes.len(),
        }
    }
}

/// Everything that is done with a process's memory, with this fixture's layout.
fn look(fixture: &Fixture, memory: &Image) {
    let (offsets, layout) = fixture.layout(&fixture.image());
    let (row, roots) = (fixture.row(), fixture.roots(&offsets));
    thread_states(memory, &offsets, &roots);
    calibrate(
        memory,
        row,
        &layout,
        &offsets,
        &roots,
        Tls {
            code: fixture.tls().as_ref(),
            module: None,
        },
    );
    let head = roots.interpreters_head;
    find_interpreters_head(memory, &offsets, (head, head + 8));
    for thread in &fixture.threads {
        if let Ok(stack) = walk(&layout, thread.thread_pointer, memory) {
            assert!(stack.frames.len() <= MAX_FRAMES as usize);
            let mut symbols = Symbols::new(Some(Box::new(CodeFrom(memory.clone()))));
            symbols.frames(7, &layout, &stack.frames);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn damaged_memory_ends_the_walk(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
    ) {
        for fixture in fixtures() {
            let mut image = fixture.image();
            let total: usize = image.ranges.values().map(Vec::len).sum();
            for (place, value) in &flips {
                flip(&mut image, place.index(total), *value);
            }
            look(&fixture, &image);
        }
    }

    #[test]
    fn memory_of_another_version_ends_the_walk(
        layout_of in any::<prop::sample::Index>(),
        memory_of in any::<prop::sample::Index>(),
    ) {
        let fixtures = fixtures();
        let (of, memory) = (layout_of.get(&fixtures), memory_of.get(&fixtures).image());
        // The addresses are the memory's own, so that something is there.
        let mut fixture = of.clone();
        fixture.threads = memory_of.get(&fixtures).threads.clone();
        look(&fixture, &memory);
    }

    #[test]
    fn any_debug_offsets_are_refused_or_within_bounds(
        words in prop::collection::vec(prop_oneof![any::<u64>(), 0..70_000u64, 0..300u64], 128),
    ) {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes[..8].copy_from_slice(b"xdebugpy");
        for row in VERSIONS.iter().filter(|row| row.debug_offsets.is_some()) {
            let Some(offsets) = debug_offsets::offsets(row, &bytes) else {
                continue;
            };
            let roots = Roots::in_runtime(&offsets, u64::MAX - 1000);
            let at = Addresses { roots, image: (0, u64::MAX), tls: None };
            layout(row, &offsets, at);
        }
    }
}

/// Answers every read, with a value that depends on the address only.
struct Everywhere<F> {
    value: F,
    reads: Cell<u64>,
}

impl<F: Fn(u64) -> u64> ReadMemory for Everywhere<F> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        self.reads.set(self.reads.get() + 1);
        for (skip, byte) in (0..).zip(buffer.iter_mut()) {
            let at = address.wrapping_add(skip);
            *byte = (self.value)(at & !7).to_ne_bytes()[(at & 7) as usize];
        }
        true
    }
}

/// Reads that a look at one process may take: a thousand threads' worth of each part.
const READS: u64 = 1_000_000;

fn survive(name: &str, value: impl Fn(u64) -> u64 + Copy) {
    for row in VERSIONS {
        let memory = Everywhere {
            value,
            reads: Cell::new(0),
        };
        let roots = match row.minor {
            6 => Roots {
                interpreters_head: 0x1000,
                thread_key: 0x2000,
                current: 0x3000,
                finalizing: 0x4000,
            },
            _ => Roots::in_runtime(&row.offsets, 0x10_0000),
        };
        let code = TlsCode {
            gilstate: -40,
            tstate: -32,
            from_thread_pointer: true,
        };
        let at = Addresses {
            roots,
            image: (0, 0),
            tls: Some(code),
        };
        let layout = layout(row, &row.offsets, at).unwrap();
        thread_states(&memory, &row.offsets, &roots);
        for from_thread_pointer in [true, false] {
            let code = TlsCode {
                from_thread_pointer,
                ..code
            };
            let tls = Tls {
                code: Some(&code),
                module: Some(3),
            };
            calibrate(&memory, row, &layout, &row.offsets, &roots, tls);
        }
        find_interpreters_head(&memory, &row.offsets, (0x5000, 0x9000));
        for thread_pointer in [0, 8, 0x7fff_0000_0000, u64::MAX] {
            if let Ok(stack) = walk(&layout, thread_pointer, &memory) {
                assert!(stack.frames.len() <= MAX_FRAMES as usize, "{name}");
            }
        }
        // One code object is enough: a line table may have megabytes.
        let read = code_object::read(&memory, &layout, 0x7000_0000);
        if let Some(code) = read {
            assert!(code.linetable.len() <= 4 << 20, "{name}");
        }
        assert!(memory.reads.get() < READS, "{name}: {}", memory.reads.get());
    }
}

#[test]
fn memory_that_is_there_everywhere_ends_the_walk() {
    survive("zeroes", |_| 0);
    survive("ones", |_| u64::MAX);
    survive("one", |_| 1);
    survive("itself", |at| at);
    survive("the next word", |at| at.wrapping_add(8));
    survive("the next page", |at| at.wrapping_add(4096));
    survive("a circle", |_| 0x7000_0000);
    survive("a shorter circle", |at| at ^ 0x100);
    survive("anything", |at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    survive("something aligned", |at| {
        at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20 & !15
    });
}

/// Gives the same code object for every address.
struct Always(Option<memprof_user::decode::CodeObject>);

impl FallbackReader for Always {
    fn code_object(
        &mut self,
        _: u32,
        _: &memprof_common::PythonLayout,
        address: u64,
    ) -> Option<memprof_user::decode::CodeObject> {
        let code = self.0.clone()?;
        Some(memprof_user::decode::CodeObject { address, ..code })
    }
}

#[test]
fn any_instruction_of_a_code_object_has_a_line_or_none() {
    for fixture in fixtures() {
        let image = fixture.image();
        let (_, layout) = fixture.layout(&image);
        let stack = walk(&layout, fixture.threads[0].thread_pointer, &image).unwrap();
        let code = code_object::read(&image, &layout, stack.frames[0].code_address());
        assert!(code.is_some());
        let mut symbols = Symbols::new(Some(Box::new(Always(code))));
        for instr in [0, 1, u64::MAX, 1 << 31, u64::MAX >> 1, 0x7000_0000] {
            let mut frame = stack.frames[0];
            frame.instr = instr;
            assert_eq!(symbols.frames(7, &layout, &[frame]).len(), 1);
        }
    }
}
