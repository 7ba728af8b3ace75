//! What a program says of its own stacks (`workloads/chains.py`), held against the folded ones.

use std::collections::BTreeMap;

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

/// The line that touches now and then makes another page resident: the number that it returns is
/// an object. So many pages of heap.
const BESIDES: u64 = 16 * KIB;

/// Reads what the program said on its standard output.
#[track_caller]
pub fn parse(stdout: &str) -> Vec<Told> {
    truth::parse(stdout)
}

/// Panics unless the rows of each process that end with the line that touches are the stacks that
/// it told, each frame and line, no more and no fewer, with their bytes.
#[track_caller]
pub fn check(told: &[Told], rows: &[Row]) {
    for process in told {
        assert!(!process.stacks.is_empty(), "{} told nothing", process.pid);
        let leaf = process.stacks[0].frames.last().expect("no frame");
        let truth: BTreeMap<String, u64> = process
            .stacks
            .iter()
            .map(|stack| {
                assert_eq!(stack.frames.last(), Some(leaf), "all touch by one line");
                let mark = stack.greenlet.then(|| GREENLET.to_owned());
                let frames = mark.into_iter().chain(stack.frames.iter().cloned());
                (frames.collect::<Vec<_>>().join(";"), stack.bytes)
            })
            .collect();
        let mut got: BTreeMap<String, u64> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.pid() == process.pid) {
            let frames: Vec<String> = row.frames.iter().map(ToString::to_string).collect();
            if frames.last() == Some(leaf) {
                *got.entry(frames.join(";")).or_default() += row.bytes;
            }
        }
        let wrong: Vec<_> = got.keys().filter(|key| !truth.contains_key(*key)).collect();
        let missing: Vec<_> = truth.keys().filter(|key| !got.contains_key(*key)).collect();
        assert!(
            wrong.is_empty() && missing.is_empty(),
            "pid {}: stacks that the program did not have: {wrong:#?}\n\
             stacks of the program that are missing: {missing:#?}",
            process.pid
        );
        for (stack, bytes) in &truth {
            let off = got[stack].checked_sub(*bytes);
            assert!(
                off.is_some_and(|more| more <= BESIDES),
                "{} bytes instead of {bytes}: {stack}",
                got[stack]
            );
        }
    }
}
