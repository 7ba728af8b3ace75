//! A hundred thousand walks of a program that calls, raises, yields, switches greenlets and makes
//! code anew at full speed: each stack that arrives is one that the program had.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use memprof_tests::folded::Row;
use memprof_tests::machine::{self, require, workload};
use memprof_tests::pages::PAGE;
use memprof_tests::program::Program;
use memprof_tests::session::Session;
use memprof_tests::truth;
use serde::Deserialize;

/// Threads, and rounds of each: with its 123 pages a round the program is walked more than
/// 100,000 times.
const SIZE: [&str; 2] = ["4", "210"];
const WALKS: u64 = 100_000;
/// Of so many walks one may fail: at an address that is not there for an instant.
const FAILURES: u64 = 1000;
/// Pages of one stack besides those that the program asked for: an object that the line makes, up to
/// 3.10 its frame too, may be the first in the heap's next page.
const HEAP_PAGES: u64 = 2;

/// What the program says.
#[derive(Debug, Deserialize)]
struct Told {
    /// Its pid.
    pid: u32,
    /// Rounds of all threads together.
    rounds: u64,
    /// Pages by chain; `made_N` stands for a function under another number in each round.
    chains: BTreeMap<String, u64>,
}

/// A test for each of these interpreters.
macro_rules! on_every_version {
    ($($test:ident: $number:literal, $python:expr;)*) => {$(
        #[test]
        fn $test() {
            soak($python, $number);
        }
    )*};
}

on_every_version! {
    on_3_6: "3.6", machine::interpreter("3.6");
    on_3_7: "3.7", machine::interpreter("3.7");
    on_3_8: "3.8", machine::interpreter("3.8");
    on_3_9: "3.9", machine::interpreter("3.9");
    on_3_10: "3.10", machine::interpreter("3.10");
    on_3_11: "3.11", machine::interpreter("3.11");
    on_debians_static_3_11: "3.11", machine::debian_interpreter();
    on_3_12: "3.12", machine::interpreter("3.12");
    on_3_13: "3.13", machine::interpreter("3.13");
    on_debians_static_3_13: "3.13", machine::packaged_interpreter("3.13");
    on_3_14: "3.14", machine::interpreter("3.14");
    on_3_15: "3.15", machine::interpreter("3.15");
}

fn soak(python: Result<PathBuf, String>, version: &str) {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(python) else {
        return;
    };
    let Some(greenlets) = require(machine::greenlets(version)) else {
        return;
    };
    let mut command = Command::new(python);
    command.arg(workload("soak.py")).args(SIZE);
    let mut target = Program::start(command.env("PYTHONPATH", greenlets));
    target.wait_stdout("ready");
    let tracer = session.attach(target.pid(), &[]);
    target.say("go");
    let ended = target
        .finish_within(Duration::from_secs(120))
        .expect_code(0);
    tracer.finish().expect_code(0);
    let told: Vec<Told> = truth::parse(&ended.stdout);
    let [told] = &told[..] else {
        panic!("{told:?}");
    };
    let report = session.report();
    let loss = &report.loss;
    assert_eq!(
        (
            loss.events_lost,
            loss.stacks_truncated,
            loss.unknown_threads
        ),
        (0, 0, 0)
    );
    let walks = check(told, &session.folded(&report));
    assert!(walks >= WALKS, "{walks}");
    assert!(
        loss.stacks_failed * FAILURES < walks,
        "{} of {walks} walks failed",
        loss.stacks_failed
    );
}

/// A row's stack as the program tells it, and the number of the made function in it.
fn normal(row: &Row) -> (Vec<String>, Option<String>) {
    let mut number = None;
    let frames = row.frames.iter().map(|frame| {
        let mut frame = frame.clone();
        if let Some(made) = frame.name.strip_prefix("made_") {
            number = Some(made.to_owned());
            frame.name = "made_N".into();
        }
        frame.to_string()
    });
    let frames = frames.collect();
    (frames, number)
}

/// `name (file` of a frame: without its line.
fn function(frame: &str) -> &str {
    frame
        .rsplit_once(':')
        .map_or(frame, |(function, _)| function)
}

/// Panics when a stack is not one of the program's, or has more than it touched by it. How often
/// it was walked.
fn check(told: &Told, rows: &[Row]) -> u64 {
    let chains: Vec<Vec<&str>> = told.chains.keys().map(|c| c.split(';').collect()).collect();
    let leaf = chains[0].last().expect("a frame");
    let file = "/soak.py:";
    // Where each chain may stand: by which callers, in which function.
    let places: BTreeSet<(&[&str], &str)> = chains
        .iter()
        .flat_map(|chain| (0..chain.len()).map(|at| (&chain[..at], function(chain[at]))))
        .collect();
    let mut got: BTreeMap<(String, Option<String>), u64> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.pid() == told.pid) {
        let (frames, number) = normal(row);
        if frames.last().is_some_and(|last| last == leaf) {
            *got.entry((frames.join(";"), number)).or_default() += row.bytes;
            continue;
        }
        // What the program made resident besides: what it calls that does not touch is cut off.
        let has = |name: &str| frames.iter().any(|frame| frame.starts_with(name));
        let inside = frames.iter().rposition(|frame| frame.contains(file));
        let is_work = has("worker (") && has("steps (") || has("[greenlet]");
        let Some(inside) = inside.filter(|_| is_work && !has("tell (")) else {
            continue;
        };
        let callers: Vec<&str> = frames[..inside].iter().map(String::as_str).collect();
        let here = function(&frames[inside]);
        // A generator is made by a frame of its own function, by a line that need not resume it,
        // or by what that calls (contextlib).
        let is_made = || {
            let by = callers.iter().rposition(|frame| frame.contains(file))?;
            let is_known = chains.iter().flatten().any(|frame| function(frame) == here);
            Some(is_known && places.contains(&(&callers[..by], function(callers[by]))))
        };
        assert!(
            places.contains(&(&callers[..], here)) || is_made() == Some(true),
            "nobody stands there: {frames:#?}"
        );
    }
    let mut pages = 0;
    for ((chain, number), bytes) in &got {
        let Some(&count) = told.chains.get(chain) else {
            panic!("{bytes} bytes by a stack that the program did not have: {number:?} {chain}");
        };
        assert!(
            *bytes <= (count + HEAP_PAGES) * PAGE,
            "{} pages instead of {count}: {number:?} {chain}",
            bytes / PAGE
        );
        pages += bytes / PAGE;
    }
    let all: u64 = told
        .chains
        .iter()
        .map(|(chain, pages)| match chain.contains("made_N") {
            true => pages * told.rounds,
            false => *pages,
        })
        .sum();
    assert!(
        all.saturating_sub(pages) * FAILURES < all,
        "{pages} of {all} pages have a stack"
    );
    all
}
