//! Every map and global of the object, and the one way to each.
//!
//! Values are handed out as `&'static mut`. The kernel frees a value no sooner than the programs
//! that may hold it have ended, and the verifier proves each access to be inside it. A process's
//! value may be in the hands of several CPUs, and a fault taken by a walk's own read finds its
//! thread's value in use: what both write is a whole word that either may win, or `pending`,
//! which has a lock (see [`crate::emit`]).

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use memprof_common::{
    Fault, ImageKey, KernelConfig, KnownImage, LayoutOffer, Loss, Process, Thread, WatchedSpace,
    Watches,
    config::{FAULT_SLOTS, MAX_CPUS, RING_BYTES, SPACE_SLOTS},
    records::{self, CODE_OBJECT_BYTES, Growth, LINETABLE_BYTES, RawFrame},
    walk::MAX_FRAMES,
    watch::count_key,
};

use crate::memory::{Buffer, UserWindow};

/// Offsets into kernel structures. Read with `read_volatile`, so that the verifier, not the
/// compiler, sees the values that the loader put there.
#[unsafe(no_mangle)]
pub static CONFIG: KernelConfig = KernelConfig {
    task_mm: 0,
    task_pid: 0,
    task_tgid: 0,
    task_exit_code: 0,
    task_signal: 0,
    signal_live: 0,
    task_fsbase: 0,
    mm_rss_stat: 0,
    mm_brk: 0,
    percpu_counter_size: 0,
    percpu_counter_count: 0,
    percpu_counter_counters: 0,
    bpf_array_pptrs: 0,
    cpus: 0,
    follow_forks: 0,
    no_shortcut: 0,
    task_flags: 0,
    task_files: 0,
    files_fdt: 0,
    fdtable_max_fds: 0,
    fdtable_fd: 0,
    file_inode: 0,
    inode_ino: 0,
    inode_sb: 0,
    super_dev: 0,
    mm_exe_file: 0,
    mm_start_code: 0,
    mm_context_id: 0,
    super_magic: 0,
    vma_end: 0,
    large_folios: 0,
    vma_start: 0,
    wakeup_bytes: 0,
    native: 0,
    file_dentry: 0,
    dentry_name: 0,
};

/// One field of [`CONFIG`] as a constant for the verifier.
macro_rules! config {
    ($field:ident) => {
        $crate::maps::constant(&raw const $crate::maps::CONFIG.$field)
    };
}
pub(crate) use config;

/// Reads a field of [`CONFIG`] as the loader set it.
#[inline(always)]
pub fn constant(field: *const u32) -> u32 {
    // SAFETY: only `config!` calls this, with the address of a field.
    unsafe { core::ptr::read_volatile(field) }
}

/// All records, in the order in which they happened on each address space. The loader may give it
/// another size.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// Traced processes, by pid.
#[map]
pub static PROCESSES: HashMap<u32, Process> = HashMap::with_max_entries(8192, 0);

/// Layouts that the user side found after an exec, or after greenlet was loaded, by pid.
#[map]
pub static LAYOUTS: HashMap<u32, LayoutOffer> = HashMap::with_max_entries(1024, 0);

/// Interpreters by file, written by the user side.
#[map]
pub static IMAGES: HashMap<ImageKey, KnownImage> = HashMap::with_max_entries(256, 0);

/// Threads of traced processes, by tid.
#[map]
pub static THREADS: HashMap<u32, Thread> = HashMap::with_max_entries(32768, 0);

/// Watched functions of traced processes, by pid.
#[map]
pub static WATCHES: HashMap<u32, Watches> = HashMap::with_max_entries(8192, 0);

/// Reference counts of their code objects as last seen, by [`memprof_common::watch::count_key`].
#[map]
pub static COUNTS: HashMap<u64, u32> = HashMap::with_max_entries(32768, 0);

/// Of which of its process's watched functions a thread has a watchpoint: a bit each, by tid.
#[map]
pub static ARMED: HashMap<u32, u32> = HashMap::with_max_entries(32768, 0);

/// The faults that threads are in, by tid modulo [`FAULT_SLOTS`].
#[map]
pub static FAULTS: Array<Fault> = Array::with_max_entries(FAULT_SLOTS, 0);

/// Address spaces of traced processes, by their number: an array, since every change of RSS on
/// the machine looks here.
#[map]
pub static SPACES: Array<WatchedSpace> = Array::with_max_entries(SPACE_SLOTS, 0);

/// Pid of the process that was last to stop sharing a page; see [`crate::unshare`].
#[map]
pub static UNSHARER: Array<u32> = Array::with_max_entries(1, 0);

/// A stack that the user side has, and what tells that it is still the same.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct SeenStack {
    /// The id by which the user side has it.
    pub id: u64,
    /// The generation of the interpreter's code objects, or what identifies the innermost one.
    pub witness: u64,
    /// How often it was seen since all of its code objects were looked at.
    pub seen: u32,
    /// How often it may be seen until they are looked at again; 0: each time.
    pub trusted: u32,
}

/// Stacks already sent: by what was walked, and by id. An evicted one is sent again.
#[map]
pub static STACKS: LruHashMap<u64, SeenStack> = LruHashMap::with_max_entries(131072, 0);

/// What a thread had last.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct LastStack {
    /// The thread.
    pub tid: u32,
    /// [`records::flag::GREENLET`] while it runs a greenlet that is not its main one. Kept here
    /// during a walk, where the verifier does not follow it.
    pub flags: u32,
    /// Address of its `PyThreadState`; 0: not known.
    pub thread_state: u64,
    /// Hash of what was walked.
    pub walked: u64,
    pub stack: SeenStack,
    /// What [`memprof_common::walk::greenlet_state`] gave; 0: nothing yet.
    pub greenlets: u64,
}

/// Each thread's last stack, by tid modulo [`FAULT_SLOTS`]: an array's lookup is an addition.
/// Threads whose tids collide take it from each other. What they then find by chance is not taken for
/// their own: a thread state names its thread, and what was walked is of one process.
#[map]
pub static LAST_STACKS: Array<LastStack> = Array::with_max_entries(FAULT_SLOTS, 0);

/// Key of [`CODES`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CodeKey {
    pub pid: u32,
    pub generation: u32,
    pub address: u64,
}

/// A code object that the user side has.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SentCode {
    /// What identifies it.
    pub identity: u64,
    /// 1: it was made at run time, or stands where another one was.
    pub fleeting: u64,
}

/// Code objects already sent.
#[map]
pub static CODES: LruHashMap<CodeKey, SentCode> = LruHashMap::with_max_entries(65536, 0);

/// Loss counters, indexed by [`Loss`].
#[map]
pub static LOSS: PerCpuArray<u64> = PerCpuArray::with_max_entries(16, 0);

/// A record of the ring as it lies in memory: its head, and right after it as much of the tail
/// as is in use.
#[repr(C)]
pub struct WithTail<H, T, const N: usize> {
    pub head: H,
    pub tail: [T; N],
}

/// Buffers too large for the 512-byte stack. The hooks that use them run with preemption off,
/// so one a CPU is enough. A per-CPU value may have 32 KiB (`PCPU_MIN_UNIT_SIZE`).
#[repr(C)]
pub struct Scratch {
    pub window: UserWindow,
    pub code_object: Buffer<CODE_OBJECT_BYTES>,
    pub stack: WithTail<records::Stack, RawFrame, { MAX_FRAMES as usize }>,
    pub code: WithTail<records::Code, u8, LINETABLE_BYTES>,
    /// Mixed from what identifies the code objects of the stack.
    pub identities: u64,
    /// 1: one of them is [`SentCode::fleeting`].
    pub fleeting: u64,
}

const _: () = assert!(size_of::<Scratch>() <= 32 << 10);

/// The growth for which a stack is walked.
#[map]
pub static GROWTH: PerCpuArray<Growth> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Distances from a per-CPU pointer to each CPU's copy; see [`crate::kernel`].
#[repr(C)]
pub struct CpuOffsets {
    pub ready: u64,
    /// Where a pointer becomes a number.
    pub cell: u64,
    pub offsets: [u64; MAX_CPUS as usize],
}

#[map]
pub static CPU_OFFSETS: Array<CpuOffsets> = Array::with_max_entries(1, 0);

/// A per-CPU variable whose addresses on all CPUs are known to helpers.
#[map]
pub static CPU_PROBE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The value that a lookup gave.
#[inline(always)]
fn value<T>(found: Option<*mut T>) -> Option<&'static mut T> {
    // SAFETY: found in a map by its own lookup, so it is a whole and initialised `T`, there
    // until this program ends; who else may use it stands at the head of this module.
    found.map(|value| unsafe { &mut *value })
}

/// A traced process.
#[inline(always)]
pub fn process(pid: u32) -> Option<&'static mut Process> {
    value(PROCESSES.get_ptr_mut(pid))
}

/// The process whose memory a traced process uses, and its pid: its own, but for a child of
/// vfork that has not executed a program yet.
#[inline(always)]
pub fn memory_of(pid: u32) -> Option<(&'static mut Process, u32)> {
    let own = process(pid)?;
    match own.borrows {
        0 => Some((own, pid)),
        owner => Some((process(owner)?, owner)),
    }
}

/// A traced thread with [`memory_of`] its process, and the pid that this gives.
#[inline(always)]
pub fn traced_thread(
    pid_tgid: u64,
) -> Option<(&'static mut Thread, &'static mut Process, (u32, u32))> {
    let (pid, tid) = ((pid_tgid >> 32) as u32, pid_tgid as u32);
    let thread = thread(tid)?;
    let (process, pid) = memory_of(pid)?;
    Some((thread, process, (pid, tid)))
}

/// An entry of [`SPACES`].
#[inline(always)]
pub fn space(number: u64) -> Option<&'static mut WatchedSpace> {
    value(SPACES.get_ptr_mut(number as u32 % SPACE_SLOTS))
}

/// See [`UNSHARER`].
#[inline(always)]
pub fn unsharer() -> Option<&'static mut u32> {
    value(UNSHARER.get_ptr_mut(0))
}

/// A thread of a traced process.
#[inline(always)]
pub fn thread(tid: u32) -> Option<&'static mut Thread> {
    value(THREADS.get_ptr_mut(tid))
}

/// The watched functions of a process.
#[inline(always)]
pub fn watches(pid: u32) -> Option<&'static Watches> {
    value(WATCHES.get_ptr_mut(pid)).map(|watches| &*watches)
}

/// The count of one of them.
#[inline(always)]
pub fn count(pid: u32, slot: usize) -> Option<&'static mut u32> {
    value(COUNTS.get_ptr_mut(count_key(pid, slot)))
}

/// Of which of them a thread has a watchpoint.
#[inline(always)]
pub fn armed(tid: u32) -> Option<u32> {
    value(ARMED.get_ptr_mut(tid)).map(|armed| *armed)
}

/// Where the fault of a thread is kept; None for a thread that is surely not traced.
#[inline(always)]
pub fn fault(tid: u32) -> Option<&'static mut Fault> {
    fault_slot(tid).filter(|fault| fault.watched != 0)
}

/// The same, for threads yet to be traced.
#[inline(always)]
pub fn fault_slot(tid: u32) -> Option<&'static mut Fault> {
    value(FAULTS.get_ptr_mut(tid % FAULT_SLOTS))
}

/// The interpreter that this file is.
#[inline(always)]
pub fn known_image(key: &ImageKey) -> Option<&'static KnownImage> {
    value(IMAGES.get_ptr_mut(key)).map(|image| &*image)
}

/// The layout that the user side offers to a process.
#[inline(always)]
pub fn layout_offer(pid: u32) -> Option<&'static LayoutOffer> {
    value(LAYOUTS.get_ptr_mut(pid)).map(|offer| &*offer)
}

/// What the user side has of a stack, by what was walked or by id.
#[inline(always)]
pub fn seen_stack(hash: u64) -> Option<&'static mut SeenStack> {
    value(STACKS.get_ptr_mut(hash))
}

/// The last stack of a thread.
#[inline(always)]
pub fn last_stack(tid: u32) -> Option<&'static mut LastStack> {
    let last = value(LAST_STACKS.get_ptr_mut(tid % FAULT_SLOTS))?;
    if last.tid != tid {
        *last = LastStack {
            tid,
            ..LastStack::default()
        };
    }
    Some(last)
}

/// The code object that was sent for this key.
#[inline(always)]
pub fn sent_code(key: CodeKey) -> Option<SentCode> {
    value(CODES.get_ptr_mut(key)).map(|code| *code)
}

/// This CPU's buffers.
#[inline(always)]
pub fn scratch() -> Option<&'static mut Scratch> {
    value(SCRATCH.get_ptr_mut(0))
}

/// See [`GROWTH`].
#[inline(always)]
pub fn growth() -> Option<&'static mut Growth> {
    value(GROWTH.get_ptr_mut(0))
}

/// Distances between the CPUs' copies; all zero until found.
#[inline(always)]
pub fn cpu_offsets() -> Option<&'static mut CpuOffsets> {
    value(CPU_OFFSETS.get_ptr_mut(0))
}

/// Counts one loss.
#[inline(always)]
pub fn lose(loss: Loss) {
    if let Some(counter) = value(LOSS.get_ptr_mut(loss as u32)) {
        *counter += 1;
    }
}
