//! Watched functions: the hardware watchpoint on a code object's reference count was hit. Is it a
//! call that begins, one that ends, or something else? See [`memprof_common::watch`].
//!
//! The user side opens the watchpoints, one a thread and function; threads and forked children
//! have them by inheritance, from their first instruction.

use core::ops::ControlFlow;

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::perf_event, programs::PerfEventContext};
use memprof_common::{
    Loss, PythonLayout, Watched, Watches,
    layout::thread_source,
    records::{Header, Mark, kind, mark_op, mark_source},
    walk::{self, NoFrame},
    watch::{
        self, Datastack, KEY_ADDRESS, LastLinked, MAX_STEPS, WATCHED_FUNCTIONS, WatchOffsets,
        frames, watched_flag,
    },
};

use crate::{
    emit,
    kernel::{all_resident, current, meet, thread_pointer},
    maps::{self, lose},
    memory::{UserWindow, user_word},
    repeat::{self, Rounds},
};

#[perf_event]
pub fn watchpoint(ctx: PerfEventContext) -> u32 {
    // None: it is of a process or an address that is not watched any more.
    let _ = hit(&ctx);
    0
}

/// Where a call stands.
#[derive(Clone, Copy)]
struct Place {
    /// See [`Mark::lane`].
    lane: u64,
    /// See [`Mark::key`].
    key: u64,
}

#[inline(always)]
fn hit(ctx: &PerfEventContext) -> Option<()> {
    let id = bpf_get_current_pid_tgid();
    let (pid, tid) = ((id >> 32) as u32, id as u32);
    // SAFETY: the kernel hands a `bpf_perf_event_data` to a program of this type.
    let address = unsafe { (*ctx.ctx).addr };
    let watches = maps::watches(pid)?;
    let slot = find(watches, address)?;
    let last = maps::count(pid, slot)?;
    if *last == 0 {
        // The code object has died, and this is what its memory is used for now.
        return None;
    }
    let count = user_word(address) as u32;
    let change = count.wrapping_sub(*last) as i32;
    *last = count;
    let begins = match change {
        1 => true,
        -1 => false,
        // The same hit by a second watchpoint.
        0 => return None,
        _ => {
            lose(Loss::MarkMissed);
            return None;
        }
    };
    let watched = watches.functions[slot];
    let offsets = watches.offsets;
    let process = maps::process(pid)?;
    meet(process, pid);
    if process.layout.thread_source == thread_source::NONE {
        return None;
    }
    let scratch = maps::scratch()?;
    let window = &mut scratch.window;
    let tp = thread_pointer(current());
    let layout = &process.layout;
    let tstate = walk::running_thread_state(layout, tp, &mut *window).ok()?;
    let innermost = match walk::innermost_frame(layout, tstate, tp, &mut *window) {
        Ok(frame) => frame,
        Err(NoFrame::NoFrame) => 0,
        Err(_) => {
            lose(Loss::StackFailed);
            return None;
        }
    };
    let (is_call, place) = if offsets.frames == frames::DATASTACK {
        on_datastack(
            layout,
            &offsets,
            &watched,
            (tstate, innermost),
            begins,
            window,
        )?
    } else {
        in_objects(ctx, layout, &offsets, &watched, innermost, begins, window)
    };
    let op = match (begins, is_call) {
        (true, true) => mark_op::BEGIN,
        (false, true) => mark_op::END,
        (true, false) => mark_op::HELD,
        (false, false) => mark_op::LET_GO,
    };
    if op == mark_op::HELD && watched.flags & watched_flag::GENERATOR == 0 {
        return None;
    }
    emit::mark(&Mark {
        header: Header {
            kind: kind::MARK,
            op,
            pid,
            tid,
            flags: 0,
            time_ns: emit::now(),
        },
        function: watched.code,
        lane: place.lane,
        key: place.key,
        rss_pages: all_resident(process),
        source: mark_source::WATCHED,
        depth: Mark::UNKNOWN_DEPTH,
    });
    Some(())
}

#[inline(always)]
fn find(watches: &Watches, address: u64) -> Option<usize> {
    (0..WATCHED_FUNCTIONS).find(|&slot| watches.functions[slot].code == address)
}

/// Whether the hit is of a call whose frame is the last on the datastack, and where.
#[inline(always)]
fn on_datastack(
    layout: &PythonLayout,
    offsets: &WatchOffsets,
    watched: &Watched,
    (tstate, innermost): (u64, u64),
    begins: bool,
    window: &mut UserWindow,
) -> Option<(bool, Place)> {
    let stack = watch::datastack(offsets, tstate, &mut *window)?;
    let mut search = Search {
        linked: LastLinked {
            frame: innermost,
            end: 0,
        },
        layout,
        offsets,
        stack,
        window,
    };
    repeat::run(MAX_STEPS, &mut search);
    let linked_end = search.linked.end;
    let window = search.window;
    let mut chunks = Chunks {
        chunk: stack.chunk,
        count: 0,
    };
    repeat::run(MAX_STEPS, &mut chunks);
    let frame = stack.top.wrapping_sub(watched.frame_bytes as u64);
    let is_call = if linked_end == 0 {
        false
    } else if begins {
        linked_end <= frame
    } else {
        let linked = (innermost, linked_end);
        watch::is_ending(layout, offsets, watched, frame, linked, &mut *window)
    };
    // What lies above the end of the datastack has gone, whenever that was.
    let address = if is_call { frame } else { stack.top };
    Some((
        is_call,
        Place {
            lane: chunks.chunk,
            key: key(address, chunks.count),
        },
    ))
}

#[inline(always)]
fn key(address: u64, depth: u32) -> u64 {
    address & KEY_ADDRESS | (depth as u64) << 48
}

struct Search<'a> {
    linked: LastLinked,
    layout: &'a PythonLayout,
    offsets: &'a WatchOffsets,
    stack: Datastack,
    window: &'a mut UserWindow,
}

impl Rounds for Search<'_> {
    #[inline(always)]
    fn round(&mut self, _: u32) -> ControlFlow<()> {
        let window = &mut *self.window;
        let over = self
            .linked
            .step(self.layout, self.offsets, self.stack, window);
        if over {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// Goes from the last chunk of a datastack to its first, which tells greenlets apart.
struct Chunks {
    chunk: u64,
    count: u32,
}

impl Rounds for Chunks {
    #[inline(always)]
    fn round(&mut self, _: u32) -> ControlFlow<()> {
        // _PyStackChunk.previous is its first word.
        let previous = user_word(self.chunk);
        if previous == 0 {
            return ControlFlow::Break(());
        }
        self.chunk = previous;
        self.count += 1;
        ControlFlow::Continue(())
    }
}

/// Whether the hit is of a call whose frame object is just being made or freed, and where.
#[inline(always)]
fn in_objects(
    ctx: &PerfEventContext,
    layout: &PythonLayout,
    offsets: &WatchOffsets,
    watched: &Watched,
    innermost: u64,
    begins: bool,
    window: &mut UserWindow,
) -> (bool, Place) {
    let mut callers = Callers {
        frame: innermost,
        count: 0,
        previous: layout.frame_previous as u64,
    };
    repeat::run(MAX_STEPS, &mut callers);
    let frame = registers(ctx)
        .into_iter()
        .find(|&register| {
            let at = (innermost, begins);
            watch::is_frame_object(layout, offsets, watched, register, at, &mut *window)
        })
        .unwrap_or(0);
    let root = if innermost == 0 { frame } else { callers.frame };
    // Without callers it is the first frame itself.
    let depth = if innermost == 0 { 0 } else { callers.count + 1 };
    (
        frame != 0,
        Place {
            lane: root,
            key: key(frame, depth),
        },
    )
}

/// Goes from the innermost frame to the first of its thread or greenlet.
struct Callers {
    frame: u64,
    count: u32,
    previous: u64,
}

impl Rounds for Callers {
    #[inline(always)]
    fn round(&mut self, _: u32) -> ControlFlow<()> {
        let previous = user_word(self.frame.wrapping_add(self.previous));
        if previous == 0 {
            return ControlFlow::Break(());
        }
        self.frame = previous;
        self.count += 1;
        ControlFlow::Continue(())
    }
}

/// The registers that may hold a pointer, those first that a callee keeps.
#[inline(always)]
fn registers(ctx: &PerfEventContext) -> [u64; 15] {
    // SAFETY: as in `hit`.
    let regs = unsafe { &(*ctx.ctx).regs };
    [
        regs.rbx, regs.rbp, regs.r12, regs.r13, regs.r14, regs.r15, regs.rdi, regs.rax, regs.rsi,
        regs.rdx, regs.rcx, regs.r8, regs.r9, regs.r10, regs.r11,
    ]
}
