//! Facts about the current task and its memory, read from kernel structures by the offsets that
//! the loader took from the kernel's BTF.

use aya_ebpf::helpers::generated::{
    bpf_get_current_task_btf, bpf_map_lookup_percpu_elem, bpf_probe_read_kernel, bpf_task_pt_regs,
};
use memprof_common::{Process, records::member};

use crate::maps::{CPU_OFFSETS, CPU_PROBE, CpuOffsets, MAX_CPUS, config};

/// x86-64 `struct pt_regs` (arch/x86/include/asm/ptrace.h): fixed by the system-call ABI.
pub mod regs {
    pub const R10: usize = 56;
    pub const CX: usize = 88;
    pub const DX: usize = 96;
    pub const SI: usize = 104;
    pub const DI: usize = 112;
    pub const ORIG_AX: usize = 120;
    pub const IP: usize = 128;
    pub const SP: usize = 152;
}

/// A field at a constant offset of a BTF-typed pointer.
#[inline(always)]
pub unsafe fn field<T: Copy>(base: *const u8, offset: usize) -> T {
    unsafe { *base.add(offset).cast::<T>() }
}

/// The current `task_struct`.
#[inline(always)]
pub fn current() -> *const u8 {
    unsafe { bpf_get_current_task_btf() as *const u8 }
}

/// `mm_struct` of a task.
#[inline(always)]
pub fn mm_of(task: *const u8) -> *const u8 {
    unsafe { field(task, config!(task_mm) as usize) }
}

/// True from the moment at which the thread begins to end: `PF_EXITING` (include/linux/sched.h).
#[inline(always)]
pub fn exiting(task: *const u8) -> bool {
    unsafe { field::<u32>(task, config!(task_flags) as usize) & 0x4 != 0 }
}

/// Base of the thread's TLS block.
#[inline(always)]
pub fn thread_pointer(task: *const u8) -> u64 {
    unsafe { field(task, config!(task_fsbase) as usize) }
}

/// True while the task is inside a system call; a fault in user mode leaves -1 there.
#[inline(always)]
pub fn in_system_call(task: *const u8) -> bool {
    let regs = unsafe { bpf_task_pt_regs(task as *mut _) } as *const u8;
    unsafe { field::<i64>(regs, regs::ORIG_AX) != -1 }
}

/// The distance from a per-CPU pointer to each CPU's copy.
#[inline(always)]
fn cpu_offsets() -> Option<*mut CpuOffsets> {
    let offsets = CPU_OFFSETS.get_ptr_mut(0)?;
    if unsafe { (*offsets).ready } == 0 && find_cpu_offsets(offsets) == 0 {
        return None;
    }
    Some(offsets)
}

/// Turns a pointer into a number by a trip through memory: the verifier forbids arithmetic on
/// the address of a map or between map values.
#[inline(always)]
unsafe fn number_of(pointer: u64, cell: *mut u64) -> u64 {
    unsafe {
        core::ptr::write_volatile(cell, pointer);
        core::ptr::read_volatile(cell)
    }
}

/// Finds the offsets, once; 0 when it cannot.
///
/// The kernel keeps them in `__per_cpu_offset`, which kallsyms need not list. A per-CPU array map
/// shows both ends: `bpf_array.pptrs[0]` is the per-CPU pointer and the lookup helper gives each
/// CPU's address.
#[inline(never)]
fn find_cpu_offsets(offsets: *mut CpuOffsets) -> u32 {
    unsafe {
        let cell = &raw mut (*offsets).cell;
        let map = &raw const CPU_PROBE as *const u8;
        let pptrs = number_of(map as u64, cell) + config!(bpf_array_pptrs) as u64;
        let mut pointer = 0u64;
        if bpf_probe_read_kernel((&raw mut pointer).cast(), 8, pptrs as *const _) != 0 {
            return 0;
        }
        let key = 0u32;
        let cpus = config!(cpus);
        for cpu in 0..MAX_CPUS as u32 {
            if cpu >= cpus {
                break;
            }
            let copy = bpf_map_lookup_percpu_elem(map as *mut _, (&raw const key).cast(), cpu);
            if copy.is_null() {
                return 0;
            }
            let address = number_of(copy as u64, cell);
            (*offsets).offsets[cpu as usize] = address.wrapping_sub(pointer);
        }
        (*offsets).ready = 1;
    }
    1
}

/// Resident pages of one member of an address space: the exact sum of `percpu_counter`, or its
/// shared part alone on machines with more than [`MAX_CPUS`] CPUs.
#[inline(always)]
pub fn resident_pages(mm: *const u8, which: u32) -> i64 {
    let size = config!(percpu_counter_size) as usize;
    // The verifier wants a constant offset into mm_struct: one branch a member.
    let index = match which {
        member::FILE => 0,
        member::ANON => size,
        member::SHMEM => 3 * size,
        _ => return 0,
    };
    let counter = config!(mm_rss_stat) as usize + index;
    unsafe {
        let mut pages: i64 = field(mm, counter + config!(percpu_counter_count) as usize);
        let counters: u64 = field(mm, counter + config!(percpu_counter_counters) as usize);
        let cpus = config!(cpus);
        let Some(offsets) = cpu_offsets() else {
            return pages;
        };
        for cpu in 0..MAX_CPUS as u32 {
            if cpu >= cpus {
                break;
            }
            let mut part = 0i32;
            let address = counters.wrapping_add((*offsets).offsets[cpu as usize]);
            bpf_probe_read_kernel((&raw mut part).cast(), 4, address as *const _);
            pages += part as i64;
        }
        pages
    }
}

/// Takes the address space's counts as they are: what follows is growth.
#[inline(always)]
pub fn count_from(process: *mut Process, mm: *const u8) -> [i64; member::COUNT] {
    let pages = [
        resident_pages(mm, member::FILE),
        resident_pages(mm, member::ANON),
        0,
        resident_pages(mm, member::SHMEM),
    ];
    unsafe {
        (*process).mm = mm as u64;
        (*process).rss_pages = pages;
    }
    pages
}
