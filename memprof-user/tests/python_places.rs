//! Interpreters in unusual places: replaced on disk, stripped, in a virtual environment, in
//! another root and pid namespace, of a version never seen, and what only pretends to be one.

mod interpreters;

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use interpreters::{DEEP, Found, Program, RUN_DEEP, Truth, missing, supported};
use memprof_user::python::walk::walk;
use memprof_user::python::{Detection, Detector, Interpreter, LiveCode, Symbols};
use memprof_user::target::{ProcessMemory, Target, children};

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

fn assert_walks(pid: u32, truths: &[Truth], found: &Interpreter) {
    for truth in truths {
        let stack = walk(&found.layout, truth.thread_id, &ProcessMemory::new(pid)).unwrap();
        assert!(!stack.truncated);
        let mut symbols = Symbols::new(Some(Box::new(LiveCode)));
        let frames = symbols.frames(pid, &found.layout, &stack.frames);
        let walked = interpreters::shown(&symbols, &frames);
        assert_eq!(walked, truth.rooted(), "{}", found.version);
    }
}

/// The program itself, and its prefix.
fn real(found: &Found) -> (PathBuf, PathBuf) {
    let program = std::fs::canonicalize(&found.path).unwrap();
    let prefix = program.parent().unwrap().parent().unwrap().to_path_buf();
    (program, prefix)
}

fn is_there(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

#[test]
fn a_library_replaced_on_disk_is_read_as_it_runs() {
    let mut shared = 0;
    for found in supported() {
        let (_, prefix) = real(&found);
        let Some(library) = library(&prefix, found.minor()) else {
            continue;
        };
        shared += 1;
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join(library.file_name().unwrap());
        std::fs::copy(&library, &copy).unwrap();
        let mut command = Command::new(&found.path);
        command.env("LD_LIBRARY_PATH", directory.path());
        let (program, truths) = Program::deep_as(command, 5);
        // As an upgrade does it: another file under the same name.
        let new = directory.path().join("new");
        std::fs::write(&new, "something else").unwrap();
        std::fs::rename(&new, &copy).unwrap();
        let interpreter = python(program.pid());
        assert!(interpreter.is_deleted && interpreter.is_shared);
        assert_walks(program.pid(), &truths, &interpreter);
    }
    if shared == 0 {
        missing("a shared libpython");
    }
}

/// libpython3.N.so.1.0, or libpython3.Nm.so.1.0.
fn library(prefix: &Path, minor: u8) -> Option<PathBuf> {
    ["", "m"]
        .map(|flags| prefix.join(format!("lib/libpython3.{minor}{flags}.so.1.0")))
        .into_iter()
        .find(|path| path.exists())
}

#[test]
fn a_stripped_build_is_walked() {
    if !is_there("strip") {
        missing("strip");
        return;
    }
    for found in supported() {
        let (program, prefix) = real(&found);
        // Debian's static ones are stripped as they come.
        let Some(library) = library(&prefix, found.minor()) else {
            continue;
        };
        let directory = tempfile::tempdir().unwrap();
        let strip = |file: &Path| {
            let to = directory.path().join(file.file_name().unwrap());
            let stripped = Command::new("strip").arg(file).arg("-o").arg(&to).status();
            assert!(stripped.unwrap().success());
            to
        };
        let mut command = Command::new(strip(&program));
        strip(&library);
        command.env("PYTHONHOME", &prefix);
        command.env("LD_LIBRARY_PATH", directory.path());
        let (program, truths) = Program::deep_as(command, 5);
        let interpreter = python(program.pid());
        assert!(interpreter.path.starts_with(directory.path()));
        assert_walks(program.pid(), &truths, &interpreter);
    }
}

#[test]
fn what_a_file_is_called_does_not_matter() {
    for found in supported() {
        let (program, prefix) = real(&found);
        let other = match found.minor() {
            6 => 7,
            _ => 6,
        };
        let directory = tempfile::tempdir().unwrap();
        let library = library(&prefix, found.minor());
        let names = match library {
            Some(_) => ["plugin.so".to_owned(), format!("libpython3.{other}.so.1.0")],
            None => ["my.solver".to_owned(), format!("python3.{other}")],
        };
        for name in names {
            let renamed = directory.path().join(name);
            std::fs::copy(library.as_ref().unwrap_or(&program), &renamed).unwrap();
            let mut command = match &library {
                Some(library) => {
                    let needed = directory.path().join(library.file_name().unwrap());
                    let _ = std::fs::remove_file(&needed);
                    symlink(&renamed, needed).unwrap();
                    Command::new(&program)
                }
                None => Command::new(&renamed),
            };
            command.env("PYTHONHOME", &prefix);
            command.env("LD_LIBRARY_PATH", directory.path());
            let (program, truths) = Program::deep_as(command, 5);
            let interpreter = python(program.pid());
            assert_eq!(interpreter.path, renamed);
            assert_eq!(interpreter.layout.version & 0xff, u32::from(found.minor()));
            assert_walks(program.pid(), &truths, &interpreter);
        }
    }
}

/// The kernel side knows an interpreter by its inode. ext4 gives the number of a file that has been
/// removed to the next one.
#[test]
fn no_other_file_has_the_inode_of_a_known_interpreter() {
    let is_static = |found: &Found| library(&real(found).1, found.minor()).is_none();
    let Some(found) = supported().into_iter().find(is_static) else {
        missing("a static interpreter");
        return;
    };
    let (original, prefix) = real(&found);
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("python");
    std::fs::copy(original, &copy).unwrap();
    let mut command = Command::new(&copy);
    command.env("PYTHONHOME", prefix);
    let (program, _) = Program::deep_as(command, 5);
    let interpreter = python(program.pid());
    let known = interpreter.known.as_ref().expect("known by its file");
    assert_eq!(known.key.inode, std::fs::metadata(&copy).unwrap().ino());
    drop(program);
    std::fs::remove_file(&copy).unwrap();
    for number in 0..64 {
        let next = directory.path().join(number.to_string());
        std::fs::write(&next, "another").unwrap();
        let inode = std::fs::metadata(next).unwrap().ino();
        assert_ne!(inode, known.key.inode);
    }
}

#[test]
fn a_virtual_environment_is_the_interpreter_it_links_to() {
    for found in supported() {
        let directory = tempfile::tempdir().unwrap();
        let bin = directory.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        // As `venv` makes them: links, of which one leads to the other.
        symlink(&found.path, bin.join("python3")).unwrap();
        symlink("python3", bin.join("python")).unwrap();
        let home = real(&found).0.parent().unwrap().display().to_string();
        std::fs::write(
            directory.path().join("pyvenv.cfg"),
            format!("home = {home}\n"),
        )
        .unwrap();
        let (program, truths) = Program::deep(&bin.join("python"), 5);
        assert_walks(program.pid(), &truths, &python(program.pid()));
        let known = Detector::new().of_program(&bin.join("python"));
        assert_eq!(known.is_some(), python(program.pid()).known.is_some());
    }
}

/// Needs root; the unpacked release of the newest interpreters is the other root.
#[test]
fn another_root_and_pid_namespace_are_looked_into() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/interpreters/sid/root");
    let is_root = Command::new("unshare")
        .args(["--pid", "--fork", "true"])
        .output();
    if !root.exists() || !is_root.is_ok_and(|output| output.status.success()) {
        missing("an unpacked release, or root");
        return;
    }
    let root = std::fs::canonicalize(root).unwrap();
    for minor in [13, 14, 15] {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--mount", "--fork", "--kill-child", "chroot"]);
        command.arg(&root).args([
            "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
            "--library-path",
            "/usr/lib/x86_64-linux-gnu",
        ]);
        command.arg(format!("/usr/bin/python3.{minor}"));
        command.args(["-S", "-c", RUN_DEEP, DEEP, "5"]);
        let mut program = Program::start(&mut command);
        let truths: Vec<Truth> = (0..2)
            .map(|_| serde_json::from_str(&program.line()).unwrap())
            .collect();
        let inside = children(program.pid());
        let [inside] = inside[..] else {
            panic!("{inside:?}");
        };
        for tid in Target::open(inside).unwrap().threads().unwrap() {
            interpreters::await_read_of(inside, tid);
        }
        let interpreter = python(inside);
        // As the process sees it; on our side there is no such file.
        assert_eq!(
            interpreter.path,
            root.join(format!("usr/bin/python3.{minor}"))
        );
        assert_walks(inside, &truths, &interpreter);
    }
}

/// Copies a static program and changes its `Py_Version` (0xMMmmpprs).
fn of_version(found: &Found, hex: u32, directory: &Path) -> PathBuf {
    let (program, _) = real(found);
    let file = std::fs::File::open(&program).unwrap();
    let image = memprof_user::target::Image::open(file).unwrap();
    let [version] = image.exported(["Py_Version"]);
    let address = version.expect("3.11 and later have it").address;
    let segments = image.segments().iter();
    let offset = segments
        .filter(|s| s.address <= address && address < s.address + s.file_bytes)
        .map(|s| s.offset + (address - s.address))
        .next();
    let at = usize::try_from(offset.unwrap()).unwrap();
    let mut bytes = std::fs::read(&program).unwrap();
    bytes[at..at + 4].copy_from_slice(&hex.to_le_bytes());
    let copy = directory.join("python");
    std::fs::write(&copy, bytes).unwrap();
    std::fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    copy
}

#[test]
fn a_micro_version_never_seen_is_walked_and_another_minor_version_is_refused() {
    let statics = supported()
        .into_iter()
        .filter(|found| found.minor() >= 11 && library(&real(found).1, found.minor()).is_none());
    let statics: Vec<Found> = statics.collect();
    if statics.is_empty() {
        missing("a static interpreter");
    }
    for found in statics {
        let minor = u32::from(found.minor());
        let (_, prefix) = real(&found);
        let run = |hex: u32| {
            let directory = tempfile::tempdir().unwrap();
            let copy = of_version(&found, hex, directory.path());
            let mut command = Command::new(&copy);
            command.env("PYTHONHOME", &prefix);
            let (program, truths) = Program::deep_as(command, 5);
            (program, truths, directory)
        };
        let (program, truths, _directory) = run(0x0300_63f0 | minor << 16);
        let interpreter = python(program.pid());
        assert_eq!(interpreter.version, format!("3.{minor}.99"));
        assert_walks(program.pid(), &truths, &interpreter);
        // What says that it is another one: never guessed.
        for (other, release) in [(16, 0xf0), (5, 0xf0), (minor ^ 1, 0xf0), (minor, 0xb1)] {
            let (program, ..) = run(0x0300_0000 | other << 16 | release);
            match detect(program.pid()) {
                Detection::Unsupported { why, .. } => assert!(!why.is_empty()),
                other => panic!("{}: {other:?}", found.version),
            }
        }
    }
}

#[test]
fn what_pretends_to_be_python_is_refused_in_time() {
    if !is_there("cc") {
        missing("a C compiler");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (number, garbage) in ["0xff", "0x41", "1", "(char)(i * 37)"].iter().enumerate() {
        for hex in ["0x03090cf0", "0x030b07f0", "0x030d00f0", "0x030f02f0"] {
            let source = directory.path().join("pretend.c");
            let program = directory.path().join(format!("python{number}{hex}"));
            // A list of interpreters that leads to itself, in a sea of garbage.
            let text = format!(
                "#include <unistd.h>\n#include <string.h>\n\
                 char _PyRuntime[1 << 19] __attribute__((aligned(64))) = {{1}};\n\
                 const unsigned Py_Version = {hex}; char PyCode_Type[512];\n\
                 void *PyEval_EvalCode(void) {{ return _PyRuntime; }}\n\
                 int main(void) {{ char b; int i;\n\
                 for (i = 0; i < sizeof _PyRuntime; i++) _PyRuntime[i] = {garbage};\n\
                 if (GARBAGE_HEAD) for (i = 0; i < 4096; i += 8) {{ void *p = _PyRuntime; memcpy(_PyRuntime + i, &p, 8); }}\n\
                 memcpy(_PyRuntime, \"xdebugpy\", 8); memcpy(_PyRuntime + 8, &Py_Version, 4);\n\
                 memset(_PyRuntime + 12, 0, 12);\n\
                 write(1, \"ready\\n\", 6); read(0, &b, 1); return PyEval_EvalCode() == 0; }}\n"
            );
            std::fs::write(&source, text).unwrap();
            for head in ["0", "1"] {
                let built = Command::new("cc")
                    .args(["-w", "-rdynamic", &format!("-DGARBAGE_HEAD={head}")])
                    .args([source.as_os_str(), "-o".as_ref(), program.as_os_str()])
                    .status();
                assert!(built.unwrap().success());
                let mut running = Program::start(&mut Command::new(&program));
                assert_eq!(running.line(), "ready\n");
                let began = Instant::now();
                match detect(running.pid()) {
                    Detection::Python(found) if found.is_confirmed => panic!("{found:?}"),
                    _ => {}
                }
                assert!(began.elapsed() < Duration::from_secs(5));
            }
        }
    }
}
