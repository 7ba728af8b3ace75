//! `cargo xtask demo`: from a clean clone to a flame graph of a leaking service.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::build_ebpf;
use crate::command;
use crate::setup;
use crate::test;
use crate::workspace;

/// Sets up what is missing, builds, traces the bundled service, and shows what came out.
pub fn run() -> Result<()> {
    let python = python()?;
    build_ebpf::build_with(&setup::install()?)?;
    let memprof = test::build_command()?;

    let folder = workspace::target().join("demo");
    fs::create_dir_all(&folder)?;
    let capture = folder.join("photos");
    let flamegraph = folder.join("photos.svg");
    println!("\nA photo service with two forked workers, one of whose functions leaks:");
    let mut trace = as_root(&memprof);
    trace
        .args(["run", "--force", "--flamegraph"])
        .arg(&flamegraph)
        .arg("-o")
        .arg(&capture)
        .arg("--")
        .arg(&python)
        .arg(workspace::root().join("demo/photos.py"));
    command::run(&mut trace)?;

    // From here on there is no root and no process: everything is in the capture.
    println!("\nWhat the capture says:");
    let mut report = Command::new(&memprof);
    command::run(report.arg("report").arg(capture.with_extension("memprof")))?;
    println!("\nThe flame graph, for a browser: {}", flamegraph.display());
    Ok(())
}

/// `program` as root, which tracing needs.
fn as_root(program: &Path) -> Command {
    if command::is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.arg(program);
    sudo
}

/// The first interpreter of a supported version. By its own path: sudo has another PATH, and
/// pyenv's `python3` is a shell script.
fn python() -> Result<PathBuf> {
    let code = "import sys; (3, 10) <= sys.version_info[:2] <= (3, 13) or sys.exit(1); \
                print(sys.executable)";
    let folders = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&folders).collect();
    [
        "python3",
        "python3.13",
        "python3.12",
        "python3.11",
        "python3.10",
    ]
    .iter()
    .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
    .filter(|python| python.is_file())
    .find_map(|python| command::answer(Command::new(python).args(["-c", code])))
    .map(PathBuf::from)
    .context("no CPython 3.10 to 3.13 on the PATH\nhint: sudo apt-get install python3")
}
