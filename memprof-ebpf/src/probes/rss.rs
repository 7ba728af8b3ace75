//! `rss_stat`: the kernel's count of a process's pages changed. When it rose, this is a growth
//! event: the place comes from the fault before it, the owner from the Python stack.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use memprof_common::{
    HUGE_PAGE_BYTES, PAGE_BYTES, Process, Thread,
    config::fault,
    records::{Growth, Header, flag, kind, member},
};

use crate::{
    emit,
    kernel::{Structure, current, exiting, in_system_call, resident_pages, thread_pointer},
    maps::{self, config},
    memory::read_user,
    stack::{self, Captured},
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
    let id = bpf_get_current_pid_tgid();
    let (pid, tid) = ((id >> 32) as u32, id as u32);
    let Some(thread) = maps::thread(tid) else {
        return;
    };
    let Some(process) = maps::process(pid) else {
        return;
    };
    let mm = Structure::argument(&ctx, 0);
    let which = ctx.arg::<i32>(1) as u32;
    if which == member::SWAP || which >= member::COUNT as u32 {
        return;
    }
    let task = current();
    if process.mm != mm.address() {
        // Of a child being forked or a program being executed.
        return;
    }
    let now = resident_pages(mm, which);
    let counted = &mut process.rss_pages[(which & 3) as usize];
    let before = *counted;
    *counted = now;
    let delta = now - before;

    let at = thread.fault;
    let placed = match at {
        fault::USER => !in_system_call(task),
        fault::KERNEL => true,
        _ => false,
    };
    if exiting(task) {
        // The whole address space goes: no growth, whatever the last fault was.
        return;
    }
    let growth = if placed {
        at_fault(thread, which, delta)
    } else {
        in_call(thread, which, delta)
    };
    let Some(mut growth) = growth else {
        return;
    };
    let captured = owner(
        process,
        thread,
        pid,
        tid,
        thread_pointer(task),
        growth.start,
    );
    // The walk's own reads may have faulted, and a kernel fault places one growth only.
    thread.fault = if placed && at == fault::USER {
        fault::USER
    } else {
        fault::NONE
    };
    thread.stack = captured.id;
    thread.op = captured.op as u32;
    if at == fault::KERNEL || !placed {
        growth.header.flags |= flag::IN_KERNEL;
    }
    growth.header.op = captured.op;
    growth.header.pid = pid;
    growth.header.tid = tid;
    growth.stack = captured.id;
    emit::growth(process, &growth);
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
            time_ns: emit::now(),
        },
        start,
        end,
        stack: 0,
        pages,
        events: 1,
        member: which,
        _padding: 0,
    }
}

/// Growth by a page fault: one page at its address, a huge page, or several around it.
#[inline(always)]
fn at_fault(thread: &mut Thread, which: u32, delta: i64) -> Option<Growth> {
    let address = thread.fault_address;
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
    let page = address & !(PAGE_BYTES - 1);
    if which == member::ANON {
        // One entry of the page table, whatever the sum says: with several threads at work
        // another one's page may have been in it already, or may be counted here.
        return Some(record(page, page + PAGE_BYTES, 1, which, 0));
    }
    if delta <= 0 {
        return None;
    }
    if delta == 1 {
        return Some(record(page, page + PAGE_BYTES, 1, which, 0));
    }
    // A large folio is mapped whole when it is aligned to its size.
    let mut window = FAULT_AROUND_BYTES;
    for _ in 0..LARGEST_WINDOW_SHIFT {
        if window < delta as u64 * PAGE_BYTES {
            window <<= 1;
        }
    }
    let start = address & !(window - 1);
    Some(record(
        start,
        start + window,
        delta as u32,
        which,
        flag::WITHIN,
    ))
}

/// Growth inside a system call, without a fault. In the calls that say their range on return it
/// is summed until then; elsewhere the place stays unknown.
#[inline(always)]
fn in_call(thread: &mut Thread, which: u32, delta: i64) -> Option<Growth> {
    if delta <= 0 {
        return None;
    }
    if thread.syscall != 0 {
        thread.populated_pages[(which & 3) as usize] += delta as u32;
        return None;
    }
    Some(record(0, 0, delta as u32, which, flag::UNPLACED))
}

/// The stack that owns a growth at `page`: walked, or known to be the last one.
#[inline(always)]
fn owner(
    process: &mut Process,
    thread: &mut Thread,
    pid: u32,
    tid: u32,
    thread_pointer: u64,
    page: u64,
) -> Captured {
    if same_rep(process, thread, tid, page) {
        thread.walked.left = thread.rep.left;
        return Captured {
            op: thread.op as u16,
            id: thread.stack,
        };
    }
    let captured = stack::capture(process, thread, pid, tid, thread_pointer);
    thread.walked = thread.rep;
    captured
}

/// True when this fault comes from the same instance of the same byte-wise `rep stos`/`rep movs`
/// as the one before: glibc's fills and copies. Python cannot have moved in between. Every
/// condition is needed; without them 0.3 % of the answers are wrong.
#[inline(always)]
fn same_rep(process: &Process, thread: &mut Thread, tid: u32, page: u64) -> bool {
    let (now, last) = (&thread.rep, &thread.walked);
    if thread.fault != fault::USER
        || now.ip != last.ip
        || now.sp != last.sp
        || now.end != last.end
        || now.left >= last.left
        || now.end.wrapping_sub(now.left) & !(PAGE_BYTES - 1) != page
        || process.pending.tid != tid
        || process.pending.end != page
        || config!(no_shortcut) != 0
    {
        return false;
    }
    if thread.rep_ip == now.ip {
        return true;
    }
    let mut bytes = [0; 2];
    read_user(&mut bytes, 2, now.ip);
    // f3 aa: rep stosb, f3 a4: rep movsb (Intel SDM, volume 2B)
    let found = bytes == [0xf3, 0xaa] || bytes == [0xf3, 0xa4];
    if found {
        thread.rep_ip = now.ip;
    }
    found
}
