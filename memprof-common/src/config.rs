//! What the user side hands to the kernel side: kernel offsets, and the map values that both
//! read and write.

use crate::HUGE_PAGE_BYTES;
use crate::layout::PythonLayout;
use crate::records::{Growth, Header, kind, member};

/// Offsets into the running kernel's structures, from its BTF, in bytes; a read-only global of
/// the object (`CONFIG`), so that the verifier sees constants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct KernelConfig {
    /// `task_struct.mm`
    pub task_mm: u32,
    /// `task_struct.pid`
    pub task_pid: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `task_struct.exit_code`
    pub task_exit_code: u32,
    /// `task_struct.signal`
    pub task_signal: u32,
    /// `signal_struct.live`
    pub signal_live: u32,
    /// `task_struct.thread.fsbase` (x86-64)
    pub task_fsbase: u32,
    /// `mm_struct.rss_stat`
    pub mm_rss_stat: u32,
    /// `mm_struct.brk`
    pub mm_brk: u32,
    /// `sizeof(struct percpu_counter)`
    pub percpu_counter_size: u32,
    /// `percpu_counter.count`
    pub percpu_counter_count: u32,
    /// `percpu_counter.counters`
    pub percpu_counter_counters: u32,
    /// `bpf_array.pptrs`
    pub bpf_array_pptrs: u32,
    /// Possible CPUs: how many counters are summed.
    pub cpus: u32,
    /// 1: children of traced processes are traced too.
    pub follow_forks: u32,
    /// 1: never skip a walk by the rep shortcut (a checking mode).
    pub no_shortcut: u32,
    /// `task_struct.flags`
    pub task_flags: u32,
    /// `task_struct.files`
    pub task_files: u32,
    /// `files_struct.fdt`
    pub files_fdt: u32,
    /// `fdtable.max_fds`
    pub fdtable_max_fds: u32,
    /// `fdtable.fd`
    pub fdtable_fd: u32,
    /// `file.f_inode`
    pub file_inode: u32,
    /// `inode.i_ino`
    pub inode_ino: u32,
    /// `inode.i_sb`
    pub inode_sb: u32,
    /// `super_block.s_dev`
    pub super_dev: u32,
    /// `mm_struct.exe_file`
    pub mm_exe_file: u32,
    /// `mm_struct.start_code`
    pub mm_start_code: u32,
    /// `mm_struct.context.ctx_id` (x86-64): a number that no other address space ever has
    pub mm_context_id: u32,
    /// `super_block.s_magic`
    pub super_magic: u32,
    /// `vm_area_struct.vm_end`
    pub vma_end: u32,
    /// 1: one fault may bring an anonymous folio between a page and a huge page (mTHP), so that
    /// every count has to be exact.
    pub large_folios: u32,
    /// `vm_area_struct.vm_start`
    pub vma_start: u32,
    /// Bytes waiting in the ring above which growth wakes the reader too.
    pub wakeup_bytes: u32,
    /// 1: growth tells the machine instruction that made it.
    pub native: u32,
}
const _: () = assert!(size_of::<KernelConfig>() == 136);

/// Size of the ring buffer in bytes, unless the user wants another.
pub const RING_BYTES: u32 = 16 << 20;

/// A range that grows fault by fault, not yet sent. One a process, so that whoever changes the
/// address space can send it first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Pending {
    /// First byte.
    pub start: u64,
    /// One past the last byte; a fault here continues the range.
    pub end: u64,
    /// Stack id.
    pub stack: u64,
    /// [`Growth::ip`]
    pub ip: u64,
    /// Time of one of the last 16 faults.
    pub time_ns: u64,
    /// Thread. 0: nothing pending.
    pub tid: u32,
    /// Pages.
    pub pages: u32,
    /// Kernel events merged.
    pub events: u32,
    /// [`member`].
    pub member: u32,
    /// `Header::op`.
    pub op: u32,
    /// `Header::flags`.
    pub flags: u32,
    /// Registers at the last fault, when it was one in user mode.
    pub rep: RepState,
}

impl Pending {
    /// The record that this range becomes.
    #[inline(always)]
    pub fn growth(&self, pid: u32) -> Growth {
        Growth {
            header: Header {
                kind: kind::GROWTH,
                op: self.op as u16,
                pid,
                tid: self.tid,
                flags: self.flags,
                time_ns: self.time_ns,
            },
            start: self.start,
            end: self.end,
            stack: self.stack,
            ip: self.ip,
            pages: self.pages,
            events: self.events,
            member: self.member,
            _padding: 0,
        }
    }
}

/// Value of the `PROCESSES` map, keyed by pid (tgid): one a traced process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Process {
    /// Where Python keeps its frames. Written by the user side, copied at fork.
    pub layout: PythonLayout,
    /// Address of its `mm_struct`, as a mere number; 0 until the first fault
    /// or call tells it. Events of
    /// another one (a child being forked, a program being executed) are not this process's.
    pub mm: u64,
    /// Resident pages by member after the last event.
    pub rss_pages: [i64; member::COUNT],
    /// The shared part of the kernel's count of anonymous pages after the last event. A huge page
    /// always goes there, so while it stands still, pages came one by one.
    pub anon_shared: i64,
    /// Address of the last instruction that was looked at.
    pub looked_at: u64,
    /// The same when it is a byte-wise `rep stos`/`rep movs`, else 0.
    pub rep_ip: u64,
    /// The range not yet sent.
    pub pending: Pending,
    /// 1 while a CPU works on `pending`.
    pub lock: u32,
    /// Goes into ids of stacks; another one for each fork and exec, so that a reused pid or a new
    /// program never meets an old stack.
    pub generation: u32,
    /// Number of its address space (`mm_struct.context.ctx_id`); 0 when `mm` is.
    pub mm_id: u64,
    /// Pid of the process whose address space this one uses (vfork); 0: it has its own.
    pub borrows: u32,
    /// Changes of its count of pages, of any sign; wraps. While it stands still, so does RSS.
    pub events: u32,
    /// Of these, those by a fault, counted when the record is sent; wraps.
    pub faults: u32,
    /// Changes of which neither a fault nor a call says the place (reclaim, truncation, another
    /// process's hand), and records of this process that were lost; wraps. When it moves, only
    /// the page tables know what is resident.
    pub unexplained: u32,
}
const _: () = assert!(size_of::<Process>() == 120 + 8 + 32 + 24 + 96 + 8 + 24);

/// CPUs whose counters are summed at most, a power of two: on larger machines amounts of huge
/// pages and of file pages are coarse.
pub const MAX_CPUS: u32 = 1024;

/// Entries of the `SPACES` map, a power of two.
pub const SPACE_SLOTS: u32 = 1 << 16;

/// Value of the `SPACES` map: whose an address space is. Found by [`Process::mm_id`] modulo
/// [`SPACE_SLOTS`], there or in the next entry: ids count up, so that two meet only when one
/// process has outlived 65536 others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct WatchedSpace {
    /// [`Process::mm_id`]; 0: free.
    pub mm_id: u64,
    /// Its process.
    pub pid: u32,
    /// Keeps the size a multiple of 8.
    pub _padding: u32,
}
const _: () = assert!(size_of::<WatchedSpace>() == 16);

/// Value of the `LAYOUTS` map, keyed by pid: a layout found after the process was traced (it has
/// just been executed), for the kernel side to take over. It writes its own entry in `PROCESSES`
/// itself, so that no count is overwritten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LayoutOffer {
    /// What was found.
    pub layout: PythonLayout,
    /// [`Process::generation`] that it was found in: after another exec it is stale.
    pub generation: u32,
    /// Keeps the size a multiple of 8.
    pub _padding: u32,
}
const _: () = assert!(size_of::<LayoutOffer>() == 128);

/// Key of the `IMAGES` map: a file, as the kernel names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct ImageKey {
    /// `inode.i_ino`
    pub inode: u64,
    /// `super_block.s_dev`: major << 20 | minor.
    pub device: u32,
    /// Keeps the size a multiple of 8.
    pub _padding: u32,
}
const _: () = assert!(size_of::<ImageKey>() == 16);

/// Value of the `IMAGES` map: the file of an interpreter, so that the kernel side knows it at
/// the moment at which a process maps it, before its first Python frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct KnownImage {
    /// The layout of a process that maps the file at base 0: its addresses are to be raised by
    /// the base.
    pub layout: PythonLayout,
    /// Address of the code segment (the lowest executable PT_LOAD) in the file's own address
    /// space.
    pub code_address: u64,
    /// Offset of that segment in the file.
    pub code_offset: u64,
    /// 1: the file only runs at its own addresses (ET_EXEC), base 0.
    pub fixed: u32,
    /// Keeps the size a multiple of 8.
    pub _padding: u32,
}
const _: () = assert!(size_of::<KnownImage>() == 120 + 24);

impl KnownImage {
    /// The layout of a process that maps the file at `base`.
    #[inline(always)]
    pub fn layout_at(&self, base: u64) -> PythonLayout {
        self.layout.moved(base)
    }
}

/// The registers that tell whether two faults come from the same instance of one `rep`
/// instruction (x86-64).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RepState {
    /// Address of the instruction.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// `rdi + rcx` (stosb, movsb): one past the last byte to write.
    pub end: u64,
    /// Bytes left.
    pub left: u64,
}

/// Entries of the `FAULTS` map, a power of two; a thread's is its tid modulo this.
pub const FAULT_SLOTS: u32 = 1 << 16;

/// Values of [`Fault::kind`].
pub mod fault {
    /// No fault since the last growth was placed.
    pub const NONE: u32 = 0;
    /// A fault in user mode.
    pub const USER: u32 = 1;
    /// A fault the kernel took for the program.
    pub const KERNEL: u32 = 2;
}

/// The error code of a page fault on x86-64 (`enum x86_pf_error_code`, asm/trap_pf.h).
pub mod error_code {
    /// The page was there: its protection forbade the access.
    pub const PROTECTION: u32 = 1;
    /// It was a write.
    pub const WRITE: u32 = 2;
}

/// Value of the `FAULTS` map: the fault a thread is in.
///
/// An array, since the verifier turns its lookup into an addition, while every fault of every
/// process on the machine pays for a look into a hash map. Threads whose tids collide share an
/// entry: who finds another's tid in it does not know the place of its growth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Fault {
    /// 1 once a traced thread has had this entry: until then nobody else looks further.
    pub watched: u32,
    /// Whose fault it is.
    pub tid: u32,
    /// One of [`fault`].
    pub kind: u32,
    /// The processor's error code: bits of [`error_code`].
    pub error_code: u32,
    /// Its address.
    pub address: u64,
    /// Page of a write to a protected page, until its fault is over: growth, if the count of
    /// anonymous pages rises; otherwise the page stopped being shared (copy-on-write), as the
    /// thread's next event shows. 0: none.
    pub written_page: u64,
    /// `walk_result` of the walk at that write; its stack is `written_stack`.
    pub written_op: u32,
    /// 1 when the kernel took that fault for the program.
    pub written_in_kernel: u32,
    /// See `written_op`.
    pub written_stack: u64,
    /// [`Growth::ip`] of that write.
    pub written_ip: u64,
}
const _: () = assert!(size_of::<Fault>() == 56);

/// Value of the `THREADS` map, keyed by tid: one a thread of a traced process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Thread {
    /// Its process.
    pub pid: u32,
    /// System call under way that changes the address space, as number + 1. 0: none.
    pub syscall: u32,
    /// Its first four arguments.
    pub arguments: [u64; 4],
    /// First byte of the range that it was announced to take away.
    pub announced_start: u64,
    /// Bytes of it; 0: none was announced.
    pub announced_len: u64,
    /// Pages by member that became resident inside it without a fault (populate).
    pub populated_pages: [u32; member::COUNT],
    /// [`Process::faults`] when it was announced.
    pub faults: u32,
    /// The greenlet that its marks are of from now on; 0: none.
    pub lane: u32,
    /// Marked calls that it is in, but for those of greenlets.
    pub depth: u32,
    /// Keeps the size a multiple of 8.
    pub _padding: u32,
}
const _: () = assert!(size_of::<Thread>() == 8 + 32 + 16 + 16 + 16);

/// `mremap` (arch/x86/entry/syscalls/syscall_64.tbl).
pub const MREMAP: u32 = 25;

impl Thread {
    /// It is inside a call that takes pages away in a place that the call's records tell: an
    /// announced range, or what mremap moves onto. `huge`: a huge page goes, of which the range
    /// may be a part only.
    #[inline(always)]
    pub fn takes_away(&self, huge: bool) -> bool {
        let edges = self.announced_start | self.announced_start.wrapping_add(self.announced_len);
        if huge && edges & (HUGE_PAGE_BYTES - 1) != 0 {
            return false;
        }
        self.announced_len != 0 || self.syscall == MREMAP + 1
    }
}
