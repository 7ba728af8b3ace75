//! What the kernel demands before it lets a program trace, checked before anything is loaded.

use crate::error::{Error, Exit, Result};

/// Capabilities that are needed, by bit (include/uapi/linux/capability.h).
const NEEDED: [(u32, &str, &str); 3] = [
    (39, "CAP_BPF", "to load the programs"),
    (38, "CAP_PERFMON", "to read kernel and user memory in them"),
    (
        19,
        "CAP_SYS_PTRACE",
        "to read the memory map of other processes",
    ),
];

/// `CAP_SYS_ADMIN` contains the first two.
const SYS_ADMIN: u32 = 21;

/// An error naming what is missing, or nothing.
pub fn check() -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let missing = missing(effective);
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::failed(
        "tracing needs more privilege",
        format!("missing {}", missing.join(", ")),
        format!("sudo {}", std::env::args().collect::<Vec<_>>().join(" ")),
    )
    .with_exit(Exit::Privilege))
}

fn missing(effective: u64) -> Vec<String> {
    let has = |bit: u32| effective >> bit & 1 == 1;
    NEEDED
        .iter()
        .filter(|(bit, _, _)| !(has(*bit) || has(SYS_ADMIN) && *bit >= 38))
        .map(|(_, name, why)| format!("{name} ({why})"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn says_what_is_missing() {
        assert_eq!(missing(0).len(), 3);
        assert!(missing(u64::MAX).is_empty());
        assert!(missing(1 << 21 | 1 << 19).is_empty());
        assert_eq!(missing(1 << 39 | 1 << 38).len(), 1);
    }
}
