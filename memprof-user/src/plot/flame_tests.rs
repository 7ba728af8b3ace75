//! Tests of [`super`]: which call comes to lie in which row, and in which colour.

use super::super::data::Point;
use super::*;

fn call(function: &str, level: u32, begin: f64, end: f64) -> Call {
    let point = |time_s| Point { time_s, bytes: 0.0 };
    Call {
        function: function.to_owned(),
        curve: None,
        pid: None,
        begin: point(begin),
        end: point(end),
        on_curve: [0.0; 2],
        level,
        calls: 1,
        approximate: false,
    }
}

fn laid(calls: &[Call]) -> Vec<Vec<&str>> {
    let (rows, beyond) = rows(calls.iter().collect());
    assert_eq!(beyond, 0);
    let names = |row: &Vec<&'_ Call>| row.iter().map(|call| call.function.clone()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(names).collect();
    let known = |name: &String| calls.iter().find(|c| c.function == *name);
    rows.iter()
        .map(|row| {
            let names = row.iter().filter_map(known);
            names.map(|call| call.function.as_str()).collect()
        })
        .collect()
}

#[test]
fn nested_calls_lie_below_their_callers() {
    let calls = [
        call("handle", 0, 0.0, 9.0),
        call("first", 1, 1.0, 3.0),
        call("build", 2, 1.5, 2.0),
        call("second", 1, 3.0, 8.0),
    ];
    assert_eq!(
        laid(&calls),
        [vec!["handle"], vec!["first", "second"], vec!["build"]]
    );
}

#[test]
fn concurrent_calls_lie_beside_each_other_with_what_they_call() {
    let calls = [
        call("a", 0, 0.0, 9.0),
        call("a1", 1, 0.5, 5.0),
        call("b", 0, 1.0, 11.0),
        call("b1", 1, 3.0, 10.0),
    ];
    assert_eq!(laid(&calls), [["a"], ["a1"], ["b"], ["b1"]]);
}

#[test]
fn of_two_open_calls_the_later_one_calls() {
    // The first one waits while the second one builds.
    let calls = [
        call("first", 0, 0.0, 9.0),
        call("build", 1, 0.1, 2.0),
        call("other", 0, 3.0, 8.0),
        call("grow", 1, 3.1, 5.0),
    ];
    assert_eq!(laid(&calls), [["first"], ["build"], ["other"], ["grow"]]);
}

#[test]
fn a_call_whose_caller_is_not_known_has_a_row_too() {
    let calls = [call("inner", 2, 0.0, 1.0), call("inner2", 2, 1.0, 2.0)];
    assert_eq!(laid(&calls), [vec!["inner", "inner2"]]);
}

#[test]
fn rows_are_bounded_and_what_is_left_out_is_counted() {
    let calls: Vec<Call> = (0..500).map(|i| call("f", i, 0.0, 1.0)).collect();
    let (kept, beyond) = rows(calls.iter().collect());
    assert_eq!((kept.len(), beyond), (MAX_ROWS, 500 - MAX_ROWS));
    let at_once: Vec<Call> = (0..500).map(|_| call("f", 0, 0.0, 1.0)).collect();
    let (kept, beyond) = rows(at_once.iter().collect());
    assert_eq!(kept.len() + beyond, 500);
    assert!(kept.len() <= MAX_ROWS + 1, "{}", kept.len());
}

#[test]
fn colours_tell_growth_from_shrinking_and_a_page_from_nothing() {
    let flame = Flame {
        lanes: Vec::new(),
        labels: HashMap::new(),
        largest: 100.0 * 1048576.0,
        left_out: (0, 0),
    };
    assert_eq!(flame.step(0.0), 0);
    assert_eq!(flame.step(4095.0), 0);
    assert_eq!(flame.step(4096.0), 1);
    assert_eq!(flame.step(100.0 * 1048576.0), HEAT_STEPS);
    assert_eq!(flame.step(-100.0 * 1048576.0), -HEAT_STEPS);
    assert_eq!(flame.step(10.0 * 1048576.0), 2);
}
