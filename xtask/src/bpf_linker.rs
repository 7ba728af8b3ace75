//! The linker of BPF objects: bpf-linker, built once against the LLVM of the compiler.
//!
//! It reads the compiler's bitcode, so its LLVM has to be of the compiler's major version. All
//! it needs of LLVM is the shared library: no headers, no llvm-config.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::toolchain::Toolchain;
use crate::workspace;

const VERSION: &str = "0.13.0";

/// LLVM versions that bpf-linker 0.13.0 knows (its features `llvm-21` to `llvm-23`).
const LLVM_MAJORS: std::ops::RangeInclusive<u32> = 21..=23;

/// The linker for `toolchain`, when it is there and runs: `$BPF_LINKER`, or the one that
/// `setup` built.
pub fn find(toolchain: &Toolchain) -> Option<PathBuf> {
    let linker = match env::var_os("BPF_LINKER") {
        Some(linker) => PathBuf::from(linker),
        None => installed(toolchain)?,
    };
    command::answer(Command::new(&linker).arg("--version"))?;
    Some(linker)
}

fn installed(toolchain: &Toolchain) -> Option<PathBuf> {
    // cargo's own list of what it installed where, with the features.
    let list = fs::read_to_string(workspace::tools().join(".crates2.json")).ok()?;
    let wanted = list.contains(&format!("bpf-linker {VERSION} "))
        && list.contains(&format!("\"{}\"", feature(toolchain)));
    wanted.then(|| workspace::tools().join("bin/bpf-linker"))
}

fn feature(toolchain: &Toolchain) -> String {
    format!("llvm-{}", toolchain.llvm_major)
}

/// Builds the linker into `target/bpf-toolchain` with the LLVM library at `llvm`.
pub fn install(toolchain: &Toolchain, llvm: &Path) -> Result<PathBuf> {
    let major = toolchain.llvm_major;
    if !LLVM_MAJORS.contains(&major) {
        bail!(
            "{} has LLVM {major}, and bpf-linker {VERSION} knows {} to {}\n\
             hint: point BPF_RUSTC at a compiler with one of these, or BPF_LINKER at a linker \
             that knows LLVM {major}",
            toolchain.version,
            LLVM_MAJORS.start(),
            LLVM_MAJORS.end()
        );
    }
    let tools = workspace::tools();
    // The folder that bpf-linker's build script takes for LLVM's.
    let prefix = tools.join("llvm");
    let link = prefix.join("lib/libLLVM.so");
    fs::create_dir_all(prefix.join("lib"))?;
    if link.symlink_metadata().is_ok() {
        fs::remove_file(&link)?;
    }
    symlink(llvm, &link).with_context(|| format!("cannot make {}", link.display()))?;
    let directory = llvm.parent().unwrap_or(Path::new("/"));
    command::run(
        Command::new(workspace::cargo())
            .args(["install", "bpf-linker", "--locked", "--version", VERSION])
            .args(["--no-default-features", "--features", &feature(toolchain)])
            .args(["--force", "--root"])
            .arg(&tools)
            .env("LLVM_PREFIX", &prefix)
            // LLVM does the work and comes compiled: optimising the shell around it would only
            // double the time of the build.
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            // A toolchain's LLVM is in no library path.
            .env(
                "RUSTFLAGS",
                format!("-Clink-arg=-Wl,-rpath,{}", directory.display()),
            )
            .env_remove("CARGO_TARGET_DIR"),
    )?;
    find(toolchain).context("bpf-linker was installed but does not start")
}

/// The shared LLVM library of the compiler's major version: the compiler's own when it brings
/// one (rustup), else the system's.
pub fn find_llvm(toolchain: &Toolchain) -> Option<PathBuf> {
    let sysroot = toolchain.rustc.parent().and_then(Path::parent);
    let triples = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let multiarch = triples
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().contains("-linux-gnu"));
    sysroot
        .map(|sysroot| sysroot.join("lib"))
        .into_iter()
        .chain(multiarch)
        .chain(["/usr/lib64".into(), "/usr/lib".into()])
        .chain([format!("/usr/lib/llvm-{}/lib", toolchain.llvm_major).into()])
        .find_map(|directory| library_in(&directory, toolchain.llvm_major))
}

fn library_in(directory: &Path, major: u32) -> Option<PathBuf> {
    let exact = format!("libLLVM.so.{major}");
    let entries = fs::read_dir(directory).ok()?.flatten();
    let mut libraries: Vec<PathBuf> = entries
        .filter(|entry| is_library(&entry.file_name().to_string_lossy(), &exact))
        .map(|entry| entry.path())
        .collect();
    libraries.sort();
    libraries.into_iter().next()
}

/// `libLLVM.so.22`, `libLLVM.so.22.1`, `libLLVM.so.22.1-rust-1.97.0-nightly`; not
/// `libLLVM.so.221`. The name `libLLVM-22.so` is left out: in rustup's toolchains it is a
/// linker script.
fn is_library(name: &str, exact: &str) -> bool {
    name.strip_prefix(exact)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_llvm_by_its_name() {
        for name in [
            "libLLVM.so.22",
            "libLLVM.so.22.1",
            "libLLVM.so.22.1-rust-1.97.0-nightly",
        ] {
            assert!(is_library(name, "libLLVM.so.22"), "{name}");
        }
        for name in [
            "libLLVM.so.221",
            "libLLVM-22.so",
            "libLLVM.so",
            "libLLVM.so.2",
        ] {
            assert!(!is_library(name, "libLLVM.so.22"), "{name}");
        }
    }
}
