//! Records what the walk reads of the interpreters of this machine, for the tests that need no
//! interpreter: `cargo run -p memprof-user --example record_walk` writes tests/fixtures/.
//!
//! Nothing else gets into a fixture: only the bytes that were read, and what the program said of
//! itself.

#[path = "../tests/interpreters/mod.rs"]
mod interpreters;

use std::path::Path;

use interpreters::image::{Fixture, Recorder, Thread};
use interpreters::{Program, Truth};
use memprof_common::layout::thread_source;
use memprof_user::python::roots::find_interpreters_head;
use memprof_user::python::walk::walk;
use memprof_user::python::{Detection, Detector, Interpreter, code_object};
use memprof_user::target::{ProcessMemory, ReadMemory, Target};

/// Deep enough for two pages of the datastack.
const DEPTH: u32 = 60;

fn main() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for found in interpreters::supported() {
        let (program, truths) = Program::deep(&found.path, DEPTH);
        let target = Target::open(program.pid()).unwrap();
        let Ok(Detection::Python(interpreter)) = Detector::new().detect(&target) else {
            panic!("{} is not detected", found.path.display());
        };
        let kind = match interpreter.is_shared {
            true => "shared",
            false => "static",
        };
        let fixture = record(program.pid(), &interpreter, &truths);
        let path = directory.join(format!("{}-{kind}.json", fixture.version));
        let mut text = serde_json::to_string_pretty(&fixture).unwrap();
        text.push('\n');
        std::fs::write(&path, text).unwrap();
        println!("{}", path.display());
    }
}

fn record(pid: u32, interpreter: &Interpreter, truths: &[Truth]) -> Fixture {
    let memory = Recorder::new(ProcessMemory::new(pid));
    let layout = interpreter.layout;
    let roots = &interpreter.roots;
    let globals = match interpreter.runtime {
        Some(_) => Vec::new(),
        None => vec![
            roots.interpreters_head,
            roots.thread_key,
            roots.current,
            roots.finalizing,
        ],
    };
    let by_tls = layout.thread_source == thread_source::TLS_OFFSET;
    let mut fixture = Fixture {
        version: interpreter.version.clone(),
        runtime: interpreter.runtime.unwrap_or(0),
        globals,
        gilstate: by_tls.then_some(layout.source_address as i32),
        image_start: layout.image_start,
        image_end: layout.image_end,
        threads: truths
            .iter()
            .map(|truth| Thread {
                thread_pointer: truth.thread_id,
                frames: truth.rooted(),
            })
            .collect(),
        memory: Vec::new(),
    };
    let (_, recorded) = fixture.layout(&memory);
    assert_eq!(recorded, layout);
    interpreter.threads(&memory);
    // What a stripped 3.6 is told by, and what is below the thread pointers of 3.15.
    let head = (roots.interpreters_head, roots.interpreters_head + 8);
    find_interpreters_head(&memory, &interpreter.offsets, head);
    for truth in truths {
        if by_tls {
            memory.bytes(truth.thread_id - 256, 256);
        }
        let stack = walk(&layout, truth.thread_id, &memory).unwrap();
        for frame in stack.frames {
            // The shims of 3.13 have no code object.
            let _ = code_object::read(&memory, &layout, frame.code_address());
        }
    }
    fixture.memory = memory.ranges();
    fixture
}
