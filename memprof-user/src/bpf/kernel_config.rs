//! Fills in the kernel side's configuration for the running kernel.

use memprof_common::{KernelConfig, config::MAX_CPUS};

use super::btf::{KernelTypes, VMLINUX};
use crate::error::{Error, Exit, Result};

/// What the user decides about the kernel side.
#[derive(Clone, Copy, Debug)]
pub struct KernelOptions {
    /// Trace children of traced processes.
    pub follow_forks: bool,
    /// Walk at every event, without the rep shortcut.
    pub no_shortcut: bool,
    /// Growth tells its machine instruction.
    pub native: bool,
    /// Size of the ring buffer in bytes: a power of two, whole pages.
    pub ring_bytes: u32,
}

fn possible_cpus() -> u32 {
    // "0-3" or "0-3,8-11": the highest number counts, as ids index the counters.
    std::fs::read_to_string("/sys/devices/system/cpu/possible")
        .ok()
        .and_then(|list| {
            list.trim()
                .rsplit([',', '-'])
                .next()
                .and_then(|last| last.parse::<u32>().ok())
        })
        .map_or(1, |last| last + 1)
}

/// Where the kernel says of which sizes it makes anonymous folios: a folder a size.
const FOLIO_SIZES: &str = "/sys/kernel/mm/transparent_hugepage";

/// True when anonymous memory may come in folios between a page and a huge page (2048 kB), now or
/// in a range that asks for it (Documentation/admin-guide/mm/transhuge.rst).
fn has_large_folios() -> bool {
    let enabled = |folder: std::path::PathBuf| {
        let choice = std::fs::read_to_string(folder.join("enabled"));
        choice.is_ok_and(|choice| !choice.contains("[never]"))
    };
    let Ok(folders) = std::fs::read_dir(FOLIO_SIZES) else {
        return false;
    };
    folders.flatten().any(|folder| {
        let name = folder.file_name();
        let name = name.to_string_lossy();
        name.starts_with("hugepages-") && name != "hugepages-2048kB" && enabled(folder.path())
    })
}

/// Offsets of the running kernel.
pub fn kernel_config(options: KernelOptions) -> Result<KernelConfig> {
    let unsupported = |cause: String| {
        Error::failed(
            "this kernel cannot be traced",
            cause,
            "use a kernel 6.2 or newer for x86-64 with CONFIG_DEBUG_INFO_BTF=y; see: ls /sys/kernel/btf/vmlinux; uname -r",
        )
        .with_exit(Exit::Unsupported)
    };
    let data = std::fs::read(VMLINUX).map_err(|e| unsupported(format!("{VMLINUX} (BTF): {e}")))?;
    let types =
        KernelTypes::parse(data).ok_or_else(|| unsupported(format!("{VMLINUX} is damaged")))?;
    let offset = |structure: &str, member: &str| {
        types.offset_of(structure, member).ok_or_else(|| {
            unsupported(format!("its `struct {structure}` has no member `{member}`"))
        })
    };
    let cpus = possible_cpus();
    Ok(KernelConfig {
        task_mm: offset("task_struct", "mm")?,
        task_pid: offset("task_struct", "pid")?,
        task_tgid: offset("task_struct", "tgid")?,
        task_exit_code: offset("task_struct", "exit_code")?,
        task_signal: offset("task_struct", "signal")?,
        signal_live: offset("signal_struct", "live")?,
        task_fsbase: offset("task_struct", "thread.fsbase")?,
        mm_rss_stat: offset("mm_struct", "rss_stat")?,
        mm_brk: offset("mm_struct", "brk")?,
        percpu_counter_size: types
            .size_of("percpu_counter")
            .ok_or_else(|| unsupported("it has no `struct percpu_counter`".into()))?,
        percpu_counter_count: offset("percpu_counter", "count")?,
        percpu_counter_counters: offset("percpu_counter", "counters")?,
        bpf_array_pptrs: offset("bpf_array", "pptrs")?,
        // With more CPUs than that the kernel side reads the part that they share alone.
        cpus: if cpus > MAX_CPUS { 0 } else { cpus },
        follow_forks: options.follow_forks as u32,
        no_shortcut: options.no_shortcut as u32,
        task_flags: offset("task_struct", "flags")?,
        task_files: offset("task_struct", "files")?,
        files_fdt: offset("files_struct", "fdt")?,
        fdtable_max_fds: offset("fdtable", "max_fds")?,
        fdtable_fd: offset("fdtable", "fd")?,
        file_inode: offset("file", "f_inode")?,
        inode_ino: offset("inode", "i_ino")?,
        inode_sb: offset("inode", "i_sb")?,
        super_dev: offset("super_block", "s_dev")?,
        mm_exe_file: offset("mm_struct", "exe_file")?,
        mm_start_code: offset("mm_struct", "start_code")?,
        mm_context_id: offset("mm_struct", "context.ctx_id")?,
        super_magic: offset("super_block", "s_magic")?,
        vma_end: offset("vm_area_struct", "vm_end")?,
        large_folios: has_large_folios() as u32,
        vma_start: offset("vm_area_struct", "vm_start")?,
        // Time for the reader to come: seven eighths of the ring.
        wakeup_bytes: options.ring_bytes / 8,
        native: options.native as u32,
    })
}
