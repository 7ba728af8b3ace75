//! What this machine has: the binary under test, interpreters, the venv, the browser.
//!
//! A requirement that is missing is a value (`Err(why)`), and [`require`] alone decides whether
//! that is a skip or a failure.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// `Some` when the requirement is there. Else: a failure under `CI=true`, a counted skip elsewhere.
pub fn require<T>(found: Result<T, String>) -> Option<T> {
    let why = match found {
        Ok(value) => return Some(value),
        Err(why) => why,
    };
    let test = std::thread::current()
        .name()
        .unwrap_or("a test")
        .to_string();
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test} cannot run, and under CI=true that is a failure: {why}"
    );
    // Past libtest's capture, which swallows the output of tests that pass: a skip must be seen.
    // In one piece and on a line of its own: libtest writes `test NAME ... ` without an end.
    let line = format!("\nskipped: {test}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    None
}

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// A Python program with a known answer.
pub fn workload(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("workloads")
        .join(name);
    assert!(path.is_file(), "no workload {}", path.display());
    path
}

/// The binary under test.
pub fn binary() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("MEMPROF_BIN") {
        let path = PathBuf::from(path);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(format!("MEMPROF_BIN={} is no file", path.display()))
        };
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), PathBuf::from);
    ["release", "debug"]
        .iter()
        .map(|profile| target.join(profile).join("memprof-ebpf"))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            format!(
                "no memprof-ebpf in {}: cargo build -p memprof-user",
                target.display()
            )
        })
}

/// Tracing needs root.
pub fn root() -> Result<(), String> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err("not root: sudo -E cargo test -p memprof-tests".into())
    }
}

/// An interpreter of this minor version ("3.12"), pyenv's newest first, then the system's.
pub fn interpreter(version: &str) -> Result<PathBuf, String> {
    pyenv_interpreter(version)
        .or_else(|| works(&PathBuf::from(format!("/usr/bin/python{version}")), version))
        .or_else(|| works(&PathBuf::from(format!("python{version}")), version))
        .or_else(|| packaged_interpreter(version).ok())
        .ok_or_else(|| format!("no CPython {version}: pyenv install {version}"))
}

/// An interpreter of this minor version from Debian's archive, static and stripped, which
/// `cargo xtask test` unpacks.
pub fn packaged_interpreter(version: &str) -> Result<PathBuf, String> {
    let path = workspace().join(format!("target/interpreters/bin/python{version}"));
    works(&path, version).ok_or_else(|| format!("no {}: cargo xtask interpreters", path.display()))
}

/// Debian's own interpreter: static, unlike pyenv's shared ones on the machines of this project.
pub fn debian_interpreter() -> Result<PathBuf, String> {
    works(Path::new("/usr/bin/python3.11"), "3.11")
        .ok_or_else(|| "no /usr/bin/python3.11: apt-get install python3.11".into())
}

/// Whatever `python3` is; behind pyenv's shim, which is a shell script.
pub fn default_interpreter() -> Result<PathBuf, String> {
    let found = answer(
        Path::new("python3"),
        "import sys; print(sys.executable, end='')",
    );
    found
        .map(PathBuf::from)
        .ok_or_else(|| "no python3 on PATH".into())
}

fn pyenv_interpreter(version: &str) -> Option<PathBuf> {
    let root = std::env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv")))?;
    let mut patches: Vec<(u32, PathBuf)> = std::fs::read_dir(root.join("versions"))
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let patch = name.strip_prefix(version)?.strip_prefix('.')?;
            Some((patch.parse().ok()?, entry.path()))
        })
        .collect();
    patches.sort();
    let (_, newest) = patches.pop()?;
    ["bin/python3", "bin/python"]
        .iter()
        .find_map(|path| works(&newest.join(path), version))
}

fn works(python: &Path, version: &str) -> Option<PathBuf> {
    // Runs on 2.7 too, which is one of the unsupported versions that the tests feed in.
    let code = "import sys; sys.stdout.write('%d.%d' % sys.version_info[:2])";
    (answer(python, code)? == version).then(|| python.to_path_buf())
}

fn answer(python: &Path, code: &str) -> Option<String> {
    let output = Command::new(python)
        .args(["-c", code])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    String::from_utf8(output.stdout)
        .ok()
        .filter(|text| output.status.success() && !text.is_empty())
}

/// C sources as a library; the library.
pub fn compiled(library: &Path, sources: &[PathBuf], flags: &[&str]) -> Result<PathBuf, String> {
    let output = Command::new("cc")
        .args([
            "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread", "-o",
        ])
        .arg(library)
        .args(flags)
        .args(sources)
        .output()
        .map_err(|e| format!("no cc ({e}): apt-get install gcc libc6-dev"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cc: {said}");
    Ok(library.to_owned())
}

/// A program of the venv that holds gunicorn, gevent, flask, memory-profiler and matplotlib.
pub fn venv(program: &str) -> Result<PathBuf, String> {
    let venv = std::env::var_os("MEMPROF_VENV")
        .map_or_else(|| workspace().join("target/venv"), PathBuf::from);
    let path = venv.join("bin").join(program);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("no {}: cargo xtask setup", path.display()))
    }
}

/// One of memory_profiler's own test scripts.
pub fn mprof_script(name: &str) -> Result<PathBuf, String> {
    let python = venv("python")?;
    let venv = python.ancestors().nth(2).unwrap_or(&python);
    let path = venv.join("memory_profiler/test").join(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("no {}: cargo xtask test", path.display()))
    }
}

/// The browser that judges the SVG.
pub fn chromium() -> Result<PathBuf, String> {
    let path = std::env::var_os("CHROMIUM")
        .map_or_else(|| PathBuf::from("/usr/bin/chromium"), PathBuf::from);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("no {}: apt-get install chromium", path.display()))
    }
}

/// The judge of what stays attached.
pub fn bpftool() -> Result<PathBuf, String> {
    ["/usr/sbin/bpftool", "/usr/bin/bpftool", "/sbin/bpftool"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
        .ok_or_else(|| "no bpftool: apt-get install bpftool".into())
}
