//! The kernel and the privileges: everything that a trace needs, tried in its order.

use super::Check;
use crate::bpf::{self, KernelOptions, Loaded, PROBES};
use crate::error::{Error, Exit};

/// Says what the kernel locks down (Documentation/admin-guide/kernel-parameters.txt, `lockdown`).
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
/// Size of the ring for the verifier to see; nothing is written to it.
const RING_BYTES: u32 = 1 << 20;
/// Name and version of the kernel.
const VERSION: &str = "/proc/sys/kernel/osrelease";

/// Each thing in the order in which a trace needs it; what cannot be tried is left out.
pub fn kernel() -> Vec<Check> {
    let version = std::fs::read_to_string(VERSION).unwrap_or_default();
    let version = format!("Linux {} on {}", version.trim(), std::env::consts::ARCH);
    let mut checks = vec![Check::good("kernel", version), lockdown()];
    let options = KernelOptions {
        follow_forks: true,
        no_shortcut: false,
        native: false,
        ring_bytes: RING_BYTES,
    };
    let config = match bpf::kernel_config(options) {
        Ok(config) => {
            checks.push(Check::good("types", "BTF has every structure that is read"));
            Some(config)
        }
        Err(error) => {
            checks.push(Check::bad("types", error));
            None
        }
    };
    let is_privileged = match bpf::check_privileges() {
        Ok(()) => {
            let found = "CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE";
            checks.push(Check::good("privileges", found));
            true
        }
        Err(error) => {
            checks.push(Check::bad("privileges", error));
            false
        }
    };
    // The verifier's verdict takes both.
    if let Some(config) = config.filter(|_| is_privileged) {
        let loaded = Loaded::load(&config, RING_BYTES, false);
        checks.push(Check {
            what: "programs",
            found: loaded.map(|_| format!("the verifier accepts all {} hooks", PROBES.len())),
        });
    }
    checks
}

/// Under `confidentiality` BPF may not read memory.
fn lockdown() -> Check {
    let what = "lockdown";
    let modes = std::fs::read_to_string(LOCKDOWN).unwrap_or_default();
    match modes.contains("[confidentiality]") {
        false => Check::good(what, "reading memory is allowed"),
        true => Check::bad(
            what,
            Error::failed(
                "the kernel is locked down",
                "under lockdown=confidentiality BPF programs may not read memory",
                "boot with lockdown=integrity, or without lockdown=",
            )
            .with_exit(Exit::Unsupported),
        ),
    }
}
