//! Everything that goes into the ring buffer, and the range that waits to go.
//!
//! Growth is merged: neighbouring faults of one stack move the end of the process's pending
//! range and nothing is sent. The range is sent before anything that could contradict it: another
//! stack, a change of the address space, fork, exec, exit.

use core::intrinsics::{AtomicOrdering, atomic_cxchg};

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use memprof_common::{
    Loss, Process,
    records::{AddressSpace, Growth, Header, Task, flag, kind},
};

use crate::maps::{EVENTS, lose};

/// `BPF_RB_NO_WAKEUP`: the user side polls for growth.
const NO_WAKEUP: u64 = 1;
/// `BPF_RB_FORCE_WAKEUP`: it should look now.
const WAKEUP: u64 = 2;

/// Bytes waiting above which growth wakes the reader too: an eighth of the ring.
const WAKEUP_BYTES: u64 = 2 << 20;

/// `BPF_RB_AVAIL_DATA`
const AVAILABLE: u64 = 0;

/// Tries for a lock that its holder keeps for some 100 ns.
const LOCK_TRIES: u32 = 64;

#[inline(always)]
fn try_lock(process: *mut Process) -> bool {
    unsafe {
        atomic_cxchg::<u32, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
            &raw mut (*process).lock,
            0,
            1,
        )
        .1
    }
}

#[inline(always)]
fn unlock(process: *mut Process) {
    unsafe { core::ptr::write_volatile(&raw mut (*process).lock, 0) };
}

/// Now, `CLOCK_MONOTONIC`.
#[inline(always)]
pub fn now() -> u64 {
    unsafe { bpf_ktime_get_ns() }
}

/// A number that no earlier process with the same pid had: time, in microseconds, which wraps
/// after 73 minutes.
#[inline(always)]
pub fn generation() -> u32 {
    (now() >> 10) as u32
}

#[inline(always)]
fn send_growth(growth: &Growth) {
    let flags = if EVENTS.query(AVAILABLE) > WAKEUP_BYTES {
        WAKEUP
    } else {
        NO_WAKEUP
    };
    match EVENTS.reserve::<Growth>(0) {
        Some(mut entry) => {
            entry.write(*growth);
            entry.submit(flags);
        }
        None => lose(Loss::RingGrowth),
    }
}

#[inline(always)]
fn send_pending(process: *mut Process, pid: u32) {
    let pending = unsafe { &mut (*process).pending };
    if pending.tid == 0 {
        return;
    }
    send_growth(&Growth {
        header: Header {
            kind: kind::GROWTH,
            op: pending.op as u16,
            pid,
            tid: pending.tid,
            flags: pending.flags,
            time_ns: pending.time_ns,
        },
        start: pending.start,
        end: pending.end,
        stack: pending.stack,
        pages: pending.pages,
        events: pending.events,
        member: pending.member,
        _padding: 0,
    });
    pending.tid = 0;
}

/// Takes one growth event: merges it, or sends what was pending and keeps or sends it.
#[inline(always)]
pub fn growth(process: *mut Process, growth: &Growth) {
    if !try_lock(process) {
        // Another CPU merges or sends right now. Its range and this one do not overlap, so
        // their order means nothing.
        send_growth(growth);
        return;
    }
    let pending = unsafe { &mut (*process).pending };
    if pending.tid == growth.header.tid
        && pending.end == growth.start
        && pending.stack == growth.stack
        && pending.member == growth.member
        && pending.op == growth.header.op as u32
        && pending.flags == growth.header.flags
    {
        pending.end = growth.end;
        pending.pages += growth.pages;
        pending.events += 1;
        pending.time_ns = growth.header.time_ns;
    } else {
        send_pending(process, growth.header.pid);
        if growth.header.flags & (flag::WITHIN | flag::UNPLACED) != 0 {
            send_growth(growth);
        } else {
            pending.start = growth.start;
            pending.end = growth.end;
            pending.stack = growth.stack;
            pending.time_ns = growth.header.time_ns;
            pending.pages = growth.pages;
            pending.events = 1;
            pending.member = growth.member;
            pending.op = growth.header.op as u32;
            pending.flags = growth.header.flags;
            pending.tid = growth.header.tid;
        }
    }
    unlock(process);
}

/// Sends the pending range of a process, if any.
#[inline(always)]
pub fn flush(process: *mut Process, pid: u32) {
    for _ in 0..LOCK_TRIES {
        if try_lock(process) {
            send_pending(process, pid);
            unlock(process);
            return;
        }
    }
    lose(Loss::Contended);
}

/// Sends a change of the address space.
#[inline(always)]
pub fn address_space(record: &AddressSpace) {
    let flags = if record.header.op == memprof_common::records::space_op::MAP_EXECUTABLE {
        WAKEUP
    } else {
        NO_WAKEUP
    };
    match EVENTS.reserve::<AddressSpace>(0) {
        Some(mut entry) => {
            entry.write(*record);
            entry.submit(flags);
        }
        None => lose(Loss::RingControl),
    }
}

/// Sends a life-cycle record; these always wake the reader.
#[inline(always)]
pub fn task(record: &Task) {
    match EVENTS.reserve::<Task>(0) {
        Some(mut entry) => {
            entry.write(*record);
            entry.submit(WAKEUP);
        }
        None => lose(Loss::RingControl),
    }
}

/// Sends bytes of varying length: a stack or a code object.
#[inline(always)]
pub fn bytes(data: &[u8]) -> bool {
    let sent = EVENTS.output::<[u8]>(data, NO_WAKEUP).is_ok();
    if !sent {
        lose(Loss::RingStack);
    }
    sent
}
