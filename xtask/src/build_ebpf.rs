//! `cargo xtask build-ebpf`: compiles the kernel crate to `target/bpf/memprof-probes.o`.
//!
//! Not a build script of memprof-user: that would run cargo inside cargo and make every build
//! of the host crates depend on the BPF toolchain. The object is the same from whatever folder
//! it is built, so no local path is in it, and it carries BTF but no DWARF.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

use crate::command;
use crate::setup::{self, Tools};
use crate::toolchain::{Core, TARGET};
use crate::workspace;

/// The binary of the kernel crate. Not called like the command, or cargo warns of a collision.
const BINARY: &str = "memprof-probes";

/// Builds the object; its path.
pub fn build() -> Result<PathBuf> {
    build_with(&setup::find()?)
}

/// Builds the object with `tools`; its path.
pub fn build_with(tools: &Tools) -> Result<PathBuf> {
    let manifest = workspace::kernel_crate().join("Cargo.toml");
    ensure!(
        manifest.exists(),
        "the kernel crate is missing: no {}\nhint: git checkout -- memprof-ebpf",
        manifest.display()
    );
    // First, so that the sources lie where their paths can be listed, and so that a lack of
    // network is told from a compile error.
    command::run(kernel_cargo(tools, "fetch").args(["--locked", "--quiet"]))?;
    let mut cargo = kernel_cargo(tools, "build");
    cargo
        .args(["--release", "--locked", "--target", TARGET])
        .args(["--bin", BINARY, "--target-dir"])
        .arg(workspace::kernel_crate().join("target"));
    command::run(&mut cargo)?;
    let built = workspace::kernel_crate()
        .join("target")
        .join(TARGET)
        .join("release")
        .join(BINARY);
    publish(&built)
}

/// clippy for the kernel crate, when the compiler that builds it has one beside it.
pub fn kernel_clippy(tools: &Tools) -> Option<Command> {
    let clippy = tools.toolchain.rustc.with_file_name("cargo-clippy");
    if !clippy.exists() {
        return None;
    }
    let mut command = kernel_command(&clippy, tools, "clippy");
    // In a folder of its own: clippy and the compiler would undo each other's work.
    command.args(["--locked", "--target", TARGET, "--target-dir"]);
    command.arg(workspace::kernel_crate().join("target/clippy"));
    Some(command)
}

fn kernel_cargo(tools: &Tools, verb: &str) -> Command {
    kernel_command(cargo_of(tools).as_ref(), tools, verb)
}

fn cargo_of(tools: &Tools) -> PathBuf {
    match &tools.toolchain.core {
        Core::Prebuilt => workspace::cargo().into(),
        Core::Source { cargo } => cargo.clone(),
    }
}

/// A cargo command for the kernel crate, with the compiler, the linker and the flags of `tools`.
fn kernel_command(program: &Path, tools: &Tools, verb: &str) -> Command {
    let mut command = Command::new(program);
    command
        .arg(verb)
        .arg("--manifest-path")
        .arg(workspace::kernel_crate().join("Cargo.toml"))
        .env("CARGO", cargo_of(tools))
        .env("RUSTC", &tools.toolchain.rustc)
        // aya-ebpf uses unstable features; a stable compiler takes them only so.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(tools).join("\x1f"))
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    if matches!(tools.toolchain.core, Core::Source { .. }) && verb != "fetch" {
        command.arg("-Zbuild-std=core");
    }
    command
}

fn rustflags(tools: &Tools) -> Vec<String> {
    let mut flags = vec![
        // aya-ebpf has no other way to know whose registers a probe reads.
        format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH),
        // Compare-and-exchange and 32-bit jumps (Linux 5.12).
        "-Ctarget-cpu=v3".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("-Clinker={}", tools.linker.display()),
    ];
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    // rustc takes the last prefix that fits: the general ones come first.
    flags.push(remap(workspace::root(), "memprof-ebpf"));
    flags.extend(registry_sources().iter().map(|from| remap(from, "crates")));
    flags
}

/// The folders in which cargo unpacks crates, one a registry.
fn registry_sources() -> Vec<PathBuf> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cargo")));
    let Some(home) = home else {
        return Vec::new();
    };
    let entries = fs::read_dir(home.join("registry/src"))
        .into_iter()
        .flatten();
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

/// Puts the object without its DWARF to its place, in one step, and only when it changed: an
/// untouched file does not rebuild memprof-user.
fn publish(built: &Path) -> Result<PathBuf> {
    let object = fs::read(built).with_context(|| format!("cannot read {}", built.display()))?;
    let stripped = without_dwarf(&object)?;
    let path = workspace::bpf_object();
    if fs::read(&path).is_ok_and(|present| present == stripped) {
        eprintln!("BPF object:   {} (unchanged)", path.display());
        return Ok(path);
    }
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    let new = path.with_extension("o.new");
    fs::write(&new, &stripped).with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, &path)?;
    eprintln!(
        "BPF object:   {} ({} bytes)",
        path.display(),
        stripped.len()
    );
    Ok(path)
}

/// The object without the sections that only a debugger reads. BTF, which the kernel reads,
/// stays.
fn without_dwarf(object: &[u8]) -> Result<Vec<u8>> {
    let explain = |error| anyhow!("the compiler's output is not an ELF object: {error}");
    let mut builder = Builder::read(object).map_err(explain)?;
    for section in builder.sections.iter_mut() {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    builder.delete_orphans();
    // LLVM keeps section names and symbol names in one table; the writer wants two.
    let names = builder.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped).map_err(explain)?;
    Ok(stripped)
}
