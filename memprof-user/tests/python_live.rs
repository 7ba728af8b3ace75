//! Detects and walks the real interpreters of this machine from outside, while they wait.

mod interpreters;

use std::path::{Path, PathBuf};
use std::process::Command;

use interpreters::{Program, Truth, missing, python2, supported};
use memprof_user::python::walk::walk;
use memprof_user::python::{Detection, Detector, Interpreter, LiveCode, Symbols};
use memprof_user::target::{ProcessMemory, ReadMemory, Target};

fn detect(pid: u32) -> Detection {
    let target = Target::open(pid).unwrap();
    Detector::new().detect(&target).unwrap()
}

fn python(pid: u32) -> Interpreter {
    match detect(pid) {
        Detection::Python(interpreter) => *interpreter,
        other => panic!("{other:?}"),
    }
}

/// Walks the thread and names its frames, root first.
fn walked(pid: u32, found: &Interpreter, thread_pointer: u64) -> Vec<String> {
    let stack = walk(&found.layout, thread_pointer, &ProcessMemory::new(pid)).unwrap();
    assert!(!stack.truncated);
    let mut symbols = Symbols::new(Some(Box::new(LiveCode)));
    let frames = symbols.frames(pid, &found.layout, &stack.frames);
    interpreters::shown(&symbols, &frames)
}

fn assert_walks(program: &Program, truths: &[Truth], found: &Interpreter) {
    let threads = found.threads(&ProcessMemory::new(program.pid()));
    assert_eq!(threads.len(), truths.len());
    for truth in truths {
        assert!(threads.iter().any(|t| t.thread_id == truth.thread_id));
        let walked = walked(program.pid(), found, truth.thread_id);
        assert_eq!(walked, truth.rooted(), "{}", found.version);
    }
}

#[test]
fn every_supported_interpreter_is_detected_and_walked() {
    for found in supported() {
        for depth in [5, 60, 900] {
            let (program, truths) = Program::deep(&found.path, depth);
            let interpreter = python(program.pid());
            assert!(interpreter.version.starts_with(&found.version));
            assert!(interpreter.is_confirmed);
            // What its files say before it is started is what its process shows.
            let known = Detector::new().of_program(&found.path);
            let (known, version) = known.expect("known by its files");
            let running = interpreter.known.as_ref().expect("known as it runs");
            assert_eq!(
                (known.key, known.image),
                (running.key, running.image),
                "{}",
                found.path.display()
            );
            assert_eq!(version, interpreter.version);
            assert!(truths.iter().any(|t| t.chain.len() > depth as usize));
            assert_walks(&program, &truths, &interpreter);
        }
    }
}

#[test]
fn a_version_outside_the_table_is_named() {
    let Some(python) = python2() else {
        return missing("CPython 2.7");
    };
    let code = "import sys; print(1); sys.stdout.flush(); sys.stdin.read()";
    let mut program = Program::start(Command::new(python).args(["-c", code]));
    program.line();
    match detect(program.pid()) {
        Detection::Unsupported { version, why } => {
            assert!(version.starts_with("2.7"), "{version}");
            assert!(why.contains("3.6") && why.contains("3.15"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_python_is_told() {
    let program = Program::start(&mut Command::new("cat"));
    assert!(matches!(detect(program.pid()), Detection::NotPython));
    let pid = program.pid();
    let target = Target::open(pid).unwrap();
    drop(program);
    assert!(Detector::new().detect(&target).is_err());
}

#[test]
fn a_program_started_by_its_loader_is_found_among_the_mappings() {
    for found in supported() {
        let loader = loader(&found.path);
        let mut command = Command::new(&loader);
        command.arg(std::fs::canonicalize(&found.path).unwrap());
        command.env("PYTHONHOME", home(&found.path));
        let (program, truths) = Program::deep_as(command, 5);
        let exe = Target::open(program.pid()).unwrap().exe().unwrap();
        assert_eq!(exe, std::fs::canonicalize(&loader).unwrap());
        assert_walks(&program, &truths, &python(program.pid()));
    }
}

#[test]
fn a_deleted_program_is_read_all_the_same() {
    for found in supported() {
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("a name (with) blanks");
        std::fs::copy(&found.path, &copy).unwrap();
        let mut command = Command::new(&copy);
        command.env("PYTHONHOME", home(&found.path));
        let (program, truths) = Program::deep_as(command, 5);
        drop(directory);
        assert!(!copy.exists());
        assert_walks(&program, &truths, &python(program.pid()));
    }
}

/// The interpreter's prefix.
fn home(python: &Path) -> PathBuf {
    let python = std::fs::canonicalize(python).unwrap();
    let bin = python.parent().unwrap();
    bin.parent().unwrap().to_path_buf()
}

/// The loader that a program names (PT_INTERP).
fn loader(program: &Path) -> PathBuf {
    const PT_INTERP: u64 = 3;
    let file = std::fs::read(program).unwrap();
    let number = |at: usize, bytes: usize| {
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(&file[at..at + bytes]);
        usize::try_from(u64::from_le_bytes(number)).unwrap()
    };
    // Elf64_Ehdr: e_phoff, e_phentsize, e_phnum; Elf64_Phdr: p_type, p_offset, p_filesz.
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let mut headers = (0..count).map(|i| table + i * size);
    let header = headers
        .find(|&at| number(at, 4) as u64 == PT_INTERP)
        .unwrap();
    let (start, bytes) = (number(header + 8, 8), number(header + 32, 8));
    let name = std::str::from_utf8(&file[start..start + bytes - 1]).unwrap();
    PathBuf::from(name)
}

/// A program that embeds the interpreter, waits for a byte, and then runs it. When it names
/// `_PyRuntime` and is not position-independent, it holds the runtime itself (COPY relocation).
fn embedding(found: &interpreters::Found, directory: &Path, own_runtime: bool) -> PathBuf {
    let source = directory.join("embed.c");
    let program = directory.join("embed");
    let touch = match own_runtime {
        true => "extern char _PyRuntime[]; char touch(void) { return _PyRuntime[0]; }",
        false => "",
    };
    std::fs::write(
        &source,
        format!(
            "#include <unistd.h>\n{touch}\nint Py_BytesMain(int, char **);\n\
             int main(int c, char **v) {{ char b; write(1, \"\\n\", 1); read(0, &b, 1);\n\
             return Py_BytesMain(c, v); }}\n"
        ),
    )
    .unwrap();
    let library = home(&found.path).join("lib");
    let kind: &[&str] = match own_runtime {
        true => &["-no-pie", "-fno-pie"],
        false => &["-pie", "-fpie"],
    };
    let built = Command::new("cc")
        .args(kind)
        .arg("-w")
        .args([source.as_os_str(), "-o".as_ref(), program.as_os_str()])
        .arg(format!("-L{}", library.display()))
        .arg(format!("-Wl,-rpath,{}", library.display()))
        .arg(format!("-lpython3.{}", found.minor()))
        .status();
    assert!(built.is_ok_and(|status| status.success()), "cc failed");
    program
}

#[test]
fn a_layout_is_complete_before_the_interpreter_runs() {
    let library = |found: &interpreters::Found| {
        let name = format!("lib/libpython3.{}.so", found.minor());
        home(&found.path).join(name).exists()
    };
    let shared: Vec<_> = supported().into_iter().filter(library).collect();
    if shared.is_empty() || Command::new("cc").arg("--version").output().is_err() {
        missing("a shared libpython, or a C compiler");
        return;
    }
    for found in shared {
        for own_runtime in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let mut command = Command::new(embedding(&found, directory.path(), own_runtime));
            command.env("PYTHONHOME", home(&found.path));
            command.args(["-S", "-c", interpreters::RUN_DEEP, interpreters::DEEP, "5"]);
            let mut program = Program::start(&mut command);
            program.line();
            let before = python(program.pid());
            assert!(!before.is_confirmed && before.is_shared);
            program.go();
            let truths: Vec<Truth> = (0..2)
                .map(|_| serde_json::from_str(&program.line()).unwrap())
                .collect();
            truths
                .iter()
                .for_each(|truth| program.await_read(truth.tid));
            let after = python(program.pid());
            assert!(after.is_confirmed);
            assert_eq!(before.layout, after.layout);
            // The runtime is in the program (below the libraries) exactly when it has a copy.
            assert_eq!(after.roots.interpreters_head < 0x1_0000_0000, own_runtime);
            assert_walks(&program, &truths, &before);
        }
    }
}

#[test]
fn shutting_down_shows_in_the_runtime() {
    let text = "
import os, sys
class Last:
    def __del__(self, write=os.write, read=os.read):
        write(1, b'deleted\\n'); read(0, 1)
sys.last = Last()
os.write(1, b'running\\n'); os.read(0, 1)
";
    for found in supported() {
        let mut program = Program::start(Command::new(&found.path).args(["-S", "-c", text]));
        assert_eq!(program.line(), "running\n");
        let pid = program.pid();
        program.await_read(pid);
        let memory = ProcessMemory::new(pid);
        let interpreter = python(pid);
        let finalizing = || memory.word(interpreter.layout.finalizing_address).unwrap();
        assert_eq!(finalizing(), 0, "{}", interpreter.version);
        program.go();
        assert_eq!(program.line(), "deleted\n");
        program.await_read(pid);
        let threads = interpreter.threads(&memory);
        assert_eq!(finalizing(), threads[0].address, "{}", interpreter.version);
    }
}

#[test]
fn threads_of_every_interpreter_are_listed() {
    let text = r#"
wait = "import os; os.write(1, b'sub\\n'); os.read(0, 1)"
try:
    import _interpreters as interpreters
    interpreters.exec(interpreters.create(), wait)
except ImportError:
    try:
        import _xxsubinterpreters as interpreters
        interpreters.run_string(interpreters.create(), wait)
    except ImportError: # 3.7 and older
        import _testcapi
        _testcapi.run_in_subinterp(wait)
"#;
    for found in supported() {
        let mut program = Program::start(Command::new(&found.path).args(["-S", "-c", text]));
        assert_eq!(program.line(), "sub\n");
        program.await_read(program.pid());
        let interpreter = python(program.pid());
        let threads = interpreter.threads(&ProcessMemory::new(program.pid()));
        // One thread, with a state in each of the two interpreters.
        assert_eq!(threads.len(), 2, "{}", interpreter.version);
        assert_ne!(threads[0].address, threads[1].address);
        assert_eq!(threads[0].thread_id, threads[1].thread_id);
    }
}

#[test]
fn a_file_is_read_once_for_all_workers() {
    let mut detector = Detector::new();
    for (files, found) in supported().iter().enumerate() {
        for _ in 0..2 {
            let (program, _) = Program::deep(&found.path, 5);
            let target = Target::open(program.pid()).unwrap();
            let detection = detector.detect(&target).unwrap();
            assert!(matches!(detection, Detection::Python(_)));
        }
        // A shared interpreter is a program and a library.
        assert!(detector.files_read() > files && detector.files_read() <= 2 * (files + 1));
    }
    let read = detector.files_read();
    for found in supported() {
        let (program, _) = Program::deep(&found.path, 5);
        detector
            .detect(&Target::open(program.pid()).unwrap())
            .unwrap();
    }
    assert_eq!(detector.files_read(), read);
}
