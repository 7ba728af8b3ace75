//! Life cycle: a child inherits its parent's layout here, in the kernel, before it runs its
//! first instruction, so nothing of a new worker waits for the user side.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use aya_log_ebpf::debug;
use memprof_common::{
    Loss, Process, Thread,
    layout::thread_source,
    records::{Header, Task, kind, task_op},
    watch::{WATCHED_FUNCTIONS, count_key},
};

use crate::{
    emit, images,
    kernel::{Structure, count_from, mm_of, unwatch},
    maps::{self, ARMED, COUNTS, PROCESSES, THREADS, WATCHES, config, lose},
    stack, unshare,
};

/// `CLONE_VM`, `CLONE_THREAD` (include/uapi/linux/sched.h)
const CLONE_VM: u64 = 0x100;
const CLONE_THREAD: u64 = 0x10000;

#[inline(always)]
fn new_thread(tid: u32, pid: u32) {
    // Another thread may have had its id.
    if let Some(last) = maps::last_stack(tid) {
        last.greenlets = 0;
    }
    if let Some(fault) = maps::fault_slot(tid) {
        fault.watched = 1;
    }
    let thread = Thread {
        pid,
        ..Thread::default()
    };
    if THREADS.insert(tid, thread, 0).is_err() {
        lose(Loss::UnknownThread);
    }
}

/// A new thread has the watchpoints of the thread that made it, whoever had its id before.
#[inline(always)]
fn inherit_watchpoints(maker: u32, tid: u32) {
    let Some(armed) = maps::armed(maker) else {
        let _ = ARMED.remove(tid);
        return;
    };
    if ARMED.insert(tid, armed, 0).is_err() {
        lose(Loss::MapFull);
    }
}

/// A forked child has the code objects of its parent, with the references to them.
#[inline(always)]
fn inherit_watches(parent: u32, child: u32) {
    let Some(watches) = maps::watches(parent) else {
        return;
    };
    let mut full = WATCHES.insert(child, watches, 0).is_err();
    for slot in 0..WATCHED_FUNCTIONS {
        if let Some(count) = maps::count(parent, slot) {
            full |= COUNTS.insert(count_key(child, slot), *count, 0).is_err();
        }
    }
    if full {
        lose(Loss::MapFull);
    }
}

/// Its code objects have gone.
#[inline(always)]
fn forget_watches(pid: u32) {
    if WATCHES.remove(pid).is_ok() {
        for slot in 0..WATCHED_FUNCTIONS {
            let _ = COUNTS.remove(count_key(pid, slot));
        }
    }
}

/// Whoever has this tid next is another thread.
#[inline(always)]
fn forget_fault(tid: u32) {
    if let Some(fault) = maps::fault(tid)
        && fault.tid == tid
    {
        fault.tid = 0;
        fault.written_page = 0;
    }
}

#[inline(always)]
fn header(op: u16, pid: u32, tid: u32) -> Header {
    Header {
        kind: kind::TASK,
        op,
        pid,
        tid,
        flags: 0,
        time_ns: emit::now(),
    }
}

#[btf_tracepoint(function = "task_newtask")]
pub fn task_newtask(ctx: BtfTracePointContext) {
    let parent = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Some(process) = maps::process(parent) else {
        return;
    };
    let task = Structure::argument(&ctx, 0);
    let clone_flags: u64 = ctx.arg(1);
    let tid: u32 = task.field(config!(task_pid) as usize);
    let pid: u32 = task.field(config!(task_tgid) as usize);
    let is_thread = clone_flags & CLONE_THREAD != 0;
    if !is_thread && config!(follow_forks) == 0 {
        return;
    }
    let parent_tid = bpf_get_current_pid_tgid() as u32;
    inherit_watchpoints(parent_tid, tid);
    if is_thread {
        new_thread(tid, parent);
        return;
    }
    unshare::settle_thread(process, parent, parent_tid);
    emit::flush(process, parent);
    stack::adopt_layout(process, parent);
    let owner = if process.borrows == 0 {
        parent
    } else {
        process.borrows
    };
    let inherited: &Process = process;
    if PROCESSES.insert(pid, inherited, 0).is_err() {
        lose(Loss::MapFull);
        return;
    }
    let Some(child) = maps::process(pid) else {
        return;
    };
    inherit_watches(parent, pid);
    child.pending.tid = 0;
    child.lock = 0;
    child.generation = emit::generation();
    // What the user side is about to say, it says of the parent.
    child.awaits_greenlet = 0;
    let mm = mm_of(task);
    if mm.is_null() {
        return;
    }
    let shares_memory = clone_flags & CLONE_VM != 0;
    let rss_pages = if shares_memory {
        child.borrows = owner;
        child.rss_pages
    } else {
        child.borrows = 0;
        count_from(child, mm, pid)
    };
    new_thread(tid, pid);
    if let (Some(thread), Some(forked_by)) = (maps::thread(tid), maps::thread(parent_tid)) {
        // Its copy of the stack is in the same calls.
        thread.depth = forked_by.depth;
    }
    emit::task(&Task {
        header: header(task_op::FORK, pid, parent_tid),
        other: parent,
        shares_memory: shares_memory as u32,
        rss_pages,
    });
    debug!(&ctx, "fork: {} -> {}", parent, pid);
}

#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(ctx: BtfTracePointContext) {
    let task = Structure::argument(&ctx, 0);
    let old_tid: u32 = ctx.arg(1);
    let pid: u32 = task.field(config!(task_tgid) as usize);
    let Some(process) = maps::process(pid) else {
        return;
    };
    unshare::before_leaving(pid);
    emit::flush(process, pid);
    // A thread that executes takes its process's id.
    if old_tid != pid {
        let _ = THREADS.remove(old_tid);
        let _ = ARMED.remove(old_tid);
    }
    new_thread(pid, pid);
    // Watchpoints do not survive it.
    forget_watches(pid);
    let _ = ARMED.remove(pid);
    process.layout.thread_source = thread_source::NONE;
    process.layout.finalizing_address = 0;
    process.awaits_greenlet = 0;
    process.looked_at = 0;
    process.rep_ip = 0;
    process.generation = emit::generation();
    let mm = mm_of(task);
    if mm.is_null() {
        return;
    }
    if process.borrows == 0 {
        unwatch(process);
    }
    process.borrows = 0;
    let rss_pages = count_from(process, mm, pid);
    emit::task(&Task {
        header: header(task_op::EXEC, pid, pid),
        other: process.generation,
        shares_memory: 0,
        rss_pages,
    });
    images::executed(process, task, (pid, pid));
    debug!(&ctx, "exec: {}", pid);
}

#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(ctx: BtfTracePointContext) {
    let task = Structure::argument(&ctx, 0);
    let tid: u32 = task.field(config!(task_pid) as usize);
    let pid: u32 = task.field(config!(task_tgid) as usize);
    let Some(process) = maps::process(pid) else {
        return;
    };
    unshare::settle_thread(process, pid, tid);
    let _ = THREADS.remove(tid);
    let _ = ARMED.remove(tid);
    forget_fault(tid);
    let signal = task.follow(config!(task_signal) as usize);
    let live: i32 = signal.field(config!(signal_live) as usize);
    if live > 0 {
        return;
    }
    unshare::before_leaving(pid);
    emit::flush(process, pid);
    let status: u32 = task.field(config!(task_exit_code) as usize);
    emit::task(&Task {
        header: header(task_op::EXIT, pid, tid),
        other: status,
        shares_memory: 0,
        rss_pages: process.rss_pages,
    });
    if process.borrows == 0 {
        unwatch(process);
    }
    forget_watches(pid);
    let _ = PROCESSES.remove(pid);
    debug!(&ctx, "exit: {} status {}", pid, status);
}
