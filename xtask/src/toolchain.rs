//! Which compiler builds the BPF object.
//!
//! A compiler for the BPF target needs a `core` for it: built beforehand (Debian ships one), or
//! as source that cargo builds on the way (rustup's nightly with rust-src). The routes are tried
//! in the order of [`ROUTES`]; the first that is complete wins.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

/// The compilation target: BPF, little endian.
pub const TARGET: &str = "bpfel-unknown-none";

/// A compiler that can build for [`TARGET`].
#[derive(Debug)]
pub struct Toolchain {
    /// The compiler.
    pub rustc: PathBuf,
    /// Where its `core` comes from.
    pub core: Core,
    /// The route that found it, for people.
    pub route: &'static str,
    /// What it calls itself: `rustc 1.96.0 (…)`.
    pub version: String,
    /// Major version of its LLVM; bpf-linker reads its bitcode with the same one.
    pub llvm_major: u32,
}

/// Where `core` for the BPF target comes from.
#[derive(Debug)]
pub enum Core {
    /// In the sysroot, compiled.
    Prebuilt,
    /// In the sysroot, as source: cargo builds it (`-Zbuild-std`), and has to be this one.
    Source {
        /// The nightly cargo of the same toolchain.
        cargo: PathBuf,
    },
}

/// Where to look for compilers, best first.
type Compilers = fn() -> Vec<PathBuf>;

/// The routes, with a name for people.
const ROUTES: [(&str, Compilers); 3] = [
    ("$BPF_RUSTC", named),
    ("rustup nightly with rust-src", nightly),
    ("system rustc with a BPF core", system),
];

/// The first complete route, or None.
pub fn find() -> Result<Option<Toolchain>> {
    for (route, compilers) in ROUTES {
        for rustc in compilers() {
            if let Some(toolchain) = inspect(&rustc, route)? {
                return Ok(Some(toolchain));
            }
        }
    }
    if let Some(rustc) = env::var_os("BPF_RUSTC") {
        bail!(
            "BPF_RUSTC={} has neither a core for {TARGET} nor rust-src\n\
             hint: unset BPF_RUSTC && cargo xtask setup",
            Path::new(&rustc).display()
        );
    }
    Ok(None)
}

fn named() -> Vec<PathBuf> {
    env::var_os("BPF_RUSTC")
        .map(PathBuf::from)
        .into_iter()
        .collect()
}

fn nightly() -> Vec<PathBuf> {
    // RUSTUP_AUTO_INSTALL: a question must not download a toolchain.
    let sysroot = command::answer(
        Command::new("rustup")
            .env("RUSTUP_AUTO_INSTALL", "0")
            .args(["run", "nightly", "rustc", "--print", "sysroot"]),
    );
    sysroot
        .map(|sysroot| Path::new(&sysroot).join("bin/rustc"))
        .into_iter()
        .collect()
}

/// Every rustc on the PATH: behind rustup's may stand the distribution's.
fn system() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/bin")])
        .map(|directory| directory.join("rustc"))
        .filter(|rustc| rustc.exists())
        .collect()
}

/// What `rustc` can do for us; None when it lacks a core for BPF.
fn inspect(rustc: &Path, route: &'static str) -> Result<Option<Toolchain>> {
    let ask = |arguments: &[&str]| command::answer(Command::new(rustc).args(arguments));
    let Some(sysroot) = ask(&["--print", "sysroot"]).map(PathBuf::from) else {
        return Ok(None);
    };
    let core = if holds_core(&sysroot.join("lib/rustlib").join(TARGET).join("lib")) {
        Core::Prebuilt
    } else if sysroot.join("lib/rustlib/src/rust/library/core").is_dir()
        && sysroot.join("bin/cargo").exists()
    {
        Core::Source {
            cargo: sysroot.join("bin/cargo"),
        }
    } else {
        return Ok(None);
    };
    let verbose = ask(&["-vV"]).unwrap_or_default();
    let version = verbose.lines().next().unwrap_or_default().to_owned();
    Ok(Some(Toolchain {
        rustc: rustc.to_owned(),
        core,
        route,
        llvm_major: llvm_major(&verbose)
            .with_context(|| format!("{} -vV names no LLVM version", rustc.display()))?,
        version,
    }))
}

fn holds_core(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name())
        .any(|name| name.to_string_lossy().starts_with("libcore-"))
}

/// From `LLVM version: 22.1.8`: 22.
fn llvm_major(verbose: &str) -> Option<u32> {
    let version = verbose
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_llvm_from_rustc() {
        let verbose = "rustc 1.96.0 (ac68faa20 2026-05-25)\nrelease: 1.96.0\nLLVM version: 22.1.8";
        assert_eq!(llvm_major(verbose), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0"), None);
    }
}
