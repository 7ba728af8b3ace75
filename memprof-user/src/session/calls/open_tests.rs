//! Sequences of hits as the versions make them, and the calls that they are.

use memprof_common::records::Header;

use super::*;

const F: u64 = 0x7000_0000_1000;
const G: u64 = 0x7000_0000_2000;
/// When the functions began to be watched.
const SINCE: u64 = 5;

/// Hits of one thread, one a nanosecond from 10 on.
struct Hits {
    calls: OpenCalls,
    clearing: Clearing,
    is_generator: bool,
    time_ns: u64,
    /// `+f1`: a begin of F with the key 1; `~`: approximate, `@N`: at another time than now.
    told: Vec<String>,
}

impl Hits {
    fn of(clearing: Clearing) -> Self {
        Hits {
            calls: OpenCalls::default(),
            clearing,
            is_generator: false,
            time_ns: 10,
            told: Vec::new(),
        }
    }

    fn hit(&mut self, op: u16, function: u64, key: u64) -> &mut Self {
        let hit = Mark {
            header: Header {
                op,
                pid: 1,
                tid: 1,
                time_ns: self.time_ns,
                ..Header::default()
            },
            function,
            lane: 0x1000,
            key,
            source: mark_source::WATCHED,
            ..Mark::default()
        };
        let told = &mut self.told;
        self.calls
            .take(&hit, self.clearing, self.is_generator, SINCE, |mark| {
                let sign = if mark.header.op == mark_op::BEGIN {
                    "+"
                } else {
                    "-"
                };
                let name = if mark.function == F { "f" } else { "g" };
                let guessed = if mark.source == mark_source::SAMPLED {
                    "~"
                } else {
                    ""
                };
                let time = match mark.header.time_ns {
                    now if now == hit.header.time_ns => String::new(),
                    other => format!("@{other}"),
                };
                told.push(format!("{sign}{name}{}{guessed}{time}", mark.key & 0xff));
            });
        self.time_ns += 1;
        self
    }

    fn begin(&mut self, function: u64, key: u64) -> &mut Self {
        self.hit(mark_op::BEGIN, function, key)
    }

    fn end(&mut self, function: u64, key: u64) -> &mut Self {
        self.hit(mark_op::END, function, key)
    }

    fn told(&mut self) -> String {
        std::mem::take(&mut self.told).join(" ")
    }
}

#[test]
fn nested_and_recursive_calls_nest() {
    for clearing in [Clearing::Copied, Clearing::Moved, Clearing::Freed] {
        let mut hits = Hits::of(clearing);
        // Keys grow with the depth: in the upper half for heap objects, which lie anywhere.
        let key = |depth: u64| depth << 48 | depth;
        hits.begin(F, key(1)).begin(F, key(2)).begin(G, key(3));
        hits.end(G, key(3)).end(F, key(2)).end(F, key(1));
        assert_eq!(hits.told(), "+f1 +f2 +g3 -g3 -f2 -f1", "{clearing:?}");
        assert!(hits.calls.lanes.is_empty());
    }
}

#[test]
fn a_frame_that_is_copied_for_its_traceback_has_not_begun_again() {
    let mut hits = Hits::of(Clearing::Copied);
    hits.begin(F, 1).begin(F, 1).end(F, 1);
    assert_eq!(hits.told(), "+f1 -f1");
    hits.begin(F, 1).end(F, 1);
    assert_eq!(hits.told(), "+f1 -f1");
}

#[test]
fn a_frame_that_was_moved_out_ended_when_the_next_hit_shows_it() {
    let mut hits = Hits::of(Clearing::Moved);
    hits.begin(F, 1).begin(G, 2);
    // Both have raised. The next call's frame stands where the first one's was.
    hits.begin(G, 1);
    assert_eq!(hits.told(), "+f1 +g2 -g2 -f1 +g1");
    // Or the traceback goes, while the datastack ends where that frame began.
    hits.hit(mark_op::LET_GO, G, 1);
    assert_eq!(hits.told(), "-g1");
    // What is let go while the call runs on is none of its.
    hits.begin(F, 1).hit(mark_op::LET_GO, F, 2).end(F, 1);
    assert_eq!(hits.told(), "+f1 -f1");
}

#[test]
fn a_frame_object_that_outlives_its_call_does_not_end_it_twice() {
    let key = |depth: u64, object: u64| depth << 48 | object;
    let mut hits = Hits::of(Clearing::Freed);
    hits.begin(F, key(1, 7)).begin(F, key(1, 8));
    assert_eq!(hits.told(), "+f7 -f7 +f8");
    // The first one's object is freed while the second call runs.
    hits.end(F, 7).end(F, 8);
    assert_eq!(hits.told(), "-f8");
    // Its address is used again.
    hits.begin(F, key(1, 7)).end(F, 7);
    assert_eq!(hits.told(), "+f7 -f7");
}

#[test]
fn what_is_let_go_beside_the_remains_of_a_frame_is_no_end() {
    let mut hits = Hits::of(Clearing::Freed);
    // A closure that was called once, and goes.
    hits.begin(F, 7).end(F, 7).end(F, 7);
    assert_eq!(hits.told(), "+f7 -f7");
    // In a forked child too.
    hits.calls = hits.calls.forked(1, 2);
    hits.end(F, 7);
    assert_eq!(hits.told(), "");
    // Its next call has a frame in the same place.
    hits.begin(F, 7).end(F, 7);
    assert_eq!(hits.told(), "+f7 -f7");
    // One that ran when it began to be watched ends once.
    hits.end(G, 8).end(G, 8);
    assert_eq!(hits.told(), "+g8~@5 -g8");
}

#[test]
fn a_call_that_only_ends_began_before_it_was_watched() {
    let mut hits = Hits::of(Clearing::Copied);
    hits.end(F, 1);
    assert_eq!(hits.told(), "+f1~@5 -f1");
}

#[test]
fn generators_live_from_their_creation_to_their_end() {
    let mut hits = Hits::of(Clearing::Copied);
    hits.is_generator = true;
    // Two at a time, made in the same place of the datastack.
    hits.begin(F, 1).begin(F, 1);
    hits.hit(mark_op::LET_GO, F, 9).hit(mark_op::LET_GO, F, 9);
    assert_eq!(hits.told(), "+f1~ +f1~ -f0~ -f0~");
    // Others hold the code object for a while.
    hits.begin(F, 1).hit(mark_op::HELD, F, 9);
    hits.hit(mark_op::LET_GO, F, 9);
    assert_eq!(hits.told(), "+f1~");
    hits.hit(mark_op::LET_GO, F, 9);
    assert_eq!(hits.told(), "-f0~");
}

#[test]
fn a_generator_of_3_10_holds_its_code_twice() {
    let mut hits = Hits::of(Clearing::Freed);
    hits.is_generator = true;
    hits.begin(F, 7)
        .begin(F, 7)
        .hit(mark_op::LET_GO, F, 0)
        .end(F, 7);
    assert_eq!(hits.told(), "+f7~ -f0~");
}

#[test]
fn a_forked_child_has_the_calls_of_the_thread_that_forked() {
    let mut hits = Hits::of(Clearing::Copied);
    hits.begin(F, 1).begin(F, 1);
    hits.told();
    let child = hits.calls.forked(1, 20);
    assert_eq!(child.lanes.keys().collect::<Vec<_>>(), [&(20, 0x1000)]);
    assert!(hits.calls.forked(2, 20).lanes.is_empty());
}
