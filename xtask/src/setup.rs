//! `cargo xtask setup`: installs what building the BPF object needs and the machine lacks.
//!
//! Two things: a compiler with a core for BPF, and bpf-linker with that compiler's LLVM. On
//! Debian the compiler comes from packages, without nightly and without building `core`;
//! elsewhere from rustup. Done twice, it does nothing the second time.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::bpf_linker;
use crate::command;
use crate::packages;
use crate::toolchain::{self, Toolchain};

/// Debian's compiler with a prebuilt core for BPF; the third package is the host's standard
/// library, for build scripts and procedural macros.
const COMPILER_PACKAGES: [&str; 3] = [
    "rustc-web",
    "libstd-rust-web-dev-bpf",
    "libstd-rust-web-dev",
];

/// The clippy of Debian's compiler.
pub const CLIPPY_PACKAGE: &str = "rust-web-clippy";

/// What builds the BPF object.
pub struct Tools {
    /// The compiler.
    pub toolchain: Toolchain,
    /// The linker.
    pub linker: PathBuf,
}

/// The tools, installed first where they are missing.
pub fn install() -> Result<Tools> {
    let toolchain = match toolchain::find()? {
        Some(toolchain) => toolchain,
        None => install_compiler()?,
    };
    let linker = match bpf_linker::find(&toolchain) {
        Some(linker) => linker,
        None => install_linker(&toolchain)?,
    };
    eprintln!("BPF compiler: {} ({})", toolchain.version, toolchain.route);
    eprintln!("BPF linker:   {}", linker.display());
    Ok(Tools { toolchain, linker })
}

/// The tools as they are, or an error that names the missing piece.
pub fn find() -> Result<Tools> {
    let toolchain = toolchain::find()?.with_context(|| {
        format!(
            "no compiler with a core for {} was found: neither BPF_RUSTC, nor rustup's nightly \
             with rust-src, nor a system rustc with a BPF core\n\
             hint: cargo xtask setup",
            toolchain::TARGET
        )
    })?;
    let linker = bpf_linker::find(&toolchain).with_context(|| {
        format!(
            "bpf-linker for LLVM {} is missing\nhint: cargo xtask setup",
            toolchain.llvm_major
        )
    })?;
    Ok(Tools { toolchain, linker })
}

/// True when the compiler of `tools` comes from [`COMPILER_PACKAGES`].
pub fn is_packaged(tools: &Tools) -> bool {
    tools.toolchain.rustc.starts_with("/usr/bin")
        && packages::missing(&COMPILER_PACKAGES).is_empty()
}

/// `setup --check`.
pub fn check() -> Result<()> {
    let tools = find()?;
    println!(
        "compiler: {}, {} ({})",
        tools.toolchain.version,
        tools.toolchain.rustc.display(),
        tools.toolchain.route
    );
    println!("linker: {}", tools.linker.display());
    Ok(())
}

fn install_compiler() -> Result<Toolchain> {
    if packages_offered()? {
        packages::install(&COMPILER_PACKAGES)?;
    } else if command::answer(Command::new("rustup").arg("--version")).is_some() {
        command::run(
            Command::new("rustup")
                .args(["toolchain", "install", "nightly", "--profile", "minimal"])
                .args(["--component", "rust-src", "--component", "clippy"]),
        )?;
    } else {
        bail!(
            "this system has neither the packages {} nor rustup\n\
             hint: install rustup, then cargo xtask setup; or point BPF_RUSTC at a compiler with \
             a core for {}",
            COMPILER_PACKAGES.join(" "),
            toolchain::TARGET
        );
    }
    toolchain::find()?.context("the compiler was installed, but still has no core for BPF")
}

/// True when apt can install the compiler. An image without package lists gets them first.
fn packages_offered() -> Result<bool> {
    if !packages::available() {
        return Ok(false);
    }
    let offered = || packages::offered(&COMPILER_PACKAGES).len() == COMPILER_PACKAGES.len();
    if !offered() && command::is_root() {
        packages::update()?;
    }
    Ok(offered())
}

fn install_linker(toolchain: &Toolchain) -> Result<PathBuf> {
    if let Some(llvm) = bpf_linker::find_llvm(toolchain) {
        return bpf_linker::install(toolchain, &llvm);
    }
    let package = format!("libllvm{}", toolchain.llvm_major);
    if packages::available() {
        packages::install(&[&package])?;
    }
    let llvm = bpf_linker::find_llvm(toolchain).with_context(|| {
        format!(
            "the library of LLVM {major} (libLLVM.so.{major}), which {} was built with, is \
             missing\nhint: install your system's package of it",
            toolchain.version,
            major = toolchain.llvm_major
        )
    })?;
    bpf_linker::install(toolchain, &llvm)
}
