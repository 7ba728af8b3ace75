//! Marks of decorated functions, held against what the functions themselves saw.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use memprof_tests::dat::{self, Dat, Func};
use memprof_tests::judge::{judge_functions, judge_plot_and_peak};
use memprof_tests::machine::{self, require, workload};
use memprof_tests::report::Report;
use memprof_tests::session::Session;
use memprof_tests::truth::{self, KIB, MIB, Tolerance};
use serde::Deserialize;

/// What a process of marks.py prints.
#[derive(Debug, Deserialize)]
struct Truth {
    pid: u32,
    calls: Vec<Call>,
}

/// Function, level, begin and end in Unix seconds, RSS at the begin and the end in bytes.
#[derive(Debug, Deserialize)]
struct Call(String, u32, f64, Option<f64>, u64, Option<u64>);

/// The .dat has four decimals.
const DECIMALS: f64 = 0.0001;

/// The function's own reading of /proc comes after the mark, and may be the first; what it touches
/// in earnest are blocks of 1 MiB.
const RSS: Tolerance = Tolerance {
    percent: 0.0,
    floor: 512 * KIB,
};

/// Traces a case of marks.py: what the program says, the .dat, and the report.
fn run(session: &Session, python: &Path, case: &str) -> (Vec<Truth>, Dat, Report) {
    let script = workload("marks.py");
    let (python, script) = (python.to_string_lossy(), script.to_string_lossy());
    let args = ["run", "--force", "-o", "out", "--", &python, &script, case];
    let ended = session.run(&args);
    let report = session.report();
    report.assert_nothing_lost();
    (
        truth::parse(&ended.stdout),
        dat::parse(&session.read("out.dat")),
        report,
    )
}

/// Each call that the process made has a line of its own, around it, on its level.
#[track_caller]
fn check(dat: &Dat, truth: &Truth, module: &str) {
    let band = dat.band(truth.pid);
    let mut calls: BTreeMap<(String, u32), Vec<&Call>> = BTreeMap::new();
    for call in &truth.calls {
        let track = (format!("{module}.{}", call.0), call.1);
        calls.entry(track).or_default().push(call);
    }
    let mut lines: BTreeMap<(String, u32), Vec<&Func>> = BTreeMap::new();
    for func in dat.funcs_of(truth.pid) {
        let track = (func.name.clone(), func.level - band);
        lines.entry(track).or_default().push(func);
    }
    let tracks: Vec<_> = lines.keys().collect();
    assert_eq!(
        tracks,
        calls.keys().collect::<Vec<_>>(),
        "functions and levels"
    );
    for (track, calls) in calls {
        let mut own = lines[&track].clone();
        assert_eq!(own.len(), calls.len(), "{track:?}: {own:?} of {calls:?}");
        assert!(pair(&calls, &mut own), "{track:?}: {own:?} of {calls:?}");
    }
}

/// Gives each call a line that fits; those of threads overlap, and which is whose shows only so.
fn pair(calls: &[&Call], lines: &mut Vec<&Func>) -> bool {
    let Some((first, rest)) = calls.split_first() else {
        return true;
    };
    (0..lines.len()).any(|at| {
        let line = lines.remove(at);
        let pairs = fits(first, line) && pair(rest, lines);
        if !pairs {
            lines.insert(at, line);
        }
        pairs
    })
}

/// The line is around the call, and its RSS is what the call saw.
fn fits(Call(_, _, begin, end, rss_begin, rss_end): &Call, func: &Func) -> bool {
    let is_begin = func.epoch_s[0] <= begin + DECIMALS && RSS.holds(func.rss[0], *rss_begin);
    let is_end = end.zip(*rss_end).is_none_or(|(end, rss_end)| {
        func.epoch_s[1] >= end - DECIMALS && RSS.holds(func.rss[1], rss_end)
    });
    is_begin && is_end
}

/// Every FUNC line of the process of the MEM lines lies on the curve.
#[track_caller]
fn check_curve(dat: &Dat) {
    for func in &dat.funcs {
        for (mib, epoch_s) in func.mib.into_iter().zip(func.epoch_s) {
            let on_it = |at: &dat::Sample| at.epoch_s == epoch_s && (at.mib - mib).abs() <= 1e-4;
            assert!(dat.mem.iter().any(on_it), "no MEM line for {func:?}");
        }
    }
}

fn interpreters(versions: &[&str]) -> Vec<PathBuf> {
    let found = versions
        .iter()
        .map(|version| require(machine::interpreter(version)));
    found.flatten().collect()
}

#[test]
fn levels_times_and_memory_are_those_that_the_functions_saw() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(mprof) = require(machine::venv("mprof")) else {
        return;
    };
    // The oldest, the last before frames became part of a stack, and the newest.
    for python in interpreters(&["3.6", "3.10", "3.12", "3.15"]) {
        let (truths, dat, report) = run(&session, &python, "shapes");
        let [truth] = &truths[..] else {
            panic!("one process: {truths:?}")
        };
        check(&dat, truth, "__main__");
        check_curve(&dat);
        if python.ends_with("python3.15") {
            judge_plot_and_peak(&mprof, session.dir(), "out.dat", &dat);
            judge_functions(&mprof, session.dir(), "out.dat", &dat);
        }
        let mark = |name: &str| report.mark(truth.pid, &format!("__main__.{name}"));
        let recursive = mark("recursive");
        assert_eq!((recursive.calls, recursive.levels.len()), (3, 3));
        // Each of the three calls holds a block of 2 MiB while the next one runs.
        let grown = (recursive.rss_peak as i64 - recursive.rss_delta) as u64;
        let before = truth.calls[0].4;
        RSS.check("peak in recursive", grown - before, 6 * MIB);
        // What goes on is no other call: generator 1, step 3.
        assert_eq!(mark("generator").calls, 1);
        assert_eq!(mark("coroutines.<locals>.step").calls, 3);
        assert_eq!(mark("threads.<locals>.outer").calls, 3);
        let grown = mark("leaf").rss_delta as u64;
        RSS.check("growth in leaf", grown, 6 * MIB);
        assert!(
            report
                .marks
                .iter()
                .all(|mark| mark.cut == 0 && !mark.approximate)
        );
    }
}

#[test]
fn greenlets_of_one_thread_have_levels_of_their_own() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::venv("python")) else {
        return;
    };
    let (truths, dat, _) = run(&session, &python, "greenlets");
    check(&dat, &truths[0], "__main__");
}

#[test]
fn children_keep_their_marks_however_they_end() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(mprof) = require(machine::venv("mprof")) else {
        return;
    };
    for python in interpreters(&["3.8", "3.13"]) {
        let (truths, dat, report) = run(&session, &python, "processes");
        assert_eq!(truths.len(), 8, "fork and spawn, four ends each");
        for truth in &truths {
            let spawned = dat.funcs_of(truth.pid)[0].name.starts_with("__mp_main__.");
            let module = if spawned { "__mp_main__" } else { "__main__" };
            check(&dat, truth, module);
            let job = report.mark(truth.pid, &format!("{module}.job"));
            let ended = truth.calls[0].3.is_some();
            assert_eq!((job.calls, job.cut), (1, u64::from(!ended)), "{truth:?}");
            // 3 MiB in job itself, 1 MiB in leaf; more where it said its truth and died of it.
            assert!(
                job.rss_peak >= truth.calls[0].4 + 4 * MIB,
                "{job:?} of {truth:?}"
            );
            let leaf = report.mark(truth.pid, &format!("{module}.leaf"));
            RSS.check("growth in leaf", leaf.rss_delta as u64, MIB);
        }
        let cut = |report: &Report| report.marks.iter().filter(|mark| mark.cut > 0).count();
        assert_eq!(
            cut(&report),
            6,
            "_exit, SIGTERM and SIGKILL, by fork and by spawn"
        );
        let spawned = dat
            .funcs
            .iter()
            .filter(|func| func.name == "__mp_main__.job");
        assert_eq!(spawned.count(), 4);
        let bands: Vec<u32> = truths.iter().map(|truth| dat.band(truth.pid)).collect();
        let mut sorted = bands.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 8, "a band each: {bands:?}");
        judge_plot_and_peak(&mprof, session.dir(), "out.dat", &dat);
    }
}

#[test]
fn a_hundred_thousand_calls_are_counted_and_timed_by_the_programs_clock() {
    let Some(session) = Session::open() else {
        return;
    };
    for python in interpreters(&["3.8", "3.11", "3.13", "3.14"]) {
        let (truths, dat, report) = run(&session, &python, "clock");
        let truth = &truths[0];
        assert_eq!(report.mark(truth.pid, "__main__.short").calls, 100_000);
        assert!(dat.funcs.len() <= 500, "{} FUNC lines", dat.funcs.len());
        let drawn = dat
            .funcs
            .iter()
            .filter(|func| func.name == "__main__.short");
        assert_eq!(drawn.map(|func| func.calls).sum::<u64>(), 100_000);
        // A busy machine may stop the program anywhere: the median of fifty calls, not the worst.
        let mut off: Vec<f64> = Vec::new();
        for Call(name, _, begin, end, ..) in &truth.calls {
            let mark = report.mark(truth.pid, &format!("__main__.{name}"));
            let end = end.expect("it has ended");
            // Unix time as a float has steps of 0.24 µs.
            assert!(
                mark.first_begin <= begin + 1e-6 && mark.last_end >= end - 1e-6,
                "{mark:?}"
            );
            off.push((begin - mark.first_begin).max(mark.last_end - end));
        }
        off.sort_by(f64::total_cmp);
        let median = off[off.len() / 2];
        assert!(median <= 50e-6, "{:.1} µs off: {off:?}", median * 1e6);
    }
}
