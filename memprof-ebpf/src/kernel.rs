//! Facts about the current task and its memory, read from kernel structures by the offsets that
//! the loader took from the kernel's BTF.

use core::{ffi::c_void, ops::ControlFlow};

use aya_ebpf::{
    helpers::generated::{
        bpf_find_vma, bpf_get_current_task_btf, bpf_map_lookup_percpu_elem, bpf_probe_read_kernel,
        bpf_task_pt_regs,
    },
    programs::BtfTracePointContext,
};
use memprof_common::{ImageKey, Loss, Process, WatchedSpace, config::MAX_CPUS, records::member};

use crate::{
    maps::{self, CPU_PROBE, CpuOffsets, config, lose},
    repeat::{self, Rounds},
};

/// x86-64 `struct pt_regs` (arch/x86/include/asm/ptrace.h): fixed by the system-call ABI.
pub mod regs {
    pub const R10: usize = 56;
    pub const R9: usize = 64;
    pub const R8: usize = 72;
    pub const CX: usize = 88;
    pub const DX: usize = 96;
    pub const SI: usize = 104;
    pub const DI: usize = 112;
    pub const ORIG_AX: usize = 120;
    pub const IP: usize = 128;
    pub const SP: usize = 152;
}

/// A pointer to a kernel structure whose type the verifier knows from BTF.
#[derive(Clone, Copy)]
pub struct Structure(*const u8);

impl Structure {
    /// Argument `n` of a tracepoint.
    #[inline(always)]
    pub fn argument(ctx: &BtfTracePointContext, n: usize) -> Self {
        Structure(ctx.arg(n))
    }

    /// The field at a constant offset.
    #[inline(always)]
    pub fn field<T: Copy>(self, offset: usize) -> T {
        // SAFETY: the verifier checks type and offset of every load through such a pointer, and
        // the kernel makes a load that faults read zero. `T` is a number or a pointer.
        unsafe { self.0.add(offset).cast::<T>().read() }
    }

    /// The structure that a field points to.
    #[inline(always)]
    pub fn follow(self, offset: usize) -> Self {
        Structure(self.field(offset))
    }

    /// Where it is, as a mere number.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0 as u64
    }

    /// True when there is none.
    #[inline(always)]
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }
}

/// The current `task_struct`.
#[inline(always)]
pub fn current() -> Structure {
    // SAFETY: the helper has no conditions.
    Structure(unsafe { bpf_get_current_task_btf() } as *const u8)
}

/// Pid (the kernel's tgid) and tid (the kernel's pid) of a task, in the initial pid namespace.
#[inline(always)]
pub fn ids_of(task: Structure) -> (u32, u32) {
    let (pid, tid) = (config!(task_tgid), config!(task_pid));
    (task.field(pid as usize), task.field(tid as usize))
}

/// `mm_struct` of a task.
#[inline(always)]
pub fn mm_of(task: Structure) -> Structure {
    task.follow(config!(task_mm) as usize)
}

/// Bits of `task_struct.flags` (include/linux/sched.h).
pub mod task_flag {
    /// `PF_EXITING`: the thread has begun to end.
    pub const EXITING: u32 = 0x4;
    /// `PF_MEMALLOC`: it reclaims memory, for itself (in the middle of a fault, often) or for all.
    pub const MEMALLOC: u32 = 0x800;
}

/// Bits of [`task_flag`].
#[inline(always)]
pub fn task_flags(task: Structure) -> u32 {
    task.field(config!(task_flags) as usize)
}

/// Base of the thread's TLS block.
#[inline(always)]
pub fn thread_pointer(task: Structure) -> u64 {
    task.field(config!(task_fsbase) as usize)
}

/// The registers with which the task last entered the kernel from user mode.
#[inline(always)]
pub fn registers(task: Structure) -> Structure {
    // SAFETY: the helper takes a `task_struct`, which the verifier checks.
    Structure(unsafe { bpf_task_pt_regs(task.0 as *mut _) } as *const u8)
}

/// True inside a system call; a fault in user mode leaves -1 there.
#[inline(always)]
pub fn in_system_call(registers: Structure) -> bool {
    registers.field::<i64>(regs::ORIG_AX) != -1
}

/// What [`Growth::ip`] says of a fault or a call that the task is in, if the user wants to know.
///
/// A call returns to the instruction after it, which may be another function's: the one before
/// that address is meant.
///
/// [`Growth::ip`]: memprof_common::records::Growth::ip
#[inline(always)]
pub fn native_ip(registers: Structure) -> u64 {
    if config!(native) == 0 {
        return 0;
    }
    registers.field::<u64>(regs::IP) - in_system_call(registers) as u64
}

/// Reads kernel memory at an address that is not a typed pointer; None when it is not there.
#[inline(always)]
fn read_kernel<const N: usize>(address: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: the buffer has N bytes; the helper checks the address itself.
    let failed = unsafe {
        bpf_probe_read_kernel(bytes.as_mut_ptr().cast(), N as u32, address as *const _) != 0
    };
    if failed { None } else { Some(bytes) }
}

/// A word of kernel memory; 0 when it is not there.
#[inline(always)]
fn kernel_word(address: u64) -> u64 {
    read_kernel(address).map_or(0, u64::from_ne_bytes)
}

/// A number of four bytes of kernel memory; 0 when it is not there.
#[inline(always)]
fn kernel_int(address: u64) -> u32 {
    read_kernel(address).map_or(0, u32::from_ne_bytes)
}

/// Address of the `struct file` behind a descriptor of the current task; 0 without one.
#[inline(always)]
pub fn file_of_descriptor(task: Structure, descriptor: u64) -> u64 {
    let files = task.follow(config!(task_files) as usize).address();
    let table = kernel_word(files.wrapping_add(config!(files_fdt) as u64));
    if descriptor >= kernel_int(table.wrapping_add(config!(fdtable_max_fds) as u64)) as u64 {
        return 0;
    }
    let entries = kernel_word(table.wrapping_add(config!(fdtable_fd) as u64));
    kernel_word(entries.wrapping_add(descriptor * 8))
}

/// Address of the `struct file` of the program that was executed; 0 without one.
#[inline(always)]
pub fn file_of_program(mm: Structure) -> u64 {
    kernel_word(mm.address().wrapping_add(config!(mm_exe_file) as u64))
}

/// What names a file; None when there is none.
#[inline(always)]
pub fn image_key(file: u64) -> Option<ImageKey> {
    if file == 0 {
        return None;
    }
    let inode = kernel_word(file.wrapping_add(config!(file_inode) as u64));
    if inode == 0 {
        return None;
    }
    let superblock = kernel_word(inode.wrapping_add(config!(inode_sb) as u64));
    Some(ImageKey {
        inode: kernel_word(inode.wrapping_add(config!(inode_ino) as u64)),
        device: kernel_int(superblock.wrapping_add(config!(super_dev) as u64)),
        _padding: 0,
    })
}

/// `super_block.s_magic` of the filesystem that a file is on; 0 when there is no file.
#[inline(always)]
pub fn filesystem_magic(file: u64) -> u64 {
    if file == 0 {
        return 0;
    }
    let inode = kernel_word(file.wrapping_add(config!(file_inode) as u64));
    if inode == 0 {
        return 0;
    }
    let superblock = kernel_word(inode.wrapping_add(config!(inode_sb) as u64));
    kernel_word(superblock.wrapping_add(config!(super_magic) as u64))
}

/// What [`mapping_at`] hands to the kernel and back.
struct Bounds {
    start: u64,
    end: u64,
}

extern "C" fn note_bounds(_task: *const u8, vma: *const u8, bounds: *mut Bounds) -> i64 {
    let vma = Structure(vma);
    let (start, end) = (
        vma.field(config!(vma_start) as usize),
        vma.field(config!(vma_end) as usize),
    );
    // SAFETY: only `mapping_at` hands this function to the kernel, with its own `Bounds`.
    unsafe {
        (*bounds).start = start;
        (*bounds).end = end;
    }
    0
}

/// The current task's mapping that holds this address: its first byte, and one past its last; None
/// without one, or while another thread changes the address space.
#[inline(always)]
pub fn mapping_at(task: Structure, address: u64) -> Option<(u64, u64)> {
    let mut bounds = Bounds { start: 0, end: 0 };
    // SAFETY: the helper takes a `task_struct`, which the verifier checks; the kernel calls
    // `note_bounds` with `bounds` and is done when the helper returns.
    unsafe {
        bpf_find_vma(
            task.0 as *mut _,
            address,
            note_bounds as *mut c_void,
            (&raw mut bounds).cast(),
            0,
        )
    };
    (bounds.end != 0).then_some((bounds.start, bounds.end))
}

/// The distance from a per-CPU pointer to each CPU's copy.
#[inline(always)]
fn cpu_offsets() -> Option<&'static CpuOffsets> {
    let offsets = maps::cpu_offsets()?;
    if offsets.ready == 0 && find_cpu_offsets(offsets) == 0 {
        return None;
    }
    Some(offsets)
}

/// Turns a pointer into a number by a trip through memory: the verifier forbids arithmetic on
/// the address of a map or between map values.
#[inline(always)]
fn number_of(pointer: u64, cell: &mut u64) -> u64 {
    let cell = &raw mut *cell;
    // SAFETY: both accesses go to the borrowed cell.
    unsafe {
        cell.write_volatile(pointer);
        cell.read_volatile()
    }
}

/// Finds the offsets, once; 0 when it cannot.
///
/// The kernel keeps them in `__per_cpu_offset`, which kallsyms need not list. A per-CPU array map
/// shows both ends: `bpf_array.pptrs[0]` is the per-CPU pointer and the lookup helper gives each
/// CPU's address.
#[inline(never)]
fn find_cpu_offsets(offsets: &mut CpuOffsets) -> u32 {
    let map = &raw const CPU_PROBE;
    let pptrs = number_of(map as u64, &mut offsets.cell) + config!(bpf_array_pptrs) as u64;
    let Some(pointer) = read_kernel(pptrs).map(u64::from_ne_bytes) else {
        return 0;
    };
    let mut copies = Copies {
        offsets,
        pointer,
        missing: false,
    };
    repeat::run(config!(cpus), &mut copies);
    if copies.missing {
        return 0;
    }
    copies.offsets.ready = 1;
    1
}

/// The loop over the CPUs' copies of [`CPU_PROBE`].
struct Copies<'a> {
    offsets: &'a mut CpuOffsets,
    pointer: u64,
    missing: bool,
}

impl Rounds for Copies<'_> {
    #[inline(always)]
    fn round(&mut self, cpu: u32) -> ControlFlow<()> {
        let map = &raw const CPU_PROBE;
        let key = 0u32;
        // SAFETY: the helper takes a per-CPU map and a key of its key's size, and checks `cpu`.
        let copy =
            unsafe { bpf_map_lookup_percpu_elem(map as *mut _, (&raw const key).cast(), cpu) };
        if copy.is_null() {
            self.missing = true;
            return ControlFlow::Break(());
        }
        let address = number_of(copy as u64, &mut self.offsets.cell);
        self.offsets.offsets[(cpu % MAX_CPUS) as usize] = address.wrapping_sub(self.pointer);
        ControlFlow::Continue(())
    }
}

/// CPUs whose counters are read by an ordinary loop: its rounds cost half.
const NEAR_CPUS: u32 = 16;

/// One CPU's part of a count whose per-CPU pointer is `counters`.
#[inline(always)]
fn part_of(offsets: &CpuOffsets, counters: u64, cpu: u32) -> i64 {
    let address = counters.wrapping_add(offsets.offsets[(cpu % MAX_CPUS) as usize]);
    read_kernel(address).map_or(0, i32::from_ne_bytes) as i64
}

/// The loop over the parts of a count, where there are many.
struct Parts<'a> {
    offsets: &'a CpuOffsets,
    counters: u64,
    sum: i64,
}

impl Rounds for Parts<'_> {
    #[inline(always)]
    fn round(&mut self, index: u32) -> ControlFlow<()> {
        self.sum += part_of(self.offsets, self.counters, index + NEAR_CPUS);
        ControlFlow::Continue(())
    }
}

/// Resident pages of one member of an address space: the exact sum of `percpu_counter`, or its
/// shared part alone on machines with more than [`MAX_CPUS`] CPUs.
#[inline(always)]
pub fn resident_pages(mm: Structure, which: u32) -> i64 {
    let size = config!(percpu_counter_size) as usize;
    // The verifier wants a constant offset into mm_struct: one branch a member.
    let index = match which {
        member::FILE => 0,
        member::ANON => size,
        member::SHMEM => 3 * size,
        _ => return 0,
    };
    let counter = config!(mm_rss_stat) as usize + index;
    let mut pages: i64 = mm.field(counter + config!(percpu_counter_count) as usize);
    let counters: u64 = mm.field(counter + config!(percpu_counter_counters) as usize);
    let Some(offsets) = cpu_offsets() else {
        return pages;
    };
    let cpus = config!(cpus);
    for cpu in 0..NEAR_CPUS {
        if cpu >= cpus {
            return pages;
        }
        pages += part_of(offsets, counters, cpu);
    }
    let mut parts = Parts {
        offsets,
        counters,
        sum: pages,
    };
    repeat::run(cpus - NEAR_CPUS, &mut parts);
    parts.sum
}

/// The part of the count of anonymous pages that all CPUs share. A CPU keeps changes for itself
/// until they reach `percpu_counter_batch`, which is 32, or twice the CPUs if that is more
/// (lib/percpu_counter.c).
#[inline(always)]
pub fn shared_anon_pages(mm: Structure) -> i64 {
    let counter = config!(mm_rss_stat) as usize + config!(percpu_counter_size) as usize;
    mm.field(counter + config!(percpu_counter_count) as usize)
}

/// The number of an address space, which no other one ever has.
#[inline(always)]
pub fn space_id(mm: Structure) -> u64 {
    mm.field(config!(mm_context_id) as usize)
}

/// Pid of the traced process whose address space this is.
#[inline(always)]
pub fn watched(mm: Structure) -> Option<u32> {
    let id = space_id(mm);
    for next in 0..2 {
        let space = maps::space(id + next)?;
        if space.mm_id == id {
            return Some(space.pid);
        }
    }
    None
}

/// Enters an address space for [`watched`].
#[inline(always)]
fn watch(id: u64, pid: u32) {
    for next in 0..2 {
        let Some(space) = maps::space(id + next) else {
            return;
        };
        if space.mm_id == 0 || space.mm_id == id {
            *space = WatchedSpace {
                mm_id: id,
                pid,
                _padding: 0,
            };
            return;
        }
    }
    lose(Loss::MapFull);
}

/// Takes it out.
#[inline(always)]
pub fn unwatch(process: &mut Process) {
    let id = process.mm_id;
    process.mm_id = 0;
    if id == 0 {
        return;
    }
    for next in 0..2 {
        let Some(space) = maps::space(id + next) else {
            return;
        };
        if space.mm_id == id {
            space.mm_id = 0;
        }
    }
}

/// Takes the address space's counts as they are: what follows is growth.
#[inline(always)]
pub fn count_from(process: &mut Process, mm: Structure, pid: u32) -> [i64; member::COUNT] {
    process.mm_id = space_id(mm);
    watch(process.mm_id, pid);
    let pages = [
        resident_pages(mm, member::FILE),
        resident_pages(mm, member::ANON),
        0,
        resident_pages(mm, member::SHMEM),
    ];
    process.mm = mm.address();
    process.anon_shared = shared_anon_pages(mm);
    process.rss_pages = pages;
    pages
}

/// Counts a process that was attached to, before the fault or the call that is beginning changes
/// anything. The user side cannot: it knows no `mm_struct`.
#[inline(always)]
pub fn meet(process: &mut Process, pid: u32) {
    if process.mm != 0 {
        return;
    }
    let mm = mm_of(current());
    if !mm.is_null() {
        count_from(process, mm, pid);
    }
}

/// All resident pages of a process, as of its last event.
#[inline(always)]
pub fn all_resident(process: &Process) -> i64 {
    let pages = &process.rss_pages;
    pages[member::FILE as usize] + pages[member::ANON as usize] + pages[member::SHMEM as usize]
}
