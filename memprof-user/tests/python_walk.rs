//! Walks recorded images of real interpreters with the kernel side's own code, and compares each
//! frame with what the program said of itself. Needs no interpreter and no privilege.

mod interpreters;

use std::path::Path;

use interpreters::image::{CodeFrom, Fixture, Image};
use interpreters::shown;
use memprof_common::PythonLayout;
use memprof_common::layout::thread_source;
use memprof_common::records::{Header, flag};
use memprof_common::walk::{NoFrame, thread_slot};
use memprof_user::decode::CodeObject;
use memprof_user::python::calibrate::{Calibration, Tls, calibrate, thread_states};
use memprof_user::python::roots::find_interpreters_head;
use memprof_user::python::versions::{ThreadKey, VERSIONS};
use memprof_user::python::walk::{RawStack, Window, walk};
use memprof_user::python::{FallbackReader, Symbols, code_object};
use memprof_user::target::ReadMemory;

const PID: u32 = 7;

fn fixtures() -> Vec<Fixture> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let files = std::fs::read_dir(directory).unwrap();
    let paths = files.map(|entry| entry.unwrap().path());
    let fixtures = paths.filter(|path| path.extension().is_some_and(|e| e == "json"));
    fixtures
        .map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
        .collect()
}

fn symbols(image: &Image) -> Symbols {
    Symbols::new(Some(Box::new(CodeFrom(image.clone()))))
}

#[test]
fn every_version_in_the_table_has_its_fixture() {
    let fixtures = fixtures();
    for row in VERSIONS {
        assert!(
            fixtures.iter().any(|f| f.row().minor == row.minor),
            "3.{} has no fixture: record one with `cargo run -p memprof-user --example record_walk`",
            row.minor
        );
    }
}

#[test]
fn recorded_stacks_are_walked_frame_by_frame() {
    for fixture in fixtures() {
        let image = fixture.image();
        let (_, layout) = fixture.layout(&image);
        assert_eq!(fixture.threads.len(), 2);
        for thread in &fixture.threads {
            let stack = walk(&layout, thread.thread_pointer, &image).unwrap();
            assert!(!stack.truncated);
            let mut symbols = symbols(&image);
            let frames = symbols.frames(PID, &layout, &stack.frames);
            assert_eq!(
                shown(&symbols, &frames),
                thread.frames,
                "{}",
                fixture.version
            );
        }
    }
}

#[test]
fn the_recordings_hold_the_frames_that_are_not_shown() {
    for fixture in fixtures() {
        let image = fixture.image();
        let (_, layout) = fixture.layout(&image);
        let pointer = fixture.threads.iter().map(|thread| thread.thread_pointer);
        let frames: Vec<_> = pointer
            .flat_map(|pointer| walk(&layout, pointer, &image).unwrap().frames)
            .collect();
        let shims = frames.iter().filter(|frame| frame.owner() >= 3).count();
        // A shim for each time C called Python: the threads' starts, sorted's key.
        assert_eq!(shims > 2, fixture.row().minor >= 12, "{}", fixture.version);
        let in_image = layout.image_start..layout.image_end;
        let init = frames
            .iter()
            .filter(|f| in_image.contains(&f.code_address()));
        let init = init.filter(|frame| frame.owner() < 3).count();
        assert_eq!(init, usize::from(fixture.row().init_shim_in_image));
        // A generator.
        let is_generator = |frame: &&memprof_common::records::RawFrame| frame.owner() == 1;
        let has_owner = fixture.row().minor >= 11;
        assert_eq!(frames.iter().any(|f| is_generator(&f)), has_owner);
    }
}

#[test]
fn the_init_shim_is_told_by_its_name_where_the_image_is_not_known() {
    for fixture in fixtures().iter().filter(|f| f.row().init_shim_in_image) {
        let image = fixture.image();
        let (_, layout) = fixture.layout(&image);
        let blind = PythonLayout {
            image_start: 0,
            image_end: 0,
            ..layout
        };
        for thread in &fixture.threads {
            let stack = walk(&layout, thread.thread_pointer, &image).unwrap();
            let mut symbols = symbols(&image);
            let frames = symbols.frames(PID, &blind, &stack.frames);
            assert_eq!(shown(&symbols, &frames), thread.frames);
        }
    }
}

/// Calibrates the recorded process.
fn calibrated(fixture: &Fixture, image: &Image, layout: &PythonLayout) -> Calibration {
    let (offsets, _) = fixture.layout(&fixture.image());
    let roots = fixture.roots(&offsets);
    let tls = fixture.tls();
    calibrate(
        image,
        fixture.row(),
        layout,
        &offsets,
        &roots,
        Tls {
            code: tls.as_ref(),
            module: None,
        },
    )
}

#[test]
fn a_recorded_process_confirms_its_layout() {
    for fixture in fixtures() {
        let image = fixture.image();
        let (offsets, layout) = fixture.layout(&image);
        let confirmed = calibrated(&fixture, &image, &layout);
        assert_eq!(confirmed, Calibration::Confirmed, "{}", fixture.version);
        assert_eq!(
            thread_states(&image, &offsets, &fixture.roots(&offsets)).len(),
            2
        );
        let elsewhere = match fixture.row().thread_key {
            ThreadKey::Tls => continue,
            // Another C library keeps the key's values elsewhere.
            _ => PythonLayout {
                pthread_data: 0x400,
                ..layout
            },
        };
        let refuted = calibrated(&fixture, &image, &elsewhere);
        assert_eq!(refuted, Calibration::Refuted);
    }
}

#[test]
fn a_key_that_another_micro_version_keeps_nearby_is_found() {
    let of_runtime = |f: &Fixture| f.row().thread_key == ThreadKey::Tss;
    for fixture in fixtures().iter().filter(|f| of_runtime(f)) {
        let mut image = fixture.image();
        let (offsets, layout) = fixture.layout(&image);
        // 24 bytes further on, with the thread state that stands before it.
        let by = |address: u64, by: u64| match address {
            0 => 0,
            address => address - by,
        };
        let moved = PythonLayout {
            source_address: layout.source_address - 24,
            current_address: by(layout.current_address, 24),
            ..layout
        };
        let mut around = vec![0; 4096];
        let start = layout.source_address - 2048;
        let roots = fixture.roots(&offsets);
        // The window may cover what else is read of the runtime: keep it.
        for address in [
            layout.source_address,
            roots.interpreters_head,
            roots.current,
        ] {
            let Some(at) = address.checked_sub(start).filter(|&at| at < 4088) else {
                continue;
            };
            let word = image.bytes(address, 8).unwrap();
            around[at as usize..at as usize + 8].copy_from_slice(&word);
        }
        let covered = start..start + 4096;
        image.ranges.retain(|at, _| !covered.contains(at));
        image.ranges.insert(start, around);
        let found = calibrated(fixture, &image, &moved);
        assert_eq!(found, Calibration::Moved(layout), "{}", fixture.version);
    }
}

#[test]
fn a_thread_local_variable_is_found_in_the_threads() {
    let by_tls = |f: &Fixture| f.row().thread_key == ThreadKey::Tls;
    for fixture in fixtures().iter().filter(|f| by_tls(f)) {
        let image = fixture.image();
        let (_, layout) = fixture.layout(&image);
        let unknown = PythonLayout {
            thread_source: thread_source::NONE,
            source_address: 0,
            ..layout
        };
        let found = calibrated(fixture, &image, &unknown);
        assert_eq!(found, Calibration::Moved(layout), "{}", fixture.version);
    }
}

#[test]
fn the_variables_of_a_stripped_3_6_are_found() {
    for fixture in fixtures().iter().filter(|f| f.row().minor == 6) {
        let mut image = fixture.image();
        let (offsets, layout) = fixture.layout(&image);
        let roots = fixture.roots(&offsets);
        let head = roots.interpreters_head;
        let mut data = vec![0x55; 4096];
        let word = image.bytes(head, 8).unwrap();
        data[1024..1032].copy_from_slice(&word);
        image
            .ranges
            .retain(|at, _| !(head - 1024..head + 3072).contains(at));
        image.ranges.insert(head - 1024, data);
        let range = (head - 1024, head + 3072);
        assert_eq!(find_interpreters_head(&image, &offsets, range), Some(head));
        let beyond = (head + 8, head + 3072);
        assert_eq!(find_interpreters_head(&image, &offsets, beyond), None);
        // Without the key's own variable the threads tell its slot.
        let unknown = PythonLayout {
            thread_source: thread_source::NONE,
            source_address: 0,
            ..layout
        };
        let row = fixture.row();
        let found = calibrate(&image, row, &unknown, &offsets, &roots, Tls::default());
        let Calibration::Moved(found) = found else {
            panic!("{found:?}");
        };
        for thread in &fixture.threads {
            let with = |layout| walk(&layout, thread.thread_pointer, &image).unwrap();
            assert_eq!(with(found), with(layout));
        }
    }
}

#[test]
fn a_thread_without_python_is_told_from_a_failure() {
    for fixture in fixtures() {
        let mut image = fixture.image();
        let (_, layout) = fixture.layout(&image);
        let pointer = fixture.threads[0].thread_pointer;
        // A thread-local variable that was never written has no page.
        let nowhere = match fixture.row().thread_key {
            ThreadKey::Tls => NoFrame::NoThreadState,
            _ => NoFrame::Failed,
        };
        assert_eq!(walk(&layout, 0x1000, &image), Err(nowhere));
        // The slot of another thread's pointer: the thread state is not this thread's.
        let slot_offset = thread_slot(&layout, pointer, &mut Window::new(&image)).unwrap();
        let other = 0x5000_0000_u64;
        let at = other.wrapping_add(slot_offset);
        let tstate = image.bytes(pointer.wrapping_add(slot_offset), 8).unwrap();
        image.ranges.insert(at, tstate);
        assert_eq!(walk(&layout, other, &image), Err(NoFrame::NoThreadState));
        image.ranges.insert(at, vec![0; 8]);
        assert_eq!(walk(&layout, other, &image), Err(NoFrame::NoThreadState));
        let none = PythonLayout::default();
        assert_eq!(walk(&none, pointer, &image), Err(NoFrame::NoLayout));
    }
}

#[test]
fn the_generator_is_told_by_its_flag() {
    /// CO_GENERATOR (Include/cpython/code.h)
    const GENERATOR: u32 = 0x20;
    for fixture in fixtures() {
        let image = fixture.image();
        let (_, layout) = fixture.layout(&image);
        let pointer = fixture.threads.iter().map(|thread| thread.thread_pointer);
        let codes: Vec<CodeObject> = pointer
            .flat_map(|pointer| walk(&layout, pointer, &image).unwrap().frames)
            .filter_map(|frame| code_object::read(&image, &layout, frame.code_address()))
            .collect();
        assert!(codes.len() > 60);
        for code in codes {
            let name = code.name.unwrap();
            let is_generator = name.ends_with("numbers");
            assert_eq!(code.co_flags & GENERATOR != 0, is_generator, "{name}");
        }
    }
}

#[test]
fn a_stack_that_cannot_be_read_to_its_root_is_truncated() {
    for fixture in fixtures() {
        let image = fixture.image();
        let (_, layout) = fixture.layout(&image);
        for thread in &fixture.threads {
            let whole = walk(&layout, thread.thread_pointer, &image).unwrap();
            // Without one range of memory after another: the leaf side is still right.
            for &without in image.ranges.keys() {
                let mut damaged = image.clone();
                damaged.ranges.remove(&without);
                let Ok(stack) = walk(&layout, thread.thread_pointer, &damaged) else {
                    continue;
                };
                assert!(whole.frames.starts_with(&stack.frames));
                assert_eq!(stack.truncated, stack != whole);
            }
        }
    }
}

/// The code object of the leaf of the first thread, as the kernel side would send it.
fn leaf(fixture: &Fixture, image: &Image) -> (PythonLayout, RawStack, CodeObject) {
    let (_, layout) = fixture.layout(image);
    let mut stack = walk(&layout, fixture.threads[0].thread_pointer, image).unwrap();
    stack.frames.truncate(1);
    let code = code_object::read(image, &layout, stack.frames[0].code_address()).unwrap();
    let header = Header {
        pid: PID,
        ..Header::default()
    };
    (layout, stack, CodeObject { header, ..code })
}

#[test]
fn code_objects_are_inherited_replaced_and_forgotten() {
    for fixture in fixtures() {
        let image = fixture.image();
        let (layout, stack, code) = leaf(&fixture, &image);
        let want = fixture.threads[0].frames.last().unwrap().clone();
        let address = format!("<unknown code {:#x}> (:0)", code.address);
        let mut symbols = Symbols::new(None);
        let name = |symbols: &mut Symbols, pid| {
            let frames = symbols.frames(pid, &layout, &stack.frames);
            shown(symbols, &frames).remove(0)
        };
        assert_eq!(name(&mut symbols, PID), address);
        symbols.insert_code(code.clone());
        assert_eq!(name(&mut symbols, PID), want);
        assert_eq!(name(&mut symbols, PID + 1), address);
        symbols.fork(PID, PID + 1);
        assert_eq!(name(&mut symbols, PID + 1), want);
        // Another code object at the same address, in the parent only.
        symbols.insert_code(CodeObject {
            name: Some("other".into()),
            identity: code.identity + 1,
            ..code
        });
        assert!(name(&mut symbols, PID).starts_with("other ("));
        assert_eq!(name(&mut symbols, PID + 1), want);
        symbols.forget(PID + 1);
        assert_eq!(name(&mut symbols, PID + 1), address);
        // A pid that was used before, forked by a process that is not Python.
        symbols.fork(99, PID);
        assert_eq!(name(&mut symbols, PID), address);
    }
}

#[test]
fn stacks_become_indexes_of_the_profile() {
    for fixture in fixtures() {
        let image = fixture.image();
        let (_, layout) = fixture.layout(&image);
        let mut symbols = symbols(&image);
        let thread = &fixture.threads[0];
        let raw = walk(&layout, thread.thread_pointer, &image).unwrap();
        let first = symbols.stack(PID, &layout, &raw.frames, 0);
        assert_eq!(symbols.stack(PID, &layout, &raw.frames, 0), first);
        assert_ne!(
            symbols.stack(PID, &layout, &raw.frames, flag::TRUNCATED),
            first
        );
        let (functions, frames, stacks) = symbols.into_tables().into_parts();
        let stack = &stacks[first as usize];
        assert_eq!(stack.frames.len(), thread.frames.len());
        let leaf = frames[*stack.frames.last().unwrap() as usize];
        assert_eq!(functions[leaf.function as usize].name, "wait");
    }
}

#[test]
fn a_cut_line_table_is_completed_from_the_same_code_object_only() {
    for fixture in fixtures() {
        let image = fixture.image();
        let (layout, stack, whole) = leaf(&fixture, &image);
        let want = fixture.threads[0].frames.last().unwrap().clone();
        let cut = CodeObject {
            linetable: Vec::new(),
            ..whole.clone()
        };
        let name = |fallback: Option<Box<dyn FallbackReader + Send>>, code: &CodeObject| {
            let mut symbols = Symbols::new(fallback);
            symbols.insert_code(code.clone());
            let frames = symbols.frames(PID, &layout, &stack.frames);
            shown(&symbols, &frames).remove(0)
        };
        assert_eq!(name(Some(Box::new(CodeFrom(image.clone()))), &cut), want);
        let without = name(None, &cut);
        assert!(without.ends_with(":0)"), "{without}");
        let other = CodeObject {
            first_line: cut.first_line + 1,
            ..cut
        };
        let other = name(Some(Box::new(CodeFrom(image))), &other);
        assert!(other.ends_with(":0)"), "{other}");
    }
}
