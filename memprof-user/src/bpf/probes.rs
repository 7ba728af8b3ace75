//! The table of hooks, and how they get into the kernel.
//!
//! All are BTF tracepoints: they need neither tracefs nor kprobes nor fentry, and the kernel
//! removes them when our file descriptors close, however we end.

use aya::{Btf, Ebpf, EbpfLoader, programs::BtfTracePoint};
use memprof_common::{ABI_VERSION, KernelConfig};

use super::{log, maps::Pod};
use crate::error::{Error, Exit, Result};

/// One hook: the program has the tracepoint's name.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Tracepoint and program.
    pub name: &'static str,
    /// What is lost without it.
    pub purpose: &'static str,
}

/// Every hook of the object. Life cycle first: once growth is counted, no fork may be missed.
pub const PROBES: [Probe; 8] = [
    Probe {
        name: "task_newtask",
        purpose: "follow threads and forked children",
    },
    Probe {
        name: "sched_process_exec",
        purpose: "notice a new program",
    },
    Probe {
        name: "sched_process_exit",
        purpose: "notice the end of a process",
    },
    Probe {
        name: "sys_enter",
        purpose: "see memory given back",
    },
    Probe {
        name: "sys_exit",
        purpose: "see memory moved",
    },
    Probe {
        name: "page_fault_user",
        purpose: "know the place of a growth",
    },
    Probe {
        name: "page_fault_kernel",
        purpose: "know the place of a growth inside a system call",
    },
    Probe {
        name: "rss_stat",
        purpose: "see RSS grow",
    },
];

#[cfg(has_bpf_object)]
fn object() -> Result<&'static [u8]> {
    Ok(aya::include_bytes_aligned!(env!("MEMPROF_OBJECT")))
}

#[cfg(not(has_bpf_object))]
fn object() -> Result<&'static [u8]> {
    Err(Error::failed(
        "this build has no kernel side",
        "it was compiled before the BPF object was built",
        "cargo xtask build-ebpf && cargo build --release",
    ))
}

/// The object in the kernel. Dropping it detaches everything.
pub struct Loaded {
    pub(super) bpf: Ebpf,
}

pub(super) fn refused(what: String, cause: impl std::fmt::Display) -> Error {
    Error::failed(
        what,
        format!("{cause:#}"),
        "check the kernel: uname -r (6.2 or newer), zgrep BPF /proc/config.gz, and that no lockdown forbids BPF: cat /sys/kernel/security/lockdown",
    )
    .with_exit(Exit::Unsupported)
}

impl Loaded {
    /// Loads maps and programs, with a ring of so many bytes; nothing is attached yet.
    pub fn load(config: &KernelConfig, ring_bytes: u32, kernel_log: bool) -> Result<Self> {
        let object = object()?;
        check_abi(object)?;
        let btf =
            Btf::from_sys_fs().map_err(|e| refused("cannot read the kernel's BTF".into(), e))?;
        let level = if kernel_log { log::ALL } else { log::SILENT };
        let config = Pod(*config);
        let mut bpf = EbpfLoader::new()
            .btf(Some(&btf))
            .override_global("CONFIG", &config, true)
            .override_global(aya_log::LEVEL, &level, true)
            .map_max_entries("EVENTS", ring_bytes)
            .load(object)
            .map_err(|e| refused("cannot load the kernel side".into(), anyhow::Error::from(e)))?;
        for probe in PROBES {
            program(&mut bpf, probe)?
                .load(probe.name, &btf)
                .map_err(|e| {
                    refused(
                        format!("the kernel refused the hook `{}`", probe.name),
                        verifier_summary(&anyhow::Error::from(e)),
                    )
                })?;
        }
        Ok(Loaded { bpf })
    }

    /// Attaches every hook.
    pub fn attach(&mut self) -> Result<()> {
        for probe in PROBES {
            program(&mut self.bpf, probe)?.attach().map_err(|e| {
                refused(
                    format!("cannot attach the hook `{}`", probe.name),
                    anyhow::Error::from(e),
                )
            })?;
        }
        Ok(())
    }

    /// Takes every hook out of the kernel; maps stay readable.
    pub fn detach(&mut self) {
        for probe in PROBES {
            if let Ok(program) = program(&mut self.bpf, probe) {
                // Unloading drops the links with the program. There is nothing to do about an
                // error: closing the descriptors at exit does the same.
                let _ = program.unload();
            }
        }
    }

    /// Prints the kernel side's messages as they come.
    pub fn follow_log(&mut self) -> Result<tokio::task::JoinHandle<()>> {
        log::follow(&mut self.bpf)
    }
}

fn program(bpf: &mut Ebpf, probe: Probe) -> Result<&mut BtfTracePoint> {
    bpf.program_mut(probe.name)
        .and_then(|program| <&mut BtfTracePoint>::try_from(program).ok())
        .ok_or_else(stale_object)
}

pub(super) fn stale_object() -> Error {
    Error::failed(
        "the kernel side does not fit this binary",
        "the BPF object was built from another version of the sources",
        "cargo xtask build-ebpf && cargo build --release",
    )
}

/// Compares the `ABI` symbol of the object with ours.
fn check_abi(object: &[u8]) -> Result<()> {
    use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
    let file = object::File::parse(object).map_err(|_| stale_object())?;
    let abi = file
        .symbols()
        .find(|symbol| symbol.name() == Ok("ABI"))
        .and_then(|symbol| {
            let section = file.section_by_index(symbol.section_index()?).ok()?;
            let data = section.data().ok()?;
            let at = symbol.address() as usize;
            Some(u32::from_ne_bytes(data.get(at..at + 4)?.try_into().ok()?))
        });
    if abi == Some(ABI_VERSION) {
        Ok(())
    } else {
        Err(stale_object())
    }
}

/// The verifier's log can be megabytes: its last lines say what it refused.
pub(super) fn verifier_summary(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    match lines.len() {
        0..=6 => text,
        many => format!("{} … {}", lines[0], lines[many - 5..].join(" | ")),
    }
}
