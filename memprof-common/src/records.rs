//! The records of the ring buffer. Each begins with a [`Header`]; `kind` names the rest.
//!
//! All integers are in the machine's byte order (both sides run on one machine). Times are
//! `CLOCK_MONOTONIC` nanoseconds. Addresses and lengths are bytes of the target's address space.

use crate::config::ImageKey;

/// Values of [`Header::kind`].
pub mod kind {
    /// [`super::Growth`]
    pub const GROWTH: u16 = 1;
    /// [`super::Stack`], followed by `depth` [`super::RawFrame`]s
    pub const STACK: u16 = 2;
    /// [`super::Code`], followed by `linetable_stored` bytes
    pub const CODE: u16 = 3;
    /// [`super::AddressSpace`]
    pub const ADDRESS_SPACE: u16 = 4;
    /// [`super::Task`]
    pub const TASK: u16 = 5;
    /// [`super::Interpreter`]
    pub const INTERPRETER: u16 = 6;
    /// [`super::Mapping`]
    pub const MAPPING: u16 = 7;
    /// [`super::Mark`]
    pub const MARK: u16 = 8;
    /// [`super::MarkName`]
    pub const MARK_NAME: u16 = 9;
}

/// What every record begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Header {
    /// One of [`kind`].
    pub kind: u16,
    /// Meaning depends on the kind.
    pub op: u16,
    /// Process (the kernel's tgid, initial pid namespace).
    pub pid: u32,
    /// Thread (the kernel's pid).
    pub tid: u32,
    /// Bits of [`flag`].
    pub flags: u32,
    /// When it happened.
    pub time_ns: u64,
}

/// Bits of [`Header::flags`].
pub mod flag {
    /// The interpreter of this process had begun to shut down.
    pub const FINALIZING: u32 = 1;
    /// The stack is cut at the root side: deeper than the limit, or a read failed.
    pub const TRUNCATED: u32 = 2;
    /// Growth taken by the kernel for the program (inside read(), populate, …).
    pub const IN_KERNEL: u32 = 4;
    /// The pages lie somewhere in `[start, end)`, which is larger than they are (fault-around,
    /// populate of a partly resident range).
    pub const WITHIN: u32 = 8;
    /// The place is not known: `start` and `end` are 0, only `pages` counts.
    pub const UNPLACED: u32 = 16;
    /// Not growth: the pages were there, and stopped being shared when they were written.
    pub const UNSHARED: u32 = 32;
    /// Of a [`super::Mapping`]: without access (PROT_NONE), address space kept for later.
    pub const RESERVED: u32 = 64;
    /// Growth by another process's hand (process_vm_writev, ptrace) or by a thread of the kernel's
    /// (khugepaged): `tid` is not one of this process.
    pub const FOREIGN: u32 = 128;
    /// The stack is a greenlet's: it begins where the greenlet does. Not of a thread's main one.
    pub const GREENLET: u32 = 256;
    /// Of a [`super::Mark`]: a call that was suspended (a generator, a coroutine) goes on. It is
    /// not another call.
    pub const RESUMED: u32 = 512;
}

/// Values of `Header::op` of a [`Growth`] or a [`Mapping`]: what the walk found.
pub mod walk_result {
    /// `stack` is valid.
    pub const STACK: u16 = 0;
    /// The process has no Python layout: not Python, or not recognised yet.
    pub const NO_LAYOUT: u16 = 1;
    /// The thread has no `PyThreadState`.
    pub const NO_THREAD_STATE: u16 = 2;
    /// The thread has a `PyThreadState` and no frame: the interpreter's own C code.
    pub const NO_FRAME: u16 = 3;
    /// A read failed before the first frame.
    pub const FAILED: u16 = 4;
}

/// `enum mm_counter` of the kernel (include/linux/mm_types_task.h): what a page counts as.
pub mod member {
    /// MM_FILEPAGES
    pub const FILE: u32 = 0;
    /// MM_ANONPAGES
    pub const ANON: u32 = 1;
    /// MM_SWAPENTS
    pub const SWAP: u32 = 2;
    /// MM_SHMEMPAGES
    pub const SHMEM: u32 = 3;
    /// How many there are.
    pub const COUNT: usize = 4;
}

/// Pages became resident: one fault, or neighbouring faults of one stack merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Growth {
    /// `op`: one of [`walk_result`]. `time_ns`: of one of the last 16 faults merged.
    pub header: Header,
    /// First byte of the first page.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// Id of the stack, 0 without one.
    pub stack: u64,
    /// Address of the machine instruction in the program that touched the pages, or that called
    /// into the kernel which did; 0 when nobody asked ([`crate::KernelConfig::native`]) or when it
    /// is not the program's own doing.
    pub ip: u64,
    /// Pages that became resident; equals `(end - start) / PAGE_BYTES` unless
    /// [`flag::WITHIN`] or [`flag::UNPLACED`] is set. 0 with `WITHIN`: another thread's event has
    /// counted them, so that only their place is told here.
    pub pages: u32,
    /// Events of the kernel that were merged into this record.
    pub events: u32,
    /// One of [`member`].
    pub member: u32,
    /// Keeps the size a multiple of 8.
    pub _padding: u32,
}
const _: () = assert!(size_of::<Growth>() == 72);

/// One frame as the kernel side saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct RawFrame {
    /// Address of the code object in bits 0–55 (tag bits cleared), the frame's owner in 56–63.
    pub code: u64,
    /// The instruction word as CPython keeps it: `f_lasti` (≤ 3.10, low 32 bits) or an address.
    pub instr: u64,
}

impl RawFrame {
    /// Bits of [`RawFrame::code`] that hold the address.
    pub const CODE_MASK: u64 = (1 << 56) - 1;

    /// Address of the code object.
    pub const fn code_address(self) -> u64 {
        self.code & Self::CODE_MASK
    }

    /// `_PyInterpreterFrame.owner`; 0 where the version has none.
    pub const fn owner(self) -> u8 {
        (self.code >> 56) as u8
    }
}

/// A stack seen for the first time. Its frames follow, leaf first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Stack {
    /// `flags`: [`flag::TRUNCATED`], [`flag::GREENLET`].
    pub header: Header,
    /// The id that growth records name. Unique within a process.
    pub id: u64,
    /// Frames that follow.
    pub depth: u32,
    /// Keeps the size a multiple of 8.
    pub _padding: u32,
}
const _: () = assert!(size_of::<Stack>() == 40);

/// Bytes of a code object that are read at once; the largest in use is 216 (3.14).
pub const CODE_OBJECT_BYTES: usize = 256;
/// Room for the characters of a qualified name, in bytes.
pub const NAME_BYTES: usize = 256;
/// Room for the characters of a file name, in bytes.
pub const FILENAME_BYTES: usize = 512;
/// Room for a line table. Longer ones are cut; the user side then reads the rest itself.
pub const LINETABLE_BYTES: usize = 4096;

/// How a string is stored in a [`Code`] record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Text {
    /// Length in code points, as the target says.
    pub length: u32,
    /// Bytes stored; less than `length * width` when it was cut.
    pub stored: u16,
    /// Bytes a code point: 1, 2 or 4. 0: unreadable. Width 1 is Latin-1.
    pub width: u16,
}

/// A code object seen for the first time in this process. Comes before the stack that uses it.
/// The line table's bytes follow.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Code {
    /// Common part.
    pub header: Header,
    /// Address of the code object.
    pub address: u64,
    /// Mixed from the fields that identify the object: another value at the same address is
    /// another code object.
    pub identity: u64,
    /// `co_firstlineno`.
    pub first_line: i32,
    /// `co_flags`.
    pub co_flags: u32,
    /// `PythonLayout::version` of the process.
    pub version: u32,
    /// Length of the line table in the target.
    pub linetable_len: u32,
    /// Bytes of it that follow this record.
    pub linetable_stored: u32,
    /// `PythonLayout::code_adaptive`.
    pub code_adaptive: u32,
    /// Address of the line table's first byte, for what was cut.
    pub linetable_address: u64,
    /// Describes `name_data`.
    pub name: Text,
    /// Describes `filename_data`.
    pub filename: Text,
    /// Characters of the name.
    pub name_data: [u8; NAME_BYTES],
    /// Characters of the file name.
    pub filename_data: [u8; FILENAME_BYTES],
}
const _: () = assert!(size_of::<Code>() == 88 + NAME_BYTES + FILENAME_BYTES);

/// Values of `Header::op` of an [`AddressSpace`] record.
pub mod space_op {
    /// The range is about to be given back, pages and addresses: munmap, brk shrink, MAP_FIXED
    /// over.
    pub const UNMAP: u16 = 1;
    /// mremap moved `[start, start+len)` to `[new_start, new_start+new_len)`.
    pub const MOVE: u16 = 2;
    /// An UNMAP or DISCARD that was announced failed: the range is still there.
    pub const UNMAP_FAILED: u16 = 3;
    /// A file was mapped executable in a process without layout, or greenlet's library in one
    /// with: look for an interpreter. In any process where growth tells its instruction: look what
    /// is mapped now.
    pub const MAP_EXECUTABLE: u16 = 4;
    /// While the range was being given back, other threads touched the address space: only the
    /// page tables know what is in it now.
    pub const RESCAN: u16 = 5;
    /// The pages of the range are about to be given back, and the addresses stay mapped:
    /// MADV_DONTNEED and its like.
    pub const DISCARD: u16 = 6;
    /// Like MOVE, but only the pages moved: the old range stays mapped (MREMAP_DONTUNMAP).
    pub const MOVE_PAGES: u16 = 7;
}

/// A system call changed the address space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct AddressSpace {
    /// `op`: one of [`space_op`].
    pub header: Header,
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// For moves. MAP_EXECUTABLE: [`ImageKey::inode`] of the file, 0 when it is not told.
    pub new_start: u64,
    /// For moves. MAP_EXECUTABLE: [`ImageKey::device`].
    pub new_len: u64,
    /// All resident pages of the process just then; for UNMAP: before the range goes.
    pub rss_pages: i64,
}
const _: () = assert!(size_of::<AddressSpace>() == 64);

/// Address space was asked for: mmap, brk that grew, mremap that grew, shmat. Comes after the
/// UNMAP or MOVE of the same call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Mapping {
    /// `op`: one of [`walk_result`]. `flags`: [`flag::RESERVED`], [`flag::FINALIZING`].
    pub header: Header,
    /// First byte of the first page.
    pub start: u64,
    /// Bytes, whole pages.
    pub len: u64,
    /// Id of the stack, 0 without one.
    pub stack: u64,
    /// What its pages are going to count as, one of [`member`]: ANON for private memory without a
    /// file, SHMEM for shared memory and files of tmpfs, FILE for other files; or
    /// [`Mapping::LIKE_BEFORE`].
    pub member: u32,
    /// Keeps the size a multiple of 8.
    pub _padding: u32,
}
const _: () = assert!(size_of::<Mapping>() == 56);

impl Mapping {
    /// [`Mapping::member`] of a range that mremap added: like the range that ends where it begins.
    pub const LIKE_BEFORE: u32 = member::COUNT as u32;
}

/// A process mapped the file of a known interpreter; the kernel side walks it from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Interpreter {
    /// Common part.
    pub header: Header,
    /// The file.
    pub key: ImageKey,
    /// What to add to the file's addresses.
    pub base: u64,
}
const _: () = assert!(size_of::<Interpreter>() == 48);

/// Values of `Header::op` of a [`Task`] record.
pub mod task_op {
    /// `header.pid` was forked by `other`, whose thread `header.tid` did it; `rss_pages` is what
    /// it has resident.
    pub const FORK: u16 = 1;
    /// `header.pid` executed a new program. `other`: its generation from now on.
    pub const EXEC: u16 = 2;
    /// The last thread of `header.pid` has gone. `other`: the wait status.
    pub const EXIT: u16 = 3;
}

/// A process began, changed its program, or ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Task {
    /// `op`: one of [`task_op`].
    pub header: Header,
    /// Meaning depends on the op.
    pub other: u32,
    /// FORK: 1 when the child shares its parent's address space (vfork).
    pub shares_memory: u32,
    /// Resident pages by [`member`]. EXIT: just before they went.
    pub rss_pages: [i64; member::COUNT],
}
const _: () = assert!(size_of::<Task>() == 64);

/// Values of `Header::op` of a [`Mark`].
pub mod mark_op {
    /// A call begins, or goes on ([`super::flag::RESUMED`]).
    pub const BEGIN: u16 = 1;
    /// It ends, or is suspended.
    pub const END: u16 = 2;
    /// WATCHED only: something else took a reference to the code object. Sent for functions whose
    /// calls make generators.
    pub const HELD: u16 = 3;
    /// WATCHED only: something else gave a reference to the code object back. `key`: of the lane,
    /// what is not below has gone.
    pub const LET_GO: u16 = 4;
}

/// Values of [`Mark::source`]: who says so, and what [`Mark::function`] is.
pub mod mark_source {
    /// The program itself, by `@profile`. `function` is a number that a [`super::MarkName`] of
    /// the same process (or of one that it was forked by) has named.
    pub const DECORATED: u32 = 1;
    /// The kernel side watches every call. `function` is the address of the code object.
    pub const WATCHED: u32 = 2;
    /// Guessed from stacks that happened to be taken: begin and end are approximate. `function`
    /// is the address of the code object.
    pub const SAMPLED: u32 = 3;
}

/// A call of a marked function begins or ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Mark {
    /// `op`: one of [`mark_op`]. `flags`: [`flag::RESUMED`].
    pub header: Header,
    /// Meaning depends on `source`.
    pub function: u64,
    /// What tells calls of one thread apart that do not nest: the greenlet that runs. 0: the
    /// thread's own.
    pub lane: u64,
    /// What the begin and the end of one call have in common (the frame's address), or 0.
    pub key: u64,
    /// All resident pages of the process just then.
    pub rss_pages: i64,
    /// One of [`mark_source`].
    pub source: u32,
    /// Open calls of the lane just before this record, as the program said, or
    /// [`Mark::UNKNOWN_DEPTH`]: what is open beyond has ended, and the record was lost.
    pub depth: u32,
}
const _: () = assert!(size_of::<Mark>() == 64);

impl Mark {
    /// [`Mark::depth`] where nobody counted.
    pub const UNKNOWN_DEPTH: u32 = u32::MAX;
}

/// Bytes of a marked function's name that are read at most, with its terminator.
pub const MARK_NAME_BYTES: usize = 512;

/// Values of `Header::op` of a [`MarkName`].
pub mod name_op {
    /// What the number of a decorated function stands for. Comes before its first
    /// [`super::Mark`].
    pub const NUMBER: u16 = 1;
    /// A code object that is about to be executed will make a function of this code object. Text:
    /// its address, a colon, a token or 0 (the program waits until the token is answered), a
    /// colon, the module, a colon, the qualified name; numbers in hexadecimal.
    pub const FUNCTION: u16 = 2;
}

/// What the program says of a function.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct MarkName {
    /// Common part.
    pub header: Header,
    /// Bytes in use of `text`, its terminator included.
    pub stored: u32,
    /// Keeps the size a multiple of 8.
    pub _padding: u32,
    /// The number in hexadecimal, a colon, the name in UTF-8; as the program wrote it. Of
    /// [`name_op::FUNCTION`]: see there.
    pub text: [u8; MARK_NAME_BYTES],
}
const _: () = assert!(size_of::<MarkName>() == 32 + MARK_NAME_BYTES);
