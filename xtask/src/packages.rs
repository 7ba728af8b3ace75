//! Debian packages: which are missing, and how they are installed.
//!
//! Package names stand in the chores that need them; versions nowhere, because they move with
//! every security update.

use std::process::Command;

use anyhow::{Result, bail};

use crate::command;

/// True on a system with apt.
pub fn available() -> bool {
    command::answer(Command::new("apt-get").arg("--version")).is_some()
}

/// Of `names`, those that are not installed.
pub fn missing<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let installed = |name: &str| {
        command::answer(Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", name]))
            .is_some_and(|status| status == "installed")
    };
    names
        .iter()
        .copied()
        .filter(|name| !installed(name))
        .collect()
}

/// Of `names`, those that apt could install; looks at the archive's lists as they are.
pub fn offered<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let offered = |name: &str| {
        command::answer(Command::new("apt-cache").args(["show", "--no-all-versions", name]))
            .is_some_and(|entry| !entry.is_empty())
    };
    names.iter().copied().filter(|name| offered(name)).collect()
}

/// Reads the archive's lists anew.
pub fn update() -> Result<()> {
    command::run(Command::new("apt-get").args(["update", "-q"]))
}

/// Installs those of `names` that are missing. Needs root when there are any.
pub fn install(names: &[&str]) -> Result<()> {
    let missing = missing(names);
    if missing.is_empty() {
        return Ok(());
    }
    if !command::is_root() {
        bail!(
            "packages are missing and only root can install them\n\
             hint: sudo apt-get install --no-install-recommends {}",
            missing.join(" ")
        );
    }
    // The lists of a fresh machine or an old image lack the package or name a version that the
    // archive has dropped: one more try with new lists.
    if command::run(&mut apt_install(&missing)).is_ok() {
        return Ok(());
    }
    update()?;
    command::run(&mut apt_install(&missing))
}

/// `--no-remove`: rustc-web and Debian's rustc exclude each other, and apt would silently take
/// away the compiler that somebody uses.
fn apt_install(names: &[&str]) -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive")
        .args([
            "install",
            "-q",
            "-y",
            "--no-remove",
            "--no-install-recommends",
        ])
        .args(names);
    apt
}
