//! Calls told in records: levels, sums, and what remains of what was never told.

use memprof_common::records::{Header, Task, task_op};

use super::*;
use crate::model::{Attach, Model};

const S: u64 = 1_000_000_000;
const MIB_PAGES: i64 = 256;
const MIB: i64 = 1 << 20;
const PID: u32 = 7;

/// A run whose only process so far is [`PID`]; Unix time is monotonic time.
struct Run {
    model: Model,
    /// What follows is of this process, thread and lane.
    at: (u32, u32, u64),
    depth: u32,
}

impl Run {
    fn new() -> Run {
        let mut model = Model::new(0.0);
        model.attach(Attach {
            pid: PID,
            ..Attach::default()
        });
        let at = (PID, PID, 0);
        let depth = records::Mark::UNKNOWN_DEPTH;
        Run { model, at, depth }
    }

    fn on(&mut self, pid: u32, tid: u32, lane: u64) -> &mut Run {
        self.at = (pid, tid, lane);
        self
    }

    fn record(&mut self, op: u16, flags: u32, name: &str, time_ns: u64, mib: i64) -> &mut Run {
        let (pid, tid, lane) = self.at;
        let mark = records::Mark {
            header: Header {
                op,
                pid,
                tid,
                flags,
                time_ns,
                ..Header::default()
            },
            lane,
            rss_pages: mib * MIB_PAGES,
            source: mark_source::DECORATED,
            depth: self.depth,
            ..records::Mark::default()
        };
        self.model.mark(&mark, &Arc::from(name));
        self
    }

    fn begin(&mut self, name: &str, second: u64, mib: i64) -> &mut Run {
        self.record(mark_op::BEGIN, 0, name, second * S, mib)
    }

    fn end(&mut self, name: &str, second: u64, mib: i64) -> &mut Run {
        self.record(mark_op::END, 0, name, second * S, mib)
    }

    /// A life-cycle record; `other` and `tid` as [`task_op`] says.
    fn task(&mut self, op: u16, (pid, tid): (u32, u32), other: u32, second: u64, mib: i64) {
        let header = Header {
            op,
            pid,
            tid,
            time_ns: second * S,
            ..Header::default()
        };
        self.model.task(&Task {
            header,
            other,
            shares_memory: 0,
            rss_pages: [0, mib * MIB_PAGES, 0, 0],
        });
    }

    fn finish(&mut self, second: u64) -> (Vec<Mark>, Vec<MarkedFunction>) {
        self.model.take_marks(second as f64)
    }
}

/// Function, level, begin, end of each call.
fn spans(marks: &[Mark]) -> Vec<(&str, u32, f64, f64)> {
    let span = |mark: &'_ Mark| (mark.level, mark.begin_epoch_s, mark.end_epoch_s);
    marks
        .iter()
        .map(|mark| {
            let (level, begin, end) = span(mark);
            (mark.function.as_str(), level, begin, end)
        })
        .collect()
}

#[test]
fn a_function_whose_name_is_known_better_is_one() {
    let mut run = Run::new();
    run.begin("f", 1, 0).end("f", 2, 0).begin("f", 3, 0);
    run.model.correct_marks(PID, "f", Some(&Arc::from("app.f")));
    run.end("app.f", 4, 0).begin("g", 5, 0).end("g", 6, 0);
    let (marks, rows) = run.finish(8);
    let names: Vec<&str> = marks.iter().map(|mark| mark.function.as_str()).collect();
    assert_eq!(names, ["app.f", "app.f", "g"]);
    assert_eq!((rows[0].calls, rows[0].cut), (2, 0));
}

#[test]
fn two_names_of_one_function_are_one_row() {
    let mut run = Run::new();
    run.begin("app.f", 1, 0).end("app.f", 2, 0);
    run.begin("f", 3, 0).begin("f", 4, 0).end("f", 5, 0);
    run.model.correct_marks(PID, "f", Some(&Arc::from("app.f")));
    run.begin("app.f", 5, 0)
        .end("app.f", 6, 0)
        .end("app.f", 7, 0);
    let (marks, rows) = run.finish(8);
    assert_eq!(marks.len(), 4);
    assert!(marks.iter().all(|mark| mark.function == "app.f"));
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].calls, rows[0].cut), (4, 0));
    assert_eq!(rows[0].running_s, 5.0);
    let levels: Vec<u64> = rows[0].levels.iter().map(|level| level.calls).collect();
    assert_eq!(levels, [2, 2]);
    // And forgotten as one.
    let mut run = Run::new();
    run.begin("f", 1, 0).begin("app.f", 2, 0);
    run.model.correct_marks(PID, "f", Some(&Arc::from("app.f")));
    run.model.correct_marks(PID, "app.f", None);
    let (marks, rows) = run.finish(8);
    assert_eq!((marks.len(), rows.len()), (0, 0));
}

#[test]
fn what_was_not_meant_has_had_no_calls() {
    let mut run = Run::new();
    run.begin("other", 1, 0).end("other", 2, 0);
    run.begin("other", 3, 0).begin("f", 4, 0).end("f", 5, 0);
    run.model.correct_marks(PID, "other", None);
    run.model.correct_marks(PID, "nobody", None);
    run.begin("f", 6, 0).end("f", 7, 0);
    let (marks, rows) = run.finish(8);
    let levels: Vec<(&str, u32)> = marks
        .iter()
        .map(|mark| (mark.function.as_str(), mark.level))
        .collect();
    // The one within was told a level lower before.
    assert_eq!(levels, [("f", 1), ("f", 0)]);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].calls, rows[0].cut), (2, 0));
}

#[test]
fn recursion_counts_once_and_has_a_level_each() {
    let mut run = Run::new();
    run.begin("f", 1, 10).begin("f", 2, 11).begin("f", 3, 12);
    run.end("f", 4, 14).end("f", 5, 14).end("f", 6, 13);
    let (marks, marked) = run.finish(9);
    let expected = [("f", 0, 1.0, 6.0), ("f", 1, 2.0, 5.0), ("f", 2, 3.0, 4.0)];
    assert_eq!(spans(&marks), expected);
    let [f] = &marked[..] else {
        panic!("{marked:?}")
    };
    assert_eq!((f.calls, f.cut, f.running_s), (3, 0, 5.0));
    assert_eq!((f.rss_delta, f.rss_peak), (3 * MIB, 14 << 20));
    let levels: Vec<_> = f.levels.iter().map(|l| (l.total_s, l.rss_delta)).collect();
    assert_eq!(levels, [(5.0, 3 * MIB), (3.0, 3 * MIB), (1.0, 2 * MIB)]);
}

#[test]
fn an_outer_end_ends_what_is_within() {
    let mut run = Run::new();
    run.begin("outer", 1, 10)
        .begin("lost", 2, 10)
        .begin("lost", 3, 10);
    run.end("outer", 4, 11)
        .begin("next", 5, 11)
        .end("next", 6, 11);
    let (marks, _) = run.finish(9);
    let expected = [
        ("outer", 0, 1.0, 4.0),
        ("lost", 1, 2.0, 4.0),
        ("lost", 2, 3.0, 4.0),
        ("next", 0, 5.0, 6.0),
    ];
    assert_eq!(spans(&marks), expected);
    assert!(marks.iter().all(|mark| !mark.cut));
}

#[test]
fn threads_and_greenlets_have_levels_of_their_own() {
    let mut run = Run::new();
    run.begin("a", 1, 10);
    run.on(PID, 8, 0).begin("a", 2, 10);
    run.on(PID, 8, 99).begin("a", 3, 10).begin("b", 4, 10);
    run.on(PID, 8, 0).end("a", 5, 12);
    run.on(PID, PID, 0).end("a", 6, 12);
    run.on(PID, 8, 99).end("b", 7, 12).end("a", 8, 12);
    let (marks, marked) = run.finish(9);
    let levels: Vec<_> = marks.iter().map(|mark| mark.level).collect();
    assert_eq!(levels, [0, 0, 0, 1]);
    // Three calls that overlap ran from 1 to 8 and grew by 2 MiB together.
    assert_eq!((marked[0].calls, marked[0].running_s), (3, 7.0));
    assert_eq!(marked[0].rss_delta, 2 * MIB);
    assert_eq!(marked[0].levels[0].rss_delta, 6 * MIB);
}

#[test]
fn a_call_that_goes_on_is_not_another_one() {
    let mut run = Run::new();
    run.begin("f", 1, 10).begin("gen", 2, 10).end("gen", 3, 11);
    let resume = flag::RESUMED;
    run.record(mark_op::BEGIN, resume, "gen", 5 * S, 11);
    run.end("gen", 6, 12).end("f", 7, 12);
    let (marks, marked) = run.finish(9);
    let calls: Vec<_> = marks.iter().map(|m| (m.level, m.calls)).collect();
    assert_eq!(calls, [(0, 1), (1, 1), (1, 0)]);
    assert_eq!((marked[1].calls, marked[1].running_s), (1, 2.0));
    assert_eq!(marked[1].rss_delta, 2 * MIB);
}

#[test]
fn what_is_open_is_cut_at_the_end_of_the_process_or_of_the_trace() {
    let mut run = Run::new();
    run.task(task_op::FORK, (8, PID), PID, 0, 10);
    run.on(8, 8, 0).begin("killed", 1, 10).begin("inner", 2, 10);
    run.on(PID, PID, 0).begin("waits", 1, 10);
    run.task(task_op::EXIT, (8, 8), 9, 3, 30);
    run.model.set_rss(PID, 12 << 20, 0);
    let (marks, marked) = run.finish(9);
    let expected = [
        ("killed", 0, 1.0, 3.0),
        ("waits", 0, 1.0, 9.0),
        ("inner", 1, 2.0, 3.0),
    ];
    let mut sorted = spans(&marks);
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap());
    let mut wanted = expected.to_vec();
    wanted.sort_by(|a, b| a.partial_cmp(b).unwrap());
    assert_eq!(sorted, wanted);
    assert!(marks.iter().all(|mark| mark.cut));
    let deltas: Vec<_> = marked
        .iter()
        .map(|m| (&m.function[..], m.rss_delta, m.cut))
        .collect();
    assert!(deltas.contains(&("killed", 20 * MIB, 1)), "{deltas:?}");
    assert!(deltas.contains(&("waits", 2 * MIB, 1)), "{deltas:?}");
}

#[test]
fn a_child_is_in_the_calls_that_forked_it_and_a_new_program_is_not() {
    let mut run = Run::new();
    run.on(PID, 6, 5).begin("main", 1, 10);
    run.on(PID, PID, 0).begin("elsewhere", 1, 10);
    // The thread 6 forks; a worker, and a child that is going to execute something.
    run.task(task_op::FORK, (8, 6), PID, 2, 10);
    run.task(task_op::FORK, (9, 6), PID, 2, 10);
    run.task(task_op::EXEC, (9, 9), 1, 3, 1);
    run.task(task_op::EXIT, (9, 9), 0, 3, 1);
    run.on(8, 8, 0).begin("late", 3, 10).end("late", 4, 10);
    run.on(8, 8, 5)
        .begin("work", 3, 10)
        .end("work", 4, 10)
        .end("main", 5, 15);
    run.on(PID, 6, 5).end("main", 6, 10);
    run.on(PID, PID, 0).end("elsewhere", 6, 10);
    let (marks, marked) = run.finish(9);
    let of = |process| {
        let own: Vec<Mark> = marks
            .iter()
            .filter(|m| m.process == process)
            .cloned()
            .collect();
        own
    };
    let expected = [("main", 0, 1.0, 6.0), ("elsewhere", 0, 1.0, 6.0)];
    assert_eq!(spans(&of(0)).len(), 2);
    assert!(expected.iter().all(|span| spans(&of(0)).contains(span)));
    let expected = [
        ("main", 0, 2.0, 5.0),
        ("late", 0, 3.0, 4.0),
        ("work", 1, 3.0, 4.0),
    ];
    assert_eq!(spans(&of(1)), expected);
    assert_eq!(of(2), []);
    assert!(marked.iter().all(|row| row.process != 2), "{marked:?}");
    assert_eq!(run.model.anomalies().marks_without_begin, 0);
}

#[test]
fn an_end_without_a_begin_is_counted() {
    let mut run = Run::new();
    run.begin("f", 1, 10)
        .end("g", 2, 10)
        .end("f", 3, 10)
        .end("f", 4, 10);
    assert_eq!(run.model.anomalies().marks_without_begin, 2);
    assert_eq!(spans(&run.finish(9).0), [("f", 0, 1.0, 3.0)]);
}

#[test]
fn the_key_tells_calls_of_one_function_apart() {
    let mut run = Run::new();
    let mark = |op, key, second: u64| records::Mark {
        header: Header {
            op,
            pid: PID,
            tid: PID,
            time_ns: second * S,
            ..Header::default()
        },
        key,
        rss_pages: 1,
        source: mark_source::WATCHED,
        depth: records::Mark::UNKNOWN_DEPTH,
        ..records::Mark::default()
    };
    let name: Arc<str> = Arc::from("f");
    for (op, key, second) in [
        (mark_op::BEGIN, 0xa0, 1),
        (mark_op::BEGIN, 0xb0, 2),
        // The inner end was lost.
        (mark_op::END, 0xa0, 3),
        (mark_op::END, 0xc0, 4),
    ] {
        run.model.mark(&mark(op, key, second), &name);
    }
    let (marks, _) = run.finish(9);
    assert_eq!(spans(&marks), [("f", 0, 1.0, 3.0), ("f", 1, 2.0, 3.0)]);
    assert_eq!(run.model.anomalies().marks_without_begin, 0);
}

#[test]
fn lost_ends_do_not_shift_the_levels_of_what_follows() {
    let mut run = Run::new();
    run.depth = 0;
    run.begin("main", 1, 10);
    run.depth = 1;
    // The end of the first call and all of the second were lost.
    run.begin("f", 2, 10).begin("f", 5, 10);
    run.depth = 2;
    run.end("f", 6, 10);
    run.depth = 1;
    run.end("main", 7, 10);
    let (marks, _) = run.finish(9);
    let expected = [
        ("main", 0, 1.0, 7.0),
        ("f", 1, 2.0, 5.0),
        ("f", 1, 5.0, 6.0),
    ];
    assert_eq!(spans(&marks), expected);
    let cut: Vec<_> = marks.iter().map(|mark| mark.cut).collect();
    assert_eq!(cut, [false, true, false]);
}

#[test]
fn a_hundred_thousand_calls_are_counted_and_few_are_drawn() {
    let mut run = Run::new();
    let step = 20_000; // ns
    run.begin("long", 1, 10).end("long", 2, 10);
    for call in 0..100_000u64 {
        let begin = 3 * S + call * step;
        let grown = (call / 1000) as i64;
        run.record(mark_op::BEGIN, 0, "short", begin, 10 + grown);
        run.record(mark_op::END, 0, "short", begin + step / 2, 10 + grown);
    }
    let (marks, marked) = run.finish(9);
    assert!(marks.len() <= MAX_INTERVALS, "{}", marks.len());
    assert_eq!(spans(&marks)[0], ("long", 0, 1.0, 2.0));
    let calls = |name| -> u64 {
        let own = marks.iter().filter(|mark| mark.function == name);
        own.map(|mark| mark.calls).sum()
    };
    assert_eq!((calls("long"), calls("short")), (1, 100_000));
    let short = &marked[1];
    assert_eq!(short.calls, 100_000);
    assert!((short.running_s - 1.0).abs() < 1e-6, "{}", short.running_s);
    assert_eq!(short.rss_peak, 109 << 20);
}

#[test]
fn a_hostile_target_does_not_make_it_grow() {
    let mut run = Run::new();
    for call in 0..MAX_OPEN as u64 + 10 {
        run.record(mark_op::BEGIN, 0, "deep", call, 10);
    }
    for call in 0..9000 {
        let name = format!("f{call}");
        run.on(PID, 9, 0).record(mark_op::BEGIN, 0, &name, 1, 10);
    }
    // Ends of what was too deep are no ends of what was not.
    run.on(PID, PID, 0);
    for call in 0..10 {
        run.record(mark_op::END, 0, "deep", S + call, 10);
    }
    let too_deep = run.model.anomalies().marks_too_deep;
    assert_eq!(too_deep, 10 + 9000);
    let (marks, marked) = run.finish(9);
    assert!(marks.len() <= MAX_INTERVALS);
    assert_eq!(marked.len(), 1, "{} rows", marked.len());
    assert_eq!((marked[0].calls, marked[0].cut), (1 << 16, 1 << 16));
    assert_eq!(marked[0].levels.len(), MAX_LEVELS);
}
