//! The Python environment of the tests: the service under test and the judges of the files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;
use crate::workspace;

/// The environment with what tests/requirements.txt pins, made when it is not there or the pins
/// have changed.
pub fn install() -> Result<PathBuf> {
    let venv = workspace::target().join("venv");
    let requirements = workspace::root().join("tests/requirements.txt");
    let wanted = fs::read(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    // Written last: an interrupted installation is begun again.
    let done = venv.join("installed.txt");
    if fs::read(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(venv);
    }
    command::run(
        Command::new(python()?)
            .args(["-m", "venv", "--clear"])
            .arg(&venv),
    )?;
    command::run(pip(&venv, "install").arg("-r").arg(&requirements))?;
    unpack_scripts(&venv)?;
    fs::write(&done, wanted)?;
    Ok(venv)
}

/// Adds what tests/requirements-built.txt pins. Making the environment anew takes it away, stamp
/// and all.
pub fn install_built(venv: &Path) -> Result<()> {
    let requirements = workspace::root().join("tests/requirements-built.txt");
    let wanted = fs::read(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let done = venv.join("built.txt");
    if fs::read(&done).is_ok_and(|built| built == wanted) {
        return Ok(());
    }
    command::run(pip(venv, "install").arg("-r").arg(&requirements))?;
    fs::write(&done, wanted)?;
    Ok(())
}

/// pip of the environment with this verb of its, whatever its own script names as its interpreter.
pub fn pip(venv: &Path, verb: &str) -> Command {
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", verb, "--quiet"]);
    pip.arg("--disable-pip-version-check");
    pip
}

/// memory_profiler's own test scripts, which only its source distribution has: they are run to see
/// whether what they expect of `@profile` is there. Of the version that is installed.
fn unpack_scripts(venv: &Path) -> Result<()> {
    let folder = venv.join("memory_profiler");
    fs::create_dir_all(&folder)?;
    let python = venv.join("bin/python");
    let code = "import importlib.metadata as m; print(m.version('memory-profiler'))";
    let version = command::answer(Command::new(&python).args(["-c", code]))
        .context("memory-profiler is not in tests/requirements.txt")?;
    let archive = format!("memory_profiler-{version}.tar.gz");
    command::run(
        pip(venv, "download")
            .args([
                "--no-deps",
                "--no-binary",
                ":all:",
                "--no-build-isolation",
                "-d",
            ])
            .arg(&folder)
            .arg(format!("memory-profiler=={version}")),
    )?;
    command::run(
        Command::new("tar")
            .args(["--strip-components=1", "-xzf", &archive])
            .current_dir(&folder),
    )
}

/// Debian's interpreter where there is one, so that the service runs on a static build; the
/// shared ones are covered by the workloads. Else whatever `python3` is.
fn python() -> Result<PathBuf> {
    // The pinned numpy needs 3.11.
    let code = "import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))";
    ["/usr/bin/python3.11", "python3"]
        .into_iter()
        .map(PathBuf::from)
        .find(|python| command::answer(Command::new(python).args(["-c", code])).is_some())
        .context(
            "the tests need a CPython 3.11, 3.12 or 3.13 with venv\n\
             hint: sudo apt-get install python3.11 python3-venv",
        )
}
