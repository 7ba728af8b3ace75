//! Everything that goes into the ring buffer, and the range that waits to go.
//!
//! Growth is merged: neighbouring faults of one stack move the end of the process's pending
//! range and nothing is sent. The range is sent before anything that could contradict it: another
//! stack, a change of the address space, fork, exec, exit.

use core::{
    intrinsics::{AtomicOrdering, atomic_cxchg},
    ops::ControlFlow,
    sync::atomic::{Ordering, compiler_fence},
};

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use memprof_common::{
    Loss, PAGE_BYTES, Process,
    config::{Pending, RepState},
    records::{
        AddressSpace, Growth, Header, Interpreter, Mapping, Mark, MarkName, Task, flag, name_op,
        space_op,
    },
};

use crate::{
    maps::{self, EVENTS, WithTail, config, lose},
    memory::read_user_string,
    repeat::{self, Rounds},
};

/// `BPF_RB_NO_WAKEUP`: the user side polls for growth.
const NO_WAKEUP: u64 = 1;
/// `BPF_RB_FORCE_WAKEUP`: it should look now.
const WAKEUP: u64 = 2;

/// `BPF_RB_AVAIL_DATA`
const AVAILABLE: u64 = 0;
/// `BPF_RB_PROD_POS`
const PRODUCED: u64 = 3;

/// Bytes of marks for one wakeup, a power of two.
const WAKEUP_EVERY: u64 = 64 << 10;

/// Tries for a lock that its holder keeps for some 100 ns; an interrupt, or a host that takes the
/// virtual CPU away, makes that longer. A try is some 10 ns, so this is a millisecond.
const LOCK_TRIES: u32 = 100_000;

/// Takes the lock of a process's pending range, if it is free.
#[inline(always)]
fn try_lock(process: &mut Process) -> bool {
    const ORDER: AtomicOrdering = AtomicOrdering::SeqCst;
    // SAFETY: an aligned word of a map value, which other CPUs access as atomically.
    unsafe { atomic_cxchg::<u32, ORDER, ORDER>(&raw mut process.lock, 0, 1).1 }
}

/// Gives the lock back: a release store, which on x86-64 is any store that the compiler leaves
/// after those before it. (BPF has its own instruction for it from Linux 6.15 on only.)
#[inline(always)]
fn unlock(process: &mut Process) {
    compiler_fence(Ordering::Release);
    // SAFETY: an aligned word of a map value; this CPU holds the lock.
    unsafe { (&raw mut process.lock).write_volatile(0) };
}

/// Now, `CLOCK_MONOTONIC`.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no conditions.
    unsafe { bpf_ktime_get_ns() }
}

/// A number that no earlier process with the same pid had: time, in microseconds, which wraps
/// after 73 minutes.
#[inline(always)]
pub fn generation() -> u32 {
    (now() >> 10) as u32
}

/// The user side polls for what comes in masses, unless there is much of it.
#[inline(always)]
fn wakeup_when_full() -> u64 {
    if EVENTS.query(AVAILABLE) > config!(wakeup_bytes) as u64 {
        WAKEUP
    } else {
        NO_WAKEUP
    }
}

#[inline(always)]
fn send_growth(growth: &Growth) {
    match EVENTS.reserve::<Growth>(0) {
        Some(mut entry) => {
            entry.write(*growth);
            entry.submit(wakeup_when_full());
        }
        None => lost(Loss::RingGrowth, growth.header.pid),
    }
}

/// Sends the pending range, if any; under its lock.
#[inline(always)]
fn send_pending(pending: &mut Pending, pid: u32) {
    if pending.tid == 0 {
        return;
    }
    send_growth(&pending.growth(pid));
    pending.tid = 0;
}

/// Faults merged for one look at the clock, a power of two: a look costs as much as the merging.
const MERGED_A_LOOK: u32 = 16;

/// Moves the end of the pending range by one growth that continues it.
#[inline(always)]
fn merge(pending: &mut Pending, end: u64, pages: u32, rep: RepState) {
    pending.end = end;
    pending.pages += pages;
    pending.events += 1;
    pending.rep = rep;
    if pending.events.is_multiple_of(MERGED_A_LOOK) {
        pending.time_ns = now();
    }
}

/// Takes one growth event, without a time yet: merges it, or sends what was pending and keeps or
/// sends it. `rep` are the registers at its fault.
#[inline(always)]
pub fn growth(process: &mut Process, growth: &mut Growth, rep: RepState) {
    if !try_lock(process) {
        // Another CPU merges or sends right now. Its range and this one do not overlap, so
        // their order means nothing.
        growth.header.time_ns = now();
        send_growth(growth);
        return;
    }
    let pending = &mut process.pending;
    if pending.tid == growth.header.tid
        && pending.end == growth.start
        && pending.stack == growth.stack
        && pending.ip == growth.ip
        && pending.member == growth.member
        && pending.op == growth.header.op as u32
        && pending.flags == growth.header.flags
    {
        merge(pending, growth.end, growth.pages, rep);
    } else {
        send_pending(pending, growth.header.pid);
        growth.header.time_ns = now();
        if growth.header.flags & (flag::WITHIN | flag::UNPLACED) != 0 {
            send_growth(growth);
        } else {
            *pending = Pending {
                start: growth.start,
                end: growth.end,
                stack: growth.stack,
                ip: growth.ip,
                time_ns: growth.header.time_ns,
                tid: growth.header.tid,
                pages: growth.pages,
                events: 1,
                member: growth.member,
                op: growth.header.op as u32,
                flags: growth.header.flags,
                rep,
            };
        }
    }
    unlock(process);
}

/// Merges a page into the pending range without asking for its stack, when its fault comes from
/// the same instance of the same byte-wise `rep stos`/`rep movs` as the one before: glibc's fills
/// and copies. Python cannot have moved in between. Every condition is needed; without them
/// 0.3 % of the answers are wrong.
#[inline(always)]
pub fn continues_rep(
    process: &mut Process,
    tid: u32,
    member: u32,
    page: u64,
    now: RepState,
) -> bool {
    // Only a hint, so that other faults need no lock: another CPU may be changing the range.
    if process.rep_ip != now.ip || process.pending.end != page || !try_lock(process) {
        return false;
    }
    let pending = &mut process.pending;
    let last = pending.rep;
    let continues = pending.tid == tid
        && pending.end == page
        && pending.member == member
        && pending.flags == 0
        && now.ip == last.ip
        && now.sp == last.sp
        && now.end == last.end
        && now.left < last.left
        && now.end.wrapping_sub(now.left) & !(PAGE_BYTES - 1) == page;
    if continues {
        merge(pending, page + PAGE_BYTES, 1, now);
    }
    unlock(process);
    continues
}

/// Sends the pending range of a process, if any.
#[inline(always)]
pub fn flush(process: &mut Process, pid: u32) {
    let mut waiting = Waiting {
        process,
        got_it: false,
    };
    repeat::run(LOCK_TRIES, &mut waiting);
    if !waiting.got_it {
        lose(Loss::Contended);
        return;
    }
    let process = waiting.process;
    send_pending(&mut process.pending, pid);
    unlock(process);
}

/// Tries for the lock, again and again.
struct Waiting<'a> {
    process: &'a mut Process,
    got_it: bool,
}

impl Rounds for Waiting<'_> {
    #[inline(always)]
    fn round(&mut self, _: u32) -> ControlFlow<()> {
        self.got_it = try_lock(self.process);
        if self.got_it {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// Sends a change of the address space.
#[inline(always)]
pub fn address_space(record: &AddressSpace) {
    let flags = if record.header.op == space_op::MAP_EXECUTABLE {
        WAKEUP
    } else {
        NO_WAKEUP
    };
    match EVENTS.reserve::<AddressSpace>(0) {
        Some(mut entry) => {
            entry.write(*record);
            entry.submit(flags);
        }
        None => lost(Loss::RingControl, record.header.pid),
    }
}

/// Counts a record that found no room, and tells of whom.
#[inline(always)]
fn lost(loss: Loss, pid: u32) {
    lose(loss);
    if let Some(process) = maps::process(pid) {
        process.unexplained += 1;
    }
}

/// Sends a request for address space.
#[inline(always)]
pub fn mapping(record: &Mapping) {
    match EVENTS.reserve::<Mapping>(0) {
        Some(mut entry) => {
            entry.write(*record);
            entry.submit(NO_WAKEUP);
        }
        None => lose(Loss::RingControl),
    }
}

/// Sends the begin or the end of a call of a marked function.
#[inline(always)]
pub fn mark(record: &Mark) {
    match EVENTS.reserve::<Mark>(0) {
        Some(mut entry) => {
            entry.write(*record);
            entry.submit(wakeup_of_mark());
        }
        None => lose(Loss::RingControl),
    }
}

/// Marks come in masses, and a wakeup costs more than one: one for many is enough.
#[inline(always)]
fn wakeup_of_mark() -> u64 {
    const RECORD: u64 = size_of::<Mark>() as u64 + 8;
    if EVENTS.query(PRODUCED) % WAKEUP_EVERY < RECORD {
        wakeup_when_full()
    } else {
        NO_WAKEUP
    }
}

/// Sends what the program says of a function, which stands at `address` in the target.
#[inline(always)]
pub fn mark_name(header: Header, address: u64) {
    let Some(mut entry) = EVENTS.reserve::<MarkName>(0) else {
        lose(Loss::RingControl);
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the entry is as large as the record, and every byte pattern is one: its fields are
    // integers. What is not written here stays what the ring held before.
    let record = unsafe { &mut *record };
    record.header = header;
    record._padding = 0;
    match read_user_string(&mut record.text, address) {
        Some(stored) => {
            record.stored = stored;
            entry.submit(if header.op == name_op::FUNCTION {
                // The program waits.
                WAKEUP
            } else {
                NO_WAKEUP
            });
        }
        None => entry.discard(NO_WAKEUP),
    }
}

/// Tells that an interpreter was recognised; comes before its first stack.
#[inline(always)]
pub fn interpreter(record: &Interpreter) {
    match EVENTS.reserve::<Interpreter>(0) {
        Some(mut entry) => {
            entry.write(*record);
            entry.submit(NO_WAKEUP);
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
        None => lost(Loss::RingControl, record.header.pid),
    }
}

/// Sends a record with the first `count` elements of its tail; false when there is no room.
#[inline(always)]
pub fn with_tail<H, T, const N: usize>(record: &WithTail<H, T, N>, count: u32) -> bool {
    const { assert!(N.is_power_of_two() && size_of::<H>().is_multiple_of(align_of::<T>())) };
    // The mask gives the verifier a bound, the comparison keeps the meaning.
    let count = count as usize & (2 * N - 1);
    if count > N {
        return false;
    }
    let len = size_of::<H>() + count * size_of::<T>();
    // SAFETY: the tail follows the head without a gap, as the assertion says, and `count` elements
    // of it exist; no record has hidden padding.
    let bytes = unsafe { core::slice::from_raw_parts((&raw const *record).cast::<u8>(), len) };
    let sent = EVENTS.output::<[u8]>(bytes, NO_WAKEUP).is_ok();
    if !sent {
        lose(Loss::RingStack);
    }
    sent
}
