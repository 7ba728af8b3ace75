//! Records what the walk reads of the interpreters of this machine, for the tests that need no
//! interpreter: `cargo run -p memprof-user --example record_walk` writes tests/fixtures/.
//!
//! Nothing else gets into a fixture: only the bytes that were read, and what the program said of
//! itself.

#[path = "../tests/interpreters/mod.rs"]
mod interpreters;

use std::path::Path;

use interpreters::image::{Fixture, Recorder, Thread, layout_by_table};
use interpreters::{Program, Truth};
use memprof_user::python::walk::walk;
use memprof_user::python::{Detection, Detector, Interpreter, code_object};
use memprof_user::target::{ProcessMemory, Target};

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
    let minor = (interpreter.layout.version & 0xff) as u8;
    let row = memprof_user::python::versions::row(minor).unwrap();
    let image = (interpreter.layout.image_start, interpreter.layout.image_end);
    let (_, layout) = layout_by_table(row, &memory, interpreter.runtime, image);
    assert_eq!(layout, interpreter.layout);
    interpreter.threads(&memory);
    for truth in truths {
        let stack = walk(&layout, truth.thread_id, &memory).unwrap();
        for frame in stack.frames {
            // The shims of 3.13 have no code object.
            let _ = code_object::read(&memory, &layout, frame.code_address());
        }
    }
    Fixture {
        version: interpreter.version.clone(),
        runtime: interpreter.runtime,
        image_start: image.0,
        image_end: image.1,
        threads: truths
            .iter()
            .map(|truth| Thread {
                thread_pointer: truth.thread_id,
                frames: truth.rooted(),
            })
            .collect(),
        memory: memory.ranges(),
    }
}
