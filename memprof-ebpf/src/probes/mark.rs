//! Marks of decorated functions: `@profile` makes system calls that fail and do nothing, for us
//! to see. Without a tracer they are nothing but 0.2 µs.
//!
//! `isatty(-N)` is `ioctl` on a descriptor that cannot be; its number tells what happens (see
//! [`op`]). `access("/memprof-ebpf/@/NUMBER:NAME")` names a function, once a function. In the same
//! way `access("/memprof-ebpf/f/...")` tells of functions that are about to be defined, for those
//! that are to be watched.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, programs::BtfTracePointContext};
use memprof_common::{
    Process, Thread,
    records::{Header, Mark, flag, kind, mark_op, mark_source, name_op},
};

use crate::{
    emit,
    kernel::{Structure, all_resident, meet, regs},
    maps,
    memory::read_user,
};

/// System-call numbers (arch/x86/entry/syscalls/syscall_64.tbl).
mod call {
    pub const IOCTL: i64 = 16;
    pub const ACCESS: i64 = 21;
    pub const FACCESSAT: i64 = 269;
    pub const FACCESSAT2: i64 = 439;
}

/// What the four highest bits of the descriptor say; the others are a number. All are negative,
/// and far from those that programs use for "none".
mod op {
    /// The function with this number is called.
    pub const BEGIN: u32 = 0x8;
    /// A suspended call of it goes on.
    pub const RESUME: u32 = 0x9;
    /// It returns, or is suspended.
    pub const END: u32 = 0xa;
    /// What this thread says from now on is of the greenlet with this number.
    pub const LANE: u32 = 0xb;
}

/// Bits of a descriptor that are a number.
const NUMBER: u32 = (1 << 28) - 1;

/// What the paths begin with.
const PATH_BYTES: usize = 16;
/// Of a name of a decorated function.
const NAME_PATH: u128 = u128::from_ne_bytes(*b"/memprof-ebpf/@/");
/// Of a function that is about to be defined.
const FUNCTION_PATH: u128 = u128::from_ne_bytes(*b"/memprof-ebpf/f/");

/// Whether a system call may be a mark.
#[inline(always)]
pub(super) fn may_be_one(id: i64) -> bool {
    matches!(
        id,
        call::IOCTL | call::ACCESS | call::FACCESSAT | call::FACCESSAT2
    )
}

/// A call for which [`may_be_one`] holds begins.
#[inline(always)]
pub(super) fn entered(ctx: &BtfTracePointContext, id: i64) {
    let registers = Structure::argument(ctx, 0);
    let first: u64 = registers.field(regs::DI);
    if id == call::IOCTL && !matches!(first as u32 >> 28, op::BEGIN..=op::LANE) {
        return;
    }
    let Some((thread, process, (pid, tid))) = maps::traced_thread(bpf_get_current_pid_tgid())
    else {
        return;
    };
    match id {
        call::IOCTL => mark(process, thread, (pid, tid), first as u32),
        call::ACCESS => name((pid, tid), first),
        _ => name((pid, tid), registers.field(regs::SI)),
    }
}

#[inline(always)]
fn mark(process: &mut Process, thread: &mut Thread, (pid, tid): (u32, u32), descriptor: u32) {
    let number = descriptor & NUMBER;
    let (op, flags) = match descriptor >> 28 {
        op::BEGIN => (mark_op::BEGIN, 0),
        op::RESUME => (mark_op::BEGIN, flag::RESUMED),
        op::END => (mark_op::END, 0),
        _ => {
            thread.lane = number;
            return;
        }
    };
    let depth = match thread.lane {
        0 => thread.depth,
        _ => Mark::UNKNOWN_DEPTH,
    };
    if thread.lane == 0 {
        thread.depth = match op {
            mark_op::BEGIN => thread.depth.saturating_add(1),
            _ => thread.depth.saturating_sub(1),
        };
    }
    meet(process, pid);
    emit::mark(&Mark {
        header: Header {
            kind: kind::MARK,
            op,
            pid,
            tid,
            flags,
            time_ns: emit::now(),
        },
        function: number as u64,
        lane: thread.lane as u64,
        key: 0,
        rss_pages: all_resident(process),
        source: mark_source::DECORATED,
        depth,
    });
}

#[inline(always)]
fn name((pid, tid): (u32, u32), path: u64) {
    let mut begin = [0; PATH_BYTES];
    if !read_user(&mut begin, PATH_BYTES as u32, path) {
        return;
    }
    let op = match u128::from_ne_bytes(begin) {
        NAME_PATH => name_op::NUMBER,
        FUNCTION_PATH => name_op::FUNCTION,
        _ => return,
    };
    let header = Header {
        kind: kind::MARK_NAME,
        op,
        pid,
        tid,
        flags: 0,
        time_ns: emit::now(),
    };
    emit::mark_name(header, path.wrapping_add(PATH_BYTES as u64));
}
