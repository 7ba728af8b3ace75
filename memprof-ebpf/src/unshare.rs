//! Copy-on-write: a write to a protected page that does not change the count of pages.
//!
//! That it was one shows only when the fault is over without growth, and Python's stack is then
//! gone; so it is walked at the fault and kept until the thread's next event.

use memprof_common::{
    Fault, PAGE_BYTES, Process,
    config::{RepState, error_code, fault},
    records::{Growth, Header, flag, kind, member},
};

use crate::{
    emit,
    kernel::{current, native_ip, registers, thread_pointer},
    maps, stack,
};

/// The fault that begins writes to a protected page: walks the stack that does.
#[inline(always)]
pub fn written(process: &mut Process, fault: &mut Fault, pid: u32, address: u64, kind: u32) {
    let tid = fault.tid;
    let task = current();
    let captured = stack::capture(process, pid, tid, thread_pointer(task));
    fault.written_stack = captured.id;
    fault.written_ip = native_ip(registers(task));
    fault.written_op = captured.op as u32;
    fault.written_in_kernel = (kind == fault::KERNEL) as u32;
    fault.written_page = address & !(PAGE_BYTES - 1);
}

/// True when a fault with this error code may be a copy-on-write.
#[inline(always)]
pub fn may_unshare(code: u64) -> bool {
    let both = (error_code::PROTECTION | error_code::WRITE) as u64;
    code & both == both
}

/// The thread's last fault is over: a written page that was no growth stopped being shared.
#[inline(always)]
pub fn settle(process: &mut Process, fault: &mut Fault, pid: u32) {
    let page = fault.written_page;
    if page == 0 {
        return;
    }
    fault.written_page = 0;
    let mut flags = flag::UNSHARED;
    if fault.written_in_kernel != 0 {
        flags |= flag::IN_KERNEL;
    }
    let mut growth = Growth {
        header: Header {
            kind: kind::GROWTH,
            op: fault.written_op as u16,
            pid,
            tid: fault.tid,
            flags,
            time_ns: 0,
        },
        start: page,
        end: page + PAGE_BYTES,
        stack: fault.written_stack,
        ip: fault.written_ip,
        pages: 1,
        events: 1,
        member: member::ANON,
        _padding: 0,
    };
    in_turn(pid);
    emit::growth(process, &mut growth, RepState::default());
}

/// Sends what another process has pending: of two that write one shared page, the first one
/// copies it and the other one keeps it, so the order of their records tells who did.
#[inline(always)]
fn in_turn(pid: u32) {
    let Some(last) = maps::unsharer() else {
        return;
    };
    let other = *last;
    if other == pid {
        return;
    }
    *last = pid;
    if let Some(process) = maps::process(other) {
        emit::flush(process, other);
    }
}

/// A process is about to leave its relatives: what another one has copied until now comes first,
/// while the page was still shared.
#[inline(always)]
pub fn before_leaving(pid: u32) {
    if let Some(last) = maps::unsharer()
        && *last != pid
        && let Some(process) = maps::process(*last)
    {
        emit::flush(process, *last);
    }
}

/// [`settle`] for a thread that does something else than fault.
#[inline(always)]
pub fn settle_thread(process: &mut Process, pid: u32, tid: u32) {
    if let Some(fault) = maps::fault(tid)
        && fault.tid == tid
    {
        settle(process, fault, pid);
    }
}
