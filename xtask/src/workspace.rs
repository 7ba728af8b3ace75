//! Where things lie in the repository, so that no chore spells a path twice.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The root of the repository: the parent of this crate.
pub fn root() -> &'static Path {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.parent().unwrap_or(crate_dir)
}

/// `target/` of the repository. The tools and the BPF object have a fixed place, so that the
/// build script of memprof-user finds the object wherever `CARGO_TARGET_DIR` points.
pub fn target() -> PathBuf {
    root().join("target")
}

/// Cargo's own output directory for the host crates.
pub fn cargo_target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(target, |dir| root().join(dir))
}

/// The crate of the kernel side.
pub fn kernel_crate() -> PathBuf {
    root().join("memprof-ebpf")
}

/// The BPF object that memprof-user embeds.
pub fn bpf_object() -> PathBuf {
    target().join("bpf/memprof-probes.o")
}

/// Where `setup` installs tools: nothing of ours goes into the user's own `~/.cargo/bin`.
pub fn tools() -> PathBuf {
    target().join("bpf-toolchain")
}

/// The cargo that runs this chore.
pub fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
