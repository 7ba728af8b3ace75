//! A snapshot for scripts. Its keys are a contract: more may be added, none renamed.
//!
//! ```text
//! {"schema": 1, "taken": seconds since the epoch, "metric": "bytes",
//!  "total": {"processes", "rss", "pss", "uss", "anon", "file", "shmem", "swap"},
//!  "processes": [{"pid", "ppid", "role", "python", "rss", "pss", "uss", "anon", "file", "shmem",
//!                 "swap", "threads", "native_threads", "note"}]}
//! ```
//!
//! Parents stand before their children. `rss` = `anon` + `file` + `shmem`; `swap` comes on top.
//! `pss` and `uss` are null when the kernel refuses to tell, in `total` when it does for one.
//! `python` is null for a process that is not Python. `threads` is null when there is no Python
//! that can be walked, and `note` then may say why; else
//!
//! ```text
//! [{"tid", "name", "running", "torn", "truncated", "greenlet",
//!   "frames": [{"function", "file", "line"}]}]
//! ```
//!
//! with the leaf first. `running`: it did not sleep through the look; its stack is exact only
//! without this. `torn`: its frames changed between two walks, or could not be followed, and
//! need not belong together. `greenlet`: it begins where a greenlet does. `tid` and `line` may be null: not known.

use serde_json::{Value, json};

use super::{Process, Snapshot, StackFrame, ThreadStack};

/// Version of the keys.
const SCHEMA: u32 = 1;

/// The snapshot as JSON. Names are as the target gave them.
pub fn json(snapshot: &Snapshot) -> Value {
    let totals = snapshot.totals();
    json!({
        "schema": SCHEMA,
        "taken": snapshot.taken_epoch_s,
        "metric": "bytes",
        "total": {
            "processes": snapshot.processes.len(),
            "rss": totals.rss.total(),
            "pss": totals.pss,
            "uss": totals.uss,
            "anon": totals.rss.anon,
            "file": totals.rss.file,
            "shmem": totals.rss.shmem,
            "swap": totals.rss.swap,
        },
        "processes": snapshot.processes.iter().map(process).collect::<Vec<Value>>(),
    })
}

fn process(process: &Process) -> Value {
    let threads = process.threads.as_ref();
    json!({
        "pid": process.pid,
        "ppid": process.ppid,
        "role": process.role,
        "python": process.python,
        "rss": process.rss.total(),
        "pss": process.rollup.map(|rollup| rollup.pss),
        "uss": process.rollup.map(|rollup| rollup.uss),
        "anon": process.rss.anon,
        "file": process.rss.file,
        "shmem": process.rss.shmem,
        "swap": process.rss.swap,
        "threads": threads.map(|threads| threads.iter().map(thread).collect::<Vec<Value>>()),
        "native_threads": process.native_threads,
        "note": process.note,
    })
}

fn thread(thread: &ThreadStack) -> Value {
    json!({
        "tid": thread.tid,
        "name": thread.name,
        "running": thread.running,
        "torn": thread.torn,
        "truncated": thread.truncated,
        "greenlet": thread.greenlet,
        "frames": thread.frames.iter().map(frame).collect::<Vec<Value>>(),
    })
}

fn frame(frame: &StackFrame) -> Value {
    json!({
        "function": frame.function,
        "file": frame.file,
        "line": (frame.line != 0).then_some(frame.line),
    })
}
