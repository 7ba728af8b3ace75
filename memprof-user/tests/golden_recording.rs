//! One run, read from its capture and from its `.dat`: both say the same.

mod support;

use memprof_user::model::{Metric, Profile};
use memprof_user::recording::{Call, Point, Recording, Series, read_dat};
use memprof_user::sink::{DatOptions, Format, SinkOptions};
use proptest::collection::vec;
use proptest::prelude::*;
use support::{MIB, written};

fn from_dat(profile: &Profile, dat: DatOptions) -> Recording {
    let options = SinkOptions {
        dat,
        ..SinkOptions::default()
    };
    let text = written(Format::Dat, profile, &options);
    read_dat(text.as_bytes())
        .expect("reading from memory")
        .expect("our own file is one")
}

/// Every point of the capture is in the .dat, which may have more (the ends of calls), and has
/// MiB with six decimals and seconds with four.
#[track_caller]
fn assert_has(dat: &Series, capture: &Series) {
    assert!(!capture.points.is_empty());
    for a in &capture.points {
        let near = |b: &Point| {
            let bytes = (a.bytes - b.bytes).abs();
            (a.epoch_s - b.epoch_s).abs() <= 0.5e-4 && bytes <= 0.5e-6 * MIB as f64 + 1e-3
        };
        assert!(dat.points.iter().any(near), "{a:?} is not in {dat:?}");
    }
}

#[test]
fn the_capture_and_the_dat_of_one_run_are_one_recording() {
    let mut profile = support::gunicorn();
    profile.metric = Some(Metric::Rss);
    profile.marks[0].approximate = true;
    let capture = Recording::from(&profile);
    let dat = from_dat(&profile, DatOptions::default());
    assert!(dat.skipped.is_empty(), "{:?}", dat.skipped);
    assert_eq!(dat.command, capture.command);
    assert_eq!(dat.metric.as_deref(), Some("rss"));
    assert_eq!(dat.metric, capture.metric);
    assert_eq!(dat.children.len(), capture.children.len());
    for (a, b) in dat.series().zip(capture.series()) {
        let name = |series: &Series| (series.label.clone(), series.pid, series.role.clone());
        assert_eq!(name(a), name(b));
        assert_has(a, b);
    }
    let what = |call: &Call| {
        (
            call.pid,
            call.level,
            call.calls,
            call.own_bytes,
            call.approximate,
        )
    };
    let calls: Vec<_> = dat.calls.iter().map(what).collect();
    assert_eq!(dat.calls.iter().filter(|call| call.approximate).count(), 1);
    assert_eq!(calls, capture.calls.iter().map(what).collect::<Vec<_>>());
    let function = |call: &Call| call.function.replace(' ', "_");
    let functions: Vec<_> = dat.calls.iter().map(function).collect();
    assert_eq!(
        functions,
        capture.calls.iter().map(function).collect::<Vec<_>>()
    );
    let loss = [
        ("stacks_truncated", 3),
        ("unknown_threads", 1),
        ("late_flushes", 2),
    ];
    assert_eq!(dat.loss, loss.map(|(name, count)| (name.to_owned(), count)));
    assert_eq!(capture.loss.len(), 3);
}

#[test]
fn a_tree_is_known_as_one() {
    let tree = from_dat(
        &support::gunicorn(),
        DatOptions {
            include_children: true,
            ..DatOptions::default()
        },
    );
    assert!(tree.includes_children);
    // Master and two workers at their highest.
    let peak = tree.main.peak().expect("samples").bytes / MIB as f64;
    assert!((peak - 151.001).abs() < 0.001, "{peak}");
}

#[test]
fn a_run_too_short_to_sample_has_its_two_ends() {
    let mut profile = support::gunicorn();
    profile.samples.clear();
    let capture = Recording::from(&profile);
    let dat = from_dat(&profile, DatOptions::default());
    assert_eq!(capture.main.points.len(), 2);
    assert_has(&dat.main, &capture.main);
    assert_eq!(dat.main.pid, capture.main.pid);
}

/// Lines that may be anything, made of what lines are made of.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("MEM".to_owned()),
        Just("CHLD".to_owned()),
        Just("FUNC".to_owned()),
        Just("CMDLINE".to_owned()),
        Just("# FUNC".to_owned()),
        Just("# ROLE MEM".to_owned()),
        Just("# ROLE CHLD".to_owned()),
        Just("# LOSS".to_owned()),
        Just("\n".to_owned()),
        Just("rss0=7".to_owned()),
        Just("calls=0".to_owned()),
        any::<f64>().prop_map(|number| number.to_string()),
        (0u32..9).prop_map(|number| number.to_string()),
        "\\PC{0,4}",
    ];
    let text = vec((word, prop_oneof![Just(" "), Just("\n"), Just("")]), 0..40);
    let text = text.prop_map(|words| {
        let words = words.into_iter().map(|(word, after)| word + after);
        words.collect::<String>().into_bytes()
    });
    prop_oneof![4 => text, 1 => vec(any::<u8>(), 0..200)]
}

proptest! {
    /// What every view may take for granted, whatever the file was.
    #[test]
    fn any_file_gives_a_sound_recording_or_none(bytes in soup()) {
        let Some(recording) = read_dat(&bytes[..]).unwrap() else {
            return Ok(());
        };
        for series in recording.series() {
            prop_assert!(series.points.is_sorted_by(|a, b| a.epoch_s <= b.epoch_s));
            let sound = |p: &Point| p.epoch_s.is_finite() && p.bytes.is_finite() && p.bytes >= 0.0;
            prop_assert!(series.points.iter().all(sound));
            prop_assert!(series.at(0.5).is_finite());
        }
        prop_assert!(recording.children.iter().all(|child| !child.points.is_empty()));
        for call in &recording.calls {
            prop_assert!(call.duration_s() >= 0.0 && call.duration_s().is_finite());
            prop_assert!(call.growth_bytes().is_finite());
            prop_assert!(call.is_named(&call.function) || call.function.contains('/'));
        }
        let (peaks, _) = recording.peaks_in("f");
        prop_assert!(peaks.main.is_none_or(f64::is_finite));
    }
}
