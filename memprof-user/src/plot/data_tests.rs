//! Tests of [`super`]: what is drawn of a recording.

use super::*;
use crate::recording::{Point as Sample, Series};

const MIB: f64 = 1048576.0;

fn series(pid: u32, role: Option<&str>, samples: &[(f64, f64)]) -> Series {
    let point = |&(time_s, mib): &(f64, f64)| Sample {
        epoch_s: 1_700_000_000.0 + time_s,
        bytes: mib * MIB,
    };
    Series {
        label: pid.to_string(),
        pid: Some(pid),
        role: role.map(str::to_owned),
        points: samples.iter().map(point).collect(),
    }
}

fn points(curve: &Curve) -> Vec<(f64, f64)> {
    let rounded = |p: &Point| (p.time_s, p.bytes / MIB);
    curve.points.iter().map(rounded).collect()
}

fn name(curve: &Curve) -> String {
    format!("{}{}", curve.label, curve.pid)
}

fn prefork(role: Option<&str>) -> Recording {
    Recording {
        main: series(
            1,
            role,
            &[
                (0.0, 10.0),
                (1.0, 10.0),
                (2.0, 10.0),
                (3.0, 11.0),
                (6.0, 11.0),
            ],
        ),
        children: vec![
            series(2, role, &[(1.0, 5.0), (2.0, 6.0)]),
            series(3, role, &[(1.0, 5.0), (2.0, 8.0), (3.0, 20.0), (6.0, 21.0)]),
        ],
        ..Recording::default()
    }
}

#[test]
fn the_total_counts_a_process_from_its_first_sample_to_its_last() {
    let data = Data::new(&prefork(Some("app")), "a.dat").unwrap();
    let labels: Vec<String> = data.curves.iter().map(name).collect();
    assert_eq!(labels, ["all processes", "app (1)", "app (3)", "app (2)"]);
    let total = points(&data.curves[0]);
    // At 3 the second child's sample may just be late; at 6 it has gone.
    let expected = [
        (0.0, 10.0),
        (1.0, 20.0),
        (2.0, 24.0),
        (3.0, 37.0),
        (6.0, 32.0),
    ];
    assert_eq!(total, expected);
}

#[test]
fn of_a_file_that_may_hold_the_total_already_none_is_made() {
    let data = Data::new(&prefork(None), "a.dat").unwrap();
    let labels: Vec<String> = data.curves.iter().map(name).collect();
    assert_eq!(labels, ["main process (1)", "child 3", "child 2"]);
    let mut tree = prefork(Some("app"));
    tree.includes_children = true;
    let data = Data::new(&tree, "a.dat").unwrap();
    assert_eq!(data.curves[0].part, Part::Total);
    assert_eq!(points(&data.curves[0])[3], (3.0, 11.0));
}

#[test]
fn a_file_without_samples_has_nothing_to_draw() {
    assert_eq!(Data::new(&Recording::default(), "a.dat"), None);
}

#[test]
fn a_window_reads_curves_at_its_edges() {
    let mut data = Data::new(&prefork(None), "a.dat").unwrap();
    data.cut(Range {
        begin: 1.5,
        end: 2.5,
    });
    assert_eq!(
        points(&data.curves[1]),
        [(1.5, 6.5), (2.0, 8.0), (2.5, 14.0)]
    );
    // The other child ends at 2.
    assert_eq!(points(&data.curves[2]), [(1.5, 5.5), (2.0, 6.0)]);
}

#[test]
fn a_call_belongs_to_its_process_with_its_own_memory() {
    let mut recording = prefork(Some("app"));
    let at = |time_s: f64, mib: f64| Sample {
        epoch_s: 1_700_000_000.0 + time_s,
        bytes: mib * MIB,
    };
    recording.calls = vec![recording::Call {
        function: "app.grow".to_owned(),
        pid: Some(3),
        begin: at(1.25, 10.0),
        end: at(2.75, 11.0),
        own_bytes: Some([5.0 * MIB, 20.0 * MIB]),
        calls: 2,
        ..recording::Call::default()
    }];
    let data = Data::new(&recording, "a.dat").unwrap();
    let call = &data.calls[0];
    assert_eq!(name(&data.curves[call.curve.unwrap()]), "app (3)");
    assert_eq!(call.growth(), 15.0 * MIB);
    assert_eq!((call.begin.time_s, call.end.time_s), (1.25, 2.75));
    assert_eq!(call.on_curve, [5.0 * MIB, 20.0 * MIB]);
}

#[test]
fn a_call_lies_on_the_curve_that_there_is() {
    let at = |time_s: f64, mib: f64| Sample {
        epoch_s: 1_700_000_000.0 + time_s,
        bytes: mib * MIB,
    };
    let call = |pid| recording::Call {
        pid,
        begin: at(1.0, 10.0),
        end: at(2.5, 10.5),
        own_bytes: Some([2.0 * MIB, 4.0 * MIB]),
        ..recording::Call::default()
    };
    let places = |recording: &Recording| {
        let data = Data::new(recording, "a.dat").unwrap();
        assert!(data.calls.iter().all(|call| call.growth() == 2.0 * MIB));
        let mib = |call: &Call| call.on_curve.map(|bytes| bytes / MIB);
        data.calls.iter().map(mib).collect::<Vec<_>>()
    };
    // 9 has no curve: it lies on the main one.
    let mut recording = prefork(Some("app"));
    recording.calls = vec![call(None), call(Some(3)), call(Some(9))];
    assert_eq!(places(&recording), [[2.0, 4.0], [2.0, 4.0], [10.0, 10.5]]);
    // The total is no process's own, and neither is PSS a call's RSS.
    recording.includes_children = true;
    assert_eq!(places(&recording), [[10.0, 10.5], [2.0, 4.0], [10.0, 10.5]]);
    assert_eq!(Data::new(&recording, "a.dat").unwrap().main.0, "app");
    recording.includes_children = false;
    recording.metric = Some("pss".to_owned());
    assert_eq!(
        places(&recording),
        [[10.0, 10.5], [5.0, 14.0], [10.0, 10.5]]
    );
}

fn curve(points: Vec<Point>) -> Curve {
    Curve {
        label: String::new(),
        pid: String::new(),
        part: Part::Main,
        points,
    }
}

#[test]
fn the_trend_is_the_line_of_least_squares() {
    let at = |time_s, bytes| Point { time_s, bytes };
    let straight = curve(
        (0..9)
            .map(|i| at(f64::from(i), 100.0 + 7.0 * f64::from(i)))
            .collect(),
    );
    let (slope, zero) = straight.trend().unwrap();
    assert!((slope - 7.0).abs() < 1e-9 && (zero - 100.0).abs() < 1e-9);
    // numpy.polyfit([0, 1, 3], [1, 2, 2], 1) = [0.28571429, 1.28571429]
    let (slope, zero) = curve(vec![at(0.0, 1.0), at(1.0, 2.0), at(3.0, 2.0)])
        .trend()
        .unwrap();
    assert!((slope - 2.0 / 7.0).abs() < 1e-9 && (zero - 9.0 / 7.0).abs() < 1e-9);
    assert_eq!(curve(vec![at(5.0, 1.0)]).trend(), None);
}

#[test]
fn thinning_keeps_the_peak_and_the_order() {
    let bytes = |i: u32| if i == 54_321 { 9e9 } else { f64::from(i % 7) };
    let at = |i: u32| Point {
        time_s: f64::from(i) / 10.0,
        bytes: bytes(i),
    };
    let all: Vec<Point> = (0..100_000).map(at).collect();
    let range = Range {
        begin: 0.0,
        end: 10_000.0,
    };
    let thinned = thin(&all, range, 800.0);
    assert!(thinned.len() <= 4 * 801, "{}", thinned.len());
    assert!(thinned.is_sorted_by(|a, b| a.time_s <= b.time_s));
    assert!(thinned.contains(&at(54_321)));
    assert_eq!((thinned.first(), thinned.last()), (all.first(), all.last()));
}

#[test]
fn a_suspended_machine_leaves_a_gap_and_a_loaded_one_does_not() {
    let at = |time_s: f64| Point { time_s, bytes: 1.0 };
    let steady: Vec<Point> = (0..50).map(|i| at(f64::from(i) / 10.0)).collect();
    assert_eq!(stretches(&steady).len(), 1);
    let late: Vec<Point> = steady.iter().copied().chain([at(5.8)]).collect();
    assert_eq!(stretches(&late).len(), 1);
    let asleep: Vec<Point> = steady.iter().copied().chain([at(60.0), at(60.1)]).collect();
    let lengths: Vec<usize> = stretches(&asleep).iter().map(|s| s.len()).collect();
    assert_eq!(lengths, [50, 2]);
}
