//! What a program says of its own stacks (`workloads/chains.py`), held against the folded ones.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::folded::Row;
use crate::truth::{self, KIB};

/// The mark of a stack that begins where a greenlet does.
pub const GREENLET: &str = "[greenlet]";

/// What one process said.
#[derive(Debug, Deserialize)]
pub struct Told {
    /// Its pid.
    pub pid: u32,
    /// Its distinct stacks.
    pub stacks: Vec<Stack>,
}

/// One chain of callers, and what it made resident.
#[derive(Debug, Deserialize)]
pub struct Stack {
    /// The thread was in a greenlet, and not in its main one.
    pub greenlet: bool,
    /// `name (file:line)`, outermost first, as the interpreter itself shows them.
    pub frames: Vec<String>,
    /// Bytes.
    pub bytes: u64,
}

/// The line that touches may make another page resident: the number that it returns is an object.
/// So many pages of heap.
const BESIDES: u64 = 16 * KIB;

/// Reads what the program said on its standard output.
#[track_caller]
pub fn parse(stdout: &str) -> Vec<Told> {
    truth::parse(stdout)
}

/// Panics unless the rows of each process that end with a line that touches are the stacks that it
/// told, each frame and line, no more and no fewer, with their bytes.
#[track_caller]
pub fn check(told: &[Told], rows: &[Row]) {
    let leaves: BTreeSet<&String> = told
        .iter()
        .flat_map(|told| &told.stacks)
        .filter_map(|stack| stack.frames.last())
        .collect();
    assert!(!leaves.is_empty(), "the program told nothing");
    // One process may speak for several interpreters.
    let mut truth: BTreeMap<(u32, String), u64> = BTreeMap::new();
    for process in told {
        for stack in &process.stacks {
            let mark = stack.greenlet.then(|| GREENLET.to_owned());
            let frames: Vec<String> = mark.into_iter().chain(stack.frames.clone()).collect();
            *truth.entry((process.pid, frames.join(";"))).or_default() += stack.bytes;
        }
    }
    let mut got: BTreeMap<(u32, String), u64> = BTreeMap::new();
    for row in rows {
        // The interpreter's own code, mapped when it is first run: in a forked child, too.
        if row.frames.iter().any(|frame| frame.name == "[file-backed]") {
            continue;
        }
        // What follows a stack says what pages they are, or that the kernel took them.
        let depth = row.frames.iter().rposition(|frame| !frame.file.is_empty());
        let frames = &row.frames[..depth.map_or(0, |depth| depth + 1)];
        let frames: Vec<String> = frames.iter().map(ToString::to_string).collect();
        if frames.last().is_some_and(|leaf| leaves.contains(leaf)) {
            *got.entry((row.pid(), frames.join(";"))).or_default() += row.bytes;
        }
    }
    let wrong: Vec<_> = got.keys().filter(|key| !truth.contains_key(*key)).collect();
    let missing: Vec<_> = truth.keys().filter(|key| !got.contains_key(*key)).collect();
    assert!(
        wrong.is_empty() && missing.is_empty(),
        "stacks that the program did not have: {wrong:#?}\n\
         stacks of the program that are missing: {missing:#?}"
    );
    for (stack, bytes) in &truth {
        let off = got[stack].checked_sub(*bytes);
        assert!(
            off.is_some_and(|more| more <= BESIDES),
            "{} bytes instead of {bytes}: {stack:?}",
            got[stack]
        );
    }
}
