//! Finds the BPF object that `cargo xtask build-ebpf` made, for the crate to embed.
//!
//! It only looks. Without the object the crate still builds and tests, and the command says at
//! run time what to type. With it, the cfg `has_bpf_object` is set and
//! `include_bytes!(env!("MEMPROF_OBJECT"))` is the object.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

const OVERRIDE: &str = "MEMPROF_EBPF_OBJECT";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(has_bpf_object)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    let object = env::var_os(OVERRIDE).map_or_else(built_object, PathBuf::from);
    if object.is_file() {
        println!("cargo::rerun-if-changed={}", object.display());
        println!("cargo::rustc-env=MEMPROF_OBJECT={}", object.display());
        println!("cargo::rustc-cfg=has_bpf_object");
        return;
    }
    if env::var_os(OVERRIDE).is_some() {
        println!("cargo::error={OVERRIDE}={} is not a file", object.display());
        return;
    }
    watch(&object);
}

fn built_object() -> PathBuf {
    workspace().join("target/bpf/memprof-probes.o")
}

fn workspace() -> PathBuf {
    let crate_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    crate_dir.parent().map(Path::to_owned).unwrap_or_default()
}

/// Has cargo run this again when `object` appears. To name the missing file would rebuild the
/// crate at every build, and to name `target` would too, since cargo looks at all that is in
/// it; so the object gets a folder of its own beforehand, and the folder is named.
fn watch(object: &Path) {
    let Some(folder) = object.parent() else {
        return;
    };
    if workspace().join("xtask").is_dir() && fs::create_dir_all(folder).is_ok() {
        println!("cargo::rerun-if-changed={}", folder.display());
    }
}
