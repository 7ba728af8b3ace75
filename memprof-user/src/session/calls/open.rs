//! From hits of watchpoints to calls: which begins and ends are of one call, and what neither is.
//! Pure.

use std::collections::{HashMap, HashSet};

use memprof_common::records::{Mark, mark_op, mark_source};
use memprof_common::watch::KEY_ADDRESS;

/// How a version clears frames (reference: Python/ceval.c and Objects/frameobject.c of its tag).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clearing {
    /// 3.12 and newer: an outlived frame (a traceback holds it) is copied first, which takes a
    /// reference and looks like another begin of the same frame; then the frame ends.
    Copied,
    /// 3.11: an outlived frame is moved and keeps its reference. Its call ends without a hit,
    /// which a later hit of the thread shows.
    Moved,
    /// 3.10 and older: the frame is an object, and ends when that is freed.
    Freed,
}

impl Clearing {
    /// That of a version, as in `PythonLayout::version`.
    pub fn of(version: u32) -> Self {
        match version {
            0x030c.. => Clearing::Copied,
            0x030b => Clearing::Moved,
            _ => Clearing::Freed,
        }
    }
}

/// An open call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    function: u64,
    key: u64,
}

/// A generator, or a coroutine, between its creation and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Living {
    tid: u32,
    lane: u64,
    key: u64,
}

/// The generators of one function.
#[derive(Clone, Debug, Default)]
struct Generators {
    /// In order of creation.
    living: Vec<Living>,
    /// References that something else took.
    held: u64,
    /// How many there have been: tells their lanes apart.
    count: u64,
}

/// Lanes of generators: none is the address of a datastack.
const GENERATOR_LANE: u64 = 1 << 63;

/// Open calls of one thread or greenlet, or living generators of one function, at most.
const MOST: usize = 1 << 16;

/// The open calls of one process.
#[derive(Clone, Debug, Default)]
pub struct OpenCalls {
    /// By thread and greenlet; outermost first.
    lanes: HashMap<(u32, u64), Vec<Open>>,
    /// Frames whose calls have ended while something still held them.
    outlived: HashSet<u64>,
    /// [`Clearing::Freed`]: functions and their frames that have been freed since. Their memory
    /// holds what they were, and a register its address, so that whoever gives a reference to the
    /// code object back looks like the end of a call: a closure that goes after its only call.
    freed: HashSet<(u64, u64)>,
    generators: HashMap<u64, Generators>,
}

impl OpenCalls {
    /// Takes one hit; hands on the begins and ends that it means, in order. The function is
    /// watched since `since_ns`: a call that only ends began before.
    pub fn take(
        &mut self,
        hit: &Mark,
        clearing: Clearing,
        is_generator: bool,
        since_ns: u64,
        mut each: impl FnMut(&Mark),
    ) {
        if is_generator {
            self.generator(hit, clearing, each);
            return;
        }
        let lane = (hit.header.tid, hit.lane);
        let open = self.lanes.entry(lane).or_default();
        let address = hit.key & KEY_ADDRESS;
        let frame = (hit.function, address);
        let is_it = |call: &Open| match clearing {
            Clearing::Freed => call.key & KEY_ADDRESS == address,
            _ => call.key == hit.key,
        };
        let deeper = |call: &Open| match clearing {
            // How deep it lies is all that heap objects tell.
            Clearing::Freed => call.key & !KEY_ADDRESS >= hit.key & !KEY_ADDRESS,
            _ => call.key >= hit.key,
        };
        match hit.header.op {
            mark_op::BEGIN if clearing == Clearing::Copied && open.iter().any(is_it) => {}
            mark_op::BEGIN => {
                let gone = open.iter().position(deeper);
                if clearing == Clearing::Freed {
                    let frames = open.iter().skip(gone.unwrap_or(open.len()));
                    let room = MOST.saturating_sub(self.outlived.len());
                    self.outlived
                        .extend(frames.map(|call| call.key & KEY_ADDRESS).take(room));
                    self.outlived.remove(&address);
                    self.freed.remove(&frame);
                }
                end_from(open, gone, hit, &mut each);
                if open.len() < MOST {
                    open.push(Open {
                        function: hit.function,
                        key: hit.key,
                    });
                    each(hit);
                }
            }
            mark_op::END => match open.iter().rposition(is_it) {
                Some(ended) => end_from(open, Some(ended), hit, &mut each),
                None if self.outlived.remove(&address) || self.freed.contains(&frame) => {}
                None => {
                    let mut begin = Mark {
                        source: mark_source::SAMPLED,
                        ..*hit
                    };
                    begin.header.op = mark_op::BEGIN;
                    begin.header.time_ns = since_ns.min(hit.header.time_ns);
                    // What it was then is not known.
                    begin.rss_pages = 0;
                    each(&begin);
                    each(hit);
                }
            },
            mark_op::LET_GO if clearing != Clearing::Freed => {
                let gone = open.iter().position(deeper);
                end_from(open, gone, hit, &mut each);
            }
            _ => {}
        }
        if open.is_empty() {
            self.lanes.remove(&lane);
        }
        let is_freed = clearing == Clearing::Freed && hit.header.op == mark_op::END;
        if is_freed && self.freed.len() < MOST {
            self.freed.insert(frame);
        }
    }

    /// A generator is in no lane of its thread: it lives from its creation to its end, whoever
    /// runs it. Which one ended is not told: the oldest.
    fn generator(&mut self, hit: &Mark, clearing: Clearing, mut each: impl FnMut(&Mark)) {
        let own = self.generators.entry(hit.function).or_default();
        let approximate = Mark {
            source: mark_source::SAMPLED,
            ..*hit
        };
        // Making the generator takes a second reference, with the same frame at hand.
        let is_known =
            clearing == Clearing::Freed && own.living.iter().any(|living| living.key == hit.key);
        match hit.header.op {
            mark_op::BEGIN if !is_known && own.living.len() < MOST => {
                own.count += 1;
                let living = Living {
                    tid: hit.header.tid,
                    lane: GENERATOR_LANE | (hit.function << 20) | (own.count & 0xf_ffff),
                    key: hit.key,
                };
                own.living.push(living);
                each(&Mark {
                    lane: living.lane,
                    ..approximate
                });
            }
            mark_op::BEGIN | mark_op::HELD => own.held += 1,
            _ if own.held > 0 => own.held -= 1,
            _ if own.living.is_empty() => {}
            _ => {
                let ended = own.living.remove(0);
                let mut mark = approximate;
                mark.header.op = mark_op::END;
                mark.header.tid = ended.tid;
                mark.lane = ended.lane;
                mark.key = 0;
                each(&mark);
            }
        }
    }

    /// What a child has that this thread forked.
    pub fn forked(&self, tid: u32, child: u32) -> OpenCalls {
        let own = self.lanes.iter().filter(|((of, _), _)| *of == tid);
        OpenCalls {
            outlived: self.outlived.clone(),
            freed: self.freed.clone(),
            lanes: own
                .map(|((_, lane), open)| ((child, *lane), open.clone()))
                .collect(),
            generators: HashMap::new(),
        }
    }
}

/// Ends the calls from this one inwards, the innermost first.
fn end_from(open: &mut Vec<Open>, from: Option<usize>, hit: &Mark, each: &mut impl FnMut(&Mark)) {
    let Some(from) = from else { return };
    for call in open.drain(from..).rev() {
        let mut mark = *hit;
        mark.header.op = mark_op::END;
        mark.function = call.function;
        mark.key = call.key;
        each(&mark);
    }
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
