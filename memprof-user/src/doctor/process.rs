//! One process: where its interpreter was found, how its threads lead to their frames, and what
//! would not work.

use std::io::ErrorKind;

use memprof_common::layout::thread_source;
use memprof_common::walk::thread_state;

use super::Check;
use crate::error::{Error, Exit};
use crate::python::walk::Window;
use crate::python::{Detection, Detector, Interpreter, supported_versions};
use crate::target::{ProcessMemory, ReadMemory, Target};

/// What can be said of a process's Python.
pub fn process(target: &Target) -> Vec<Check> {
    let pid = target.pid;
    let refuse = |error: Error| vec![Check::bad("interpreter", error)];
    match Detector::new().detect(target) {
        Ok(Detection::Python(interpreter)) => python(target, &interpreter),
        Ok(Detection::Unsupported { version, why }) => refuse(
            Error::failed(
                format!("CPython {version} is not supported"),
                why,
                format!("use CPython {}", supported_versions()),
            )
            .with_exit(Exit::Unsupported),
        ),
        Ok(Detection::NotYet) => refuse(
            Error::failed(
                "its interpreter is not set up yet",
                "no thread of it has a Python thread state",
                format!("look again: memprof-ebpf doctor -p {pid}"),
            )
            .with_exit(Exit::Unsupported),
        ),
        Ok(Detection::NotPython) => refuse(
            Error::failed(
                "it is not Python",
                "no program or library that it has mapped holds a CPython",
                "find the pid: pgrep -af python",
            )
            .with_exit(Exit::Unsupported),
        ),
        Err(error) => refuse(match error.kind() {
            ErrorKind::PermissionDenied => Error::failed(
                "it cannot be looked into",
                error,
                format!("sudo memprof-ebpf doctor -p {pid}"),
            )
            .with_exit(Exit::Privilege),
            _ => Error::failed("it has gone", error, "find the pid: pgrep -af python"),
        }),
    }
}

fn python(target: &Target, interpreter: &Interpreter) -> Vec<Check> {
    let memory = ProcessMemory::new(target.pid);
    let minor = interpreter.layout.version & 0xff;
    let names = match minor {
        11.. => "qualified (Class.method)",
        _ => "plain: code objects have no qualified names before 3.11",
    };
    let lifetimes = match (interpreter.layout.code_generation, minor) {
        (1.., 13) => "told by the interpreter's own count of those that were made",
        (1.., _) => "told by the interpreter's own count of those that died",
        _ => "told by looking at them: the innermost each time, the others now and then",
    };
    let mut checks = vec![
        Check::good("interpreter", format!("CPython {}", interpreter.version)),
        Check::good("found in", place(target, interpreter)),
        Check::good("offsets", offsets(minor)),
        thread_states(&memory, interpreter),
        Check::good("names", names),
        Check::good("code objects", lifetimes),
    ];
    if interpreter.layout.current_address != 0 {
        let found = "a thread's frames in one are seen while it holds the GIL, else its caller's";
        checks.push(Check::good("sub-interpreters", found));
    }
    checks
}

/// File, kind of build, and whether the file is still there.
fn place(target: &Target, interpreter: &Interpreter) -> String {
    let kind = match (interpreter.is_shared, interpreter.is_fixed) {
        (true, _) => "a shared library",
        (false, true) => "the program, at fixed addresses",
        (false, false) => "the program, position-independent",
    };
    let deleted = match interpreter.is_deleted {
        true => ", deleted from disk meanwhile",
        false => "",
    };
    let exe = target.exe().ok();
    let through = match exe.filter(|exe| !interpreter.is_shared && *exe != interpreter.path) {
        Some(exe) if !interpreter.is_deleted => format!(", started through {}", exe.display()),
        _ => String::new(),
    };
    format!("{} ({kind}{deleted}{through})", interpreter.path.display())
}

fn offsets(minor: u32) -> String {
    match minor {
        13.. => "from the process's own _Py_DebugOffsets".to_owned(),
        _ => format!("from the table of versions, row 3.{minor}"),
    }
}

/// How each thread's state is found, and by how many it is proved.
fn thread_states(memory: &impl ReadMemory, interpreter: &Interpreter) -> Check {
    let layout = &interpreter.layout;
    let how = match layout.thread_source {
        thread_source::TLS_MODULE => {
            "a thread-local variable of a library that was opened at run time".to_owned()
        }
        thread_source::TLS_OFFSET => format!(
            "a thread-local variable at {} from the thread pointer",
            layout.source_address as i64
        ),
        _ => format!("the pthread key kept at {:#x}", layout.source_address),
    };
    let threads = interpreter.threads(memory);
    let leads_there = |thread: &&crate::python::calibrate::ThreadState| {
        let mut window = Window::new(memory);
        thread_state(layout, thread.thread_id, &mut window) == Ok(thread.address)
    };
    let proved = threads.iter().filter(leads_there).count();
    let what = "thread states";
    match interpreter.is_confirmed {
        true => Check::good(
            what,
            format!("{how}; proved by {proved} of {}", threads.len()),
        ),
        false => Check::good(
            what,
            format!("{how}; nothing proves it before it has begun"),
        ),
    }
}
