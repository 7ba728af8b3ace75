//! System calls that change the address space. What takes pages away is told before it happens,
//! so that whoever is given the addresses next comes after it; what needs the result is told on
//! return.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use memprof_common::{
    PAGE_BYTES, Process, Thread,
    config::{RepState, fault},
    records::{AddressSpace, Growth, Header, flag, kind, member, space_op},
};

use crate::{
    emit, images,
    kernel::{
        Structure, all_resident, current, file_of_descriptor, image_key, mapping_at, meet, mm_of,
        native_ip, registers, regs, thread_pointer,
    },
    maps::{self, config},
    memory::user_word,
    stack::{self, Captured},
    unshare,
};

use super::{
    mapping::{self, Added},
    mark,
};

/// System-call numbers (arch/x86/entry/syscalls/syscall_64.tbl).
pub(super) mod call {
    pub const MMAP: i64 = 9;
    pub const MUNMAP: i64 = 11;
    pub const BRK: i64 = 12;
    pub const MREMAP: i64 = 25;
    pub const MADVISE: i64 = 28;
    pub const SHMAT: i64 = 30;
    pub const SHMDT: i64 = 67;
    pub const MLOCK: i64 = 149;
    pub const MLOCKALL: i64 = 151;
    pub const MLOCK2: i64 = 325;
}

/// `MAP_FIXED` (include/uapi/asm-generic/mman-common.h)
const MAP_FIXED: u64 = 0x10;
/// `MAP_ANONYMOUS`
pub(super) const MAP_ANONYMOUS: u64 = 0x20;
/// `PROT_EXEC`
const PROT_EXEC: u64 = 0x4;
const MADV_DONTNEED: u64 = 4;
/// `MADV_REMOVE`
const MADV_REMOVE: u64 = 9;
/// `MADV_GUARD_INSTALL`
const MADV_GUARD_INSTALL: u64 = 102;
/// `MADV_DONTNEED_LOCKED`
const MADV_DONTNEED_LOCKED: u64 = 24;
/// Results of system calls from here up are error numbers (include/linux/err.h).
const ERRORS: u64 = -4095i64 as u64;

#[inline(always)]
fn changes_memory(id: i64) -> bool {
    matches!(
        id,
        call::MMAP
            | call::MUNMAP
            | call::BRK
            | call::MREMAP
            | call::MADVISE
            | call::SHMAT
            | call::SHMDT
            | call::MLOCK
            | call::MLOCKALL
            | call::MLOCK2
    )
}

#[inline(always)]
pub(super) fn pages_up(address: u64) -> u64 {
    address.wrapping_add(PAGE_BYTES - 1) & !(PAGE_BYTES - 1)
}

/// Flags of a record of this process: whether its interpreter is shutting down.
#[inline(always)]
pub(super) fn state(process: &Process) -> u32 {
    let address = process.layout.finalizing_address;
    if address != 0 && user_word(address) != 0 {
        flag::FINALIZING
    } else {
        0
    }
}

#[inline(always)]
fn send(process: &mut Process, pid: u32, tid: u32, op: u16, range: (u64, u64), new: (u64, u64)) {
    emit::flush(process, pid);
    emit::address_space(&AddressSpace {
        header: Header {
            kind: kind::ADDRESS_SPACE,
            op,
            pid,
            tid,
            flags: state(process),
            time_ns: emit::now(),
        },
        start: range.0,
        len: range.1,
        new_start: new.0,
        new_len: new.1,
        rss_pages: all_resident(process),
    });
}

/// The range that a call is about to take away, if it does.
#[inline(always)]
fn taken_away(id: i64, arguments: &[u64; 4]) -> Option<(u64, u64)> {
    let [first, second, third, fourth] = *arguments;
    match id {
        call::MUNMAP => Some((first, second)),
        call::SHMDT => {
            mapping_at(current(), first).map(|(_, end)| (first, end.saturating_sub(first)))
        }
        call::MMAP if fourth & MAP_FIXED != 0 => Some((first, second)),
        call::MADVISE
            if matches!(
                third,
                MADV_DONTNEED | MADV_REMOVE | MADV_DONTNEED_LOCKED | MADV_GUARD_INSTALL
            ) =>
        {
            Some((first, second))
        }
        call::MREMAP if pages_up(third) < pages_up(second) => {
            Some((first + pages_up(third), pages_up(second) - pages_up(third)))
        }
        call::BRK => {
            let brk: u64 = mm_of(current()).field(config!(mm_brk) as usize);
            let (old, new) = (pages_up(brk), pages_up(first));
            if first != 0 && new < old {
                Some((new, old - new))
            } else {
                None
            }
        }
        _ => None,
    }
}

/// What grows from now on has nothing to do with the last fault.
#[inline(always)]
pub(super) fn forget_fault(tid: u32) {
    if let Some(fault) = maps::fault(tid)
        && fault.tid == tid
    {
        fault.kind = fault::NONE;
    }
}

#[btf_tracepoint(function = "sys_enter")]
pub fn sys_enter(ctx: BtfTracePointContext) {
    let id: i64 = ctx.arg(1);
    if mark::may_be_one(id) {
        mark::entered(&ctx, id);
        return;
    }
    if !changes_memory(id) {
        return;
    }
    let Some((thread, process, (pid, tid))) = maps::traced_thread(bpf_get_current_pid_tgid())
    else {
        return;
    };
    let registers = Structure::argument(&ctx, 0);
    let arguments = [
        registers.field(regs::DI),
        registers.field(regs::SI),
        registers.field(regs::DX),
        registers.field(regs::R10),
    ];
    meet(process, pid);
    unshare::settle_thread(process, pid, tid);
    thread.syscall = id as u32 + 1;
    forget_fault(tid);
    thread.arguments = arguments;
    mapping::entered(thread, id);
    thread.populated_pages = [0; member::COUNT];
    thread.announced_len = 0;
    thread.faults = process.faults;
    if let Some(range) = taken_away(id, &arguments)
        && range.1 != 0
    {
        (thread.announced_start, thread.announced_len) = range;
        let op = mapping::unmap_op(id);
        send(process, pid, tid, op, range, (0, 0));
    }
}

#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit(ctx: BtfTracePointContext) {
    let registers = Structure::argument(&ctx, 0);
    let id: i64 = registers.field(regs::ORIG_AX);
    if !changes_memory(id) {
        return;
    }
    let Some((thread, process, (pid, tid))) = maps::traced_thread(bpf_get_current_pid_tgid())
    else {
        return;
    };
    if thread.syscall != id as u32 + 1 {
        return;
    }
    thread.syscall = 0;
    let result: u64 = ctx.arg(1);
    let first = thread.arguments[0];
    let announced = (thread.announced_start, thread.announced_len);
    thread.announced_len = 0;
    // A brk that fails says where the heap still ends.
    let brk_failed = id == call::BRK && announced.1 != 0 && result != first;
    let result = (result < ERRORS && !brk_failed).then_some(result);
    if let Some(result) = result {
        succeeded(
            process,
            thread,
            registers,
            (pid, tid),
            id,
            result,
            announced,
        );
    } else if announced.1 != 0 {
        send(process, pid, tid, space_op::UNMAP_FAILED, announced, (0, 0));
    }
    let added = match result {
        Some(result) => mapping::added(thread, registers, id, result),
        None => Added::default(),
    };
    // What it did before it failed stays done.
    let populated = {
        let pages = thread.populated_pages;
        pages[0] | pages[1] | pages[3] != 0
    };
    if added.len == 0 && !populated {
        return;
    }
    // One walk in this program: the verifier looks at each for itself.
    let captured = stack::capture(process, pid, tid, thread_pointer(current()));
    // The walk's own reads may have faulted.
    forget_fault(tid);
    // Read anew: to the verifier it is then no longer the one of each branch above.
    let id: i64 = registers.field(regs::ORIG_AX);
    if added.len != 0 {
        mapping::tell(process, (pid, tid), &added, captured);
    }
    if populated {
        tell_populated(process, thread, (pid, tid), id, result, captured);
    }
}

/// Tells what a call that did not fail took away, moved, or mapped to be executed.
#[inline(always)]
fn succeeded(
    process: &mut Process,
    thread: &Thread,
    registers: Structure,
    (pid, tid): (u32, u32),
    id: i64,
    result: u64,
    announced: (u64, u64),
) {
    let [first, second, third, fourth] = thread.arguments;
    if announced.1 != 0 && thread.faults != process.faults {
        send(process, pid, tid, space_op::RESCAN, announced, (0, 0));
    }
    match id {
        call::MREMAP => {
            if result != first {
                // The tail that shrank was told on entry.
                let (old, new) = (pages_up(second), pages_up(third));
                let moved = if new < old { new } else { old };
                send(
                    process,
                    pid,
                    tid,
                    mapping::move_op(fourth),
                    (first, moved),
                    (result, new),
                );
            }
        }
        call::MMAP => {
            let file_code = third & PROT_EXEC != 0 && fourth & MAP_ANONYMOUS == 0;
            let descriptor: u64 = registers.field(regs::R8);
            let offset: u64 = registers.field(regs::R9);
            let is_news =
                file_code && images::wants_a_look(process, descriptor, offset, result, (pid, tid));
            if is_news || file_code && config!(native) != 0 {
                let file = image_key(file_of_descriptor(current(), descriptor));
                let file = file.unwrap_or_default();
                send(
                    process,
                    pid,
                    tid,
                    space_op::MAP_EXECUTABLE,
                    (result, second),
                    (file.inode, file.device as u64),
                );
            }
        }
        _ => {}
    }
}

/// Sends what became resident inside the call without a fault: MAP_POPULATE, mlock,
/// MADV_POPULATE_*, or any growing call of a process under mlockall. `result` is None when the
/// call failed midway.
#[inline(always)]
fn tell_populated(
    process: &mut Process,
    thread: &Thread,
    (pid, tid): (u32, u32),
    id: i64,
    result: Option<u64>,
    captured: Captured,
) {
    let pages = thread.populated_pages;
    let [first, second, third, _] = thread.arguments;
    let (start, end) = match (id, result) {
        (call::MMAP, Some(result)) => (result, result.wrapping_add(pages_up(second))),
        (call::MREMAP, Some(result)) => (result, result.wrapping_add(pages_up(third))),
        (call::MMAP | call::MREMAP | call::BRK | call::MLOCKALL, _) => (0, 0),
        _ => {
            let start = first & !(PAGE_BYTES - 1);
            (start, pages_up(first.wrapping_add(second)))
        }
    };
    let ip = native_ip(registers(current()));
    let mut send = |which: u32, pages: u32| {
        if pages == 0 {
            return;
        }
        let mut flags = flag::IN_KERNEL;
        if end == 0 || end <= start {
            flags |= flag::UNPLACED;
        } else if end - start != pages as u64 * PAGE_BYTES {
            flags |= flag::WITHIN;
        }
        let placed = flags & flag::UNPLACED == 0;
        emit::growth(
            process,
            &mut Growth {
                header: Header {
                    kind: kind::GROWTH,
                    op: captured.op,
                    pid,
                    tid,
                    flags,
                    time_ns: 0,
                },
                start: if placed { start } else { 0 },
                end: if placed { end } else { 0 },
                stack: captured.id,
                ip,
                pages,
                events: 1,
                member: which,
                _padding: 0,
            },
            RepState::default(),
        );
    };
    send(member::FILE, pages[0]);
    send(member::ANON, pages[1]);
    send(member::SHMEM, pages[3]);
}
