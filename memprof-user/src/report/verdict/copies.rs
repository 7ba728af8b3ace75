//! Copy-on-write after fork: who unshares what parent and child had together, and what helps.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::super::human::{count, size};
use super::super::tally::{FunctionKey, Tally, function_key};
use super::{ROWS, WORTH_ADVICE_BYTES, function};
use crate::model::{Cause, Owner, Profile};

/// What one function wrote, and in which processes.
#[derive(Default)]
struct Writes {
    bytes: u64,
    processes: BTreeSet<u32>,
}

/// Which functions wrote most.
pub fn after_fork(profile: &Profile, tally: &Tally<'_>) -> Vec<String> {
    let cow = tally.amounts.cow;
    if cow == 0 {
        return Vec::new();
    }
    let writers: BTreeSet<u32> = writes(profile).map(|owner| owner.process).collect();
    let mut lines = vec![format!(
        "{} stopped being shared after fork, in {}: it grows PSS and USS, not RSS.",
        size(cow),
        count(writers.len(), "process", "processes")
    )];
    let functions = by_function(profile);
    if !functions.is_empty() {
        lines.push("The largest parts were written by:".to_owned());
    }
    lines.extend(functions.iter().take(ROWS).map(|(key, writes)| {
        let processes = count(writes.processes.len(), "process", "processes");
        format!(
            "  {} {}, in {processes}",
            size(writes.bytes),
            function(*key)
        )
    }));
    if by_reading(profile) >= (cow / 2).max(WORTH_ADVICE_BYTES) {
        lines.push(
            "Merely reading a Python object writes its reference count, and so copies its page. \
             Load less before the fork, or keep data in few large objects (bytes, array, mmap); \
             gc.freeze() before the fork keeps the garbage collector from writing too."
                .to_owned(),
        );
    }
    lines
}

fn writes(profile: &Profile) -> impl Iterator<Item = &Owner> {
    profile.owners.iter().filter(|owner| owner.cow > 0)
}

/// By the function on top of the stack, the most bytes first.
fn by_function(profile: &Profile) -> Vec<(FunctionKey<'_>, Writes)> {
    let mut sums: BTreeMap<FunctionKey<'_>, Writes> = BTreeMap::new();
    for owner in writes(profile) {
        let stack = profile.stacks.get(owner.stack as usize);
        let leaf = stack.and_then(|stack| stack.frames.last());
        if let Some(key) = leaf.and_then(|leaf| function_key(profile, *leaf)) {
            let sum = sums.entry(key).or_default();
            sum.bytes = sum.bytes.saturating_add(owner.cow);
            sum.processes.insert(owner.process);
        }
    }
    let mut functions: Vec<_> = sums.into_iter().collect();
    functions.sort_by_key(|(_, writes)| Reverse(writes.bytes));
    functions
}

/// Bytes that Python itself wrote in a child: of a traced process, or of one that is not, as it
/// shares pages and is nobody's parent. What the kernel wrote for it is data, and a parent's writes
/// to what its children still have are its own work: reference counts may be neither.
fn by_reading(profile: &Profile) -> u64 {
    let processes = || profile.processes.iter();
    let pids: BTreeSet<u32> = processes().map(|process| process.pid).collect();
    let parents: BTreeSet<u32> = processes().map(|process| process.ppid).collect();
    let is_child = |process: u32| {
        let process = profile.processes.get(process as usize);
        process.is_some_and(|process| {
            let is_parent = parents.contains(&process.pid);
            process.inherited > 0 || pids.contains(&process.ppid) || !is_parent
        })
    };
    let written = writes(profile).filter(|owner| {
        owner.cause == Cause::Python && !owner.in_kernel && is_child(owner.process)
    });
    written.map(|owner| owner.cow).fold(0, u64::saturating_add)
}
