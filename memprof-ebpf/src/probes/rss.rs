//! `rss_stat`: the kernel's count of a process's pages changed. When it rose, this is a growth
//! event: the place comes from the fault before it, the owner from the Python stack.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    helpers::bpf_get_current_comm, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use memprof_common::{
    Fault, HUGE_PAGE_BYTES, PAGE_BYTES, Process,
    config::{RepState, error_code, fault},
    records::{Growth, Header, flag, kind, member, walk_result},
};

use crate::{
    emit,
    kernel::{
        Structure, current, ids_of, in_system_call, mapping_at, native_ip, registers, regs,
        resident_pages, shared_anon_pages, task_flag, task_flags, thread_pointer, watched,
    },
    maps::{self, config},
    memory::read_user,
    stack,
    unshare::may_unshare,
};

/// Pages of a huge page.
const HUGE_PAGES: i64 = (HUGE_PAGE_BYTES / PAGE_BYTES) as i64;

/// `fault_around_bytes`' default (mm/memory.c): a read fault on a file maps what is cached in
/// the aligned block of this size.
const FAULT_AROUND_BYTES: u64 = 64 << 10;

/// Doublings of the window until it is a huge page.
const LARGEST_WINDOW_SHIFT: u32 = (HUGE_PAGE_BYTES / FAULT_AROUND_BYTES).trailing_zeros();

#[btf_tracepoint(function = "rss_stat")]
pub fn rss_stat(ctx: BtfTracePointContext) {
    let mm = Structure::argument(&ctx, 0);
    let which = ctx.arg::<i32>(1) as u32;
    if which == member::SWAP || which >= member::COUNT as u32 {
        return;
    }
    let task = current();
    let (pid, tid) = ids_of(task);
    if let Some(fault) = maps::fault(tid)
        && let Some((process, pid)) = maps::memory_of(pid)
        && process.mm == mm.address()
    {
        if own(process, fault, mm, which, task, (pid, tid)) == Origin::Call {
            return;
        }
        // Last: whoever takes pages away at the same time compares this number before and after,
        // and has to wait for this fault. A record that comes after the other's announcement is
        // then noticed.
        process.faults += 1;
    } else if let Some(pid) = watched(mm) {
        foreign(mm, which, (pid, tid));
    }
}

/// Where a change comes from.
#[derive(PartialEq)]
enum Origin {
    /// A page fault.
    Fault,
    /// A system call, or the end of the thread.
    Call,
}

/// A change that the process itself has made.
#[inline(always)]
fn own(
    process: &mut Process,
    fault: &mut Fault,
    mm: Structure,
    which: u32,
    task: Structure,
    (pid, tid): (u32, u32),
) -> Origin {
    let registers = registers(task);
    let flags = task_flags(task);
    if flags & task_flag::EXITING != 0 {
        // The whole address space goes: no growth, whatever the last fault was. The counts stay
        // as they were before, for the record of the exit.
        return Origin::Call;
    }
    process.events += 1;
    if flags & task_flag::MEMALLOC != 0 {
        // In want of memory it takes pages away, whosesoever: here, its own.
        recount(process, mm, which);
        unexplained(process, pid);
        return Origin::Call;
    }
    let (at, address) = if fault.tid == tid {
        (fault.kind, fault.address)
    } else {
        (fault::NONE, 0)
    };
    let placed = match at {
        fault::USER => !in_system_call(registers),
        fault::KERNEL => true,
        _ => false,
    };
    if placed && which == member::ANON {
        // The write to a protected page was growth: the zero page's, or a private file page's.
        fault.written_page = 0;
    }
    let origin = if placed { Origin::Fault } else { Origin::Call };
    let delta = grown(process, mm, which, placed);
    if placed && delta < -1 && which != member::ANON {
        // The write to one page of a file that a huge page maps: all of that goes, and comes back
        // page by page (__split_huge_pmd, mm/huge_memory.c).
        unexplained(process, pid);
    }
    let mut rep = RepState::default();
    if placed && at == fault::USER {
        rep = rep_state(registers);
        if delta == 1 && continues_rep(process, tid, which, address & !(PAGE_BYTES - 1), rep) {
            return origin;
        }
    }
    let growth = if placed {
        at_fault(address, which, delta, fault.error_code)
    } else {
        in_call(process, which, delta, (pid, tid))
    };
    let (Some(growth), Some(kept)) = (growth, maps::growth()) else {
        return origin;
    };
    // What was a constant in one way to here is a number from now on: the verifier then follows the
    // walk once, not once for each way.
    *kept = growth;
    let growth = kept;
    let captured = stack::capture(process, pid, tid, thread_pointer(task));
    if fault.tid == tid {
        // A read of the walk may have faulted, and a kernel fault places one growth only.
        fault.address = address;
        fault.kind = if placed && at == fault::USER {
            fault::USER
        } else {
            fault::NONE
        };
    }
    if at == fault::KERNEL || !placed {
        growth.header.flags |= flag::IN_KERNEL;
    }
    growth.header.op = captured.op;
    growth.header.pid = pid;
    growth.header.tid = tid;
    growth.stack = captured.id;
    growth.ip = native_ip(registers);
    emit::growth(process, growth, rep);
    origin
}

/// A change by another process's hand, or by a thread of the kernel's. Whatever it was, only the
/// page tables know where.
#[inline(always)]
fn foreign(mm: Structure, which: u32, (pid, tid): (u32, u32)) {
    let Some(process) = maps::process(pid) else {
        return;
    };
    // A process that is killed for want of memory loses its pages before its end, which is no
    // giving back.
    if process.mm != mm.address() || is_oom_reaper() {
        return;
    }
    process.events += 1;
    unexplained(process, pid);
    let delta = recount(process, mm, which);
    if delta <= 0 {
        return;
    }
    let flags = flag::UNPLACED | flag::IN_KERNEL | flag::FOREIGN;
    let mut growth = record(0, 0, delta as u32, which, flags);
    growth.header.op = walk_result::NO_THREAD_STATE;
    growth.header.pid = pid;
    growth.header.tid = tid;
    emit::growth(process, &mut growth, RepState::default());
}

/// True in the kernel's thread of that name (mm/oom_kill.c).
#[inline(always)]
fn is_oom_reaper() -> bool {
    bpf_get_current_comm().is_ok_and(|comm| comm.starts_with(b"oom_reaper\0"))
}

/// Only the page tables know what is resident now. The range that waits may have gone too.
#[inline(always)]
fn unexplained(process: &mut Process, pid: u32) {
    process.unexplained += 1;
    if process.pending.tid != 0 {
        emit::flush(process, pid);
    }
}

/// Takes the exact count of one member; by how much it changed.
#[inline(always)]
fn recount(process: &mut Process, mm: Structure, which: u32) -> i64 {
    if which == member::ANON {
        process.anon_shared = shared_anon_pages(mm);
    }
    let counted = &mut process.rss_pages[(which & 3) as usize];
    let now = resident_pages(mm, which);
    let before = *counted;
    *counted = now;
    now - before
}

/// By how many pages the count of one member grew since the last event.
///
/// The exact sum over the CPUs is needed to tell a huge page from a small one, and for growth
/// without a fault. A fault on anonymous memory that left the shared part of the count alone was
/// one page: 512 at once never stay with a CPU.
#[inline(always)]
fn grown(process: &mut Process, mm: Structure, which: u32, placed: bool) -> i64 {
    if which == member::ANON
        && placed
        && config!(large_folios) == 0
        && shared_anon_pages(mm) == process.anon_shared
    {
        add(&mut process.rss_pages[member::ANON as usize], 1);
        return 1;
    }
    recount(process, mm, which)
}

/// Adds to a count that threads on other CPUs add to.
#[inline(always)]
fn add(count: &mut i64, pages: i64) {
    // SAFETY: an aligned word of a map value, which other CPUs access as whole words.
    unsafe { atomic_xadd::<i64, i64, { AtomicOrdering::Relaxed }>(count, pages) };
}

/// The registers that a `rep` instruction works with.
#[inline(always)]
fn rep_state(registers: Structure) -> RepState {
    let left: u64 = registers.field(regs::CX);
    RepState {
        ip: registers.field(regs::IP),
        sp: registers.field(regs::SP),
        end: registers.field::<u64>(regs::DI).wrapping_add(left),
        left,
    }
}

/// [`emit::continues_rep`], once the instruction is known to be one.
#[inline(always)]
fn continues_rep(process: &mut Process, tid: u32, which: u32, page: u64, now: RepState) -> bool {
    if config!(no_shortcut) != 0 {
        return false;
    }
    if process.looked_at != now.ip {
        // The same instruction twice, page after page, is worth a look.
        if process.pending.rep.ip != now.ip || process.pending.end != page {
            return false;
        }
        let mut bytes = [0; 2];
        read_user(&mut bytes, 2, now.ip);
        // f3 aa: rep stosb, f3 a4: rep movsb (Intel SDM, volume 2B)
        let found = bytes == [0xf3, 0xaa] || bytes == [0xf3, 0xa4];
        process.rep_ip = if found { now.ip } else { 0 };
        process.looked_at = now.ip;
    }
    emit::continues_rep(process, tid, which, page, now)
}

#[inline(always)]
fn record(start: u64, end: u64, pages: u32, which: u32, flags: u32) -> Growth {
    Growth {
        header: Header {
            kind: kind::GROWTH,
            op: 0,
            pid: 0,
            tid: 0,
            flags,
            time_ns: 0,
        },
        start,
        end,
        stack: 0,
        ip: 0,
        pages,
        events: 1,
        member: which,
        _padding: 0,
    }
}

/// An anonymous folio of several pages, which lies aligned to its size. Near enough: with several
/// threads at work the pages may be of two faults.
#[inline(always)]
fn folio(address: u64, pages: i64) -> Growth {
    let mut window = PAGE_BYTES;
    for _ in 0..HUGE_PAGES.trailing_zeros() {
        if window < pages as u64 * PAGE_BYTES {
            window <<= 1;
        }
    }
    let start = address & !(window - 1);
    record(
        start,
        start + window,
        pages as u32,
        member::ANON,
        flag::WITHIN,
    )
}

/// Growth by a page fault: one page at its address, a huge page, or several around it.
#[inline(always)]
fn at_fault(address: u64, which: u32, delta: i64, error_code: u32) -> Option<Growth> {
    if delta >= HUGE_PAGES {
        let start = address & !(HUGE_PAGE_BYTES - 1);
        return Some(record(
            start,
            start + HUGE_PAGE_BYTES,
            HUGE_PAGES as u32,
            which,
            0,
        ));
    }
    if delta < 0 && may_unshare(error_code as u64) {
        // A private page of a file is written: an anonymous one takes its place, in the event
        // that comes next.
        return None;
    }
    let page = address & !(PAGE_BYTES - 1);
    let is_write = error_code & error_code::WRITE != 0;
    // A written page of shared memory is mapped alone, unless it is part of a larger folio.
    let written = which == member::SHMEM && is_write && delta <= 2;
    if which == member::ANON && config!(large_folios) != 0 && delta > 1 {
        return Some(folio(address, delta));
    }
    if which == member::ANON || written {
        // One entry of the page table, whatever the sum says: with several threads at work
        // another one's page may have been in it already, or may be counted here.
        return Some(record(page, page + PAGE_BYTES, 1, which, 0));
    }
    if delta == 1 {
        return Some(record(page, page + PAGE_BYTES, 1, which, 0));
    }
    // Without a rise another thread's event has counted the pages; the place is told all the same.
    let pages = if delta < 0 { 0 } else { delta as u32 };
    // A large folio is mapped whole when it is aligned to its size.
    let mut window = FAULT_AROUND_BYTES;
    for _ in 0..LARGEST_WINDOW_SHIFT {
        if window < pages as u64 * PAGE_BYTES {
            window <<= 1;
        }
    }
    let mut start = address & !(window - 1);
    let mut end = start + window;
    // The kernel keeps to the mapping.
    if let Some((first, last)) = mapping_at(current(), address) {
        start = if start < first { first } else { start };
        end = if end > last { last } else { end };
    }
    if end - start < pages as u64 * PAGE_BYTES {
        // Pages of another thread's fault are in the count.
        return Some(record(0, 0, pages, which, flag::UNPLACED));
    }
    Some(record(start, end, pages, which, flag::WITHIN))
}

/// A change inside a system call, without a fault. In the calls that say their range on return,
/// growth is summed until then; elsewhere the place stays unknown.
#[inline(always)]
fn in_call(
    process: &mut Process,
    which: u32,
    delta: i64,
    (pid, tid): (u32, u32),
) -> Option<Growth> {
    let thread = maps::thread(tid).filter(|thread| thread.syscall != 0);
    if delta <= 0 {
        // A part of a huge page of a file cannot be given back: all of it goes.
        let whole = which != member::ANON && delta == -HUGE_PAGES;
        let explained = thread.is_some_and(|thread| thread.takes_away(whole));
        if delta < 0 && !explained {
            unexplained(process, pid);
        }
        return None;
    }
    if let Some(thread) = thread {
        thread.populated_pages[(which & 3) as usize] += delta as u32;
        return None;
    }
    unexplained(process, pid);
    Some(record(0, 0, delta as u32, which, flag::UNPLACED))
}
