//! A capture's [`Profile`] → [`Recording`].

use std::collections::HashMap;

use super::{Call, Point, Recording, Series, settle};
use crate::model::{Metric, Process, Profile};

impl From<&Profile> for Recording {
    fn from(profile: &Profile) -> Recording {
        let main_sample = profile.samples.iter().find(|sample| sample.main);
        let main = main_sample.map_or(0, |sample| sample.process);
        let mut recording = Recording {
            command: Some(profile.command.clone()),
            metric: profile.metric.map(|metric| metric.name().to_owned()),
            loss: loss(profile),
            ..Recording::default()
        };
        if let Some(process) = profile.processes.get(main as usize) {
            recording.main = series(process);
        }
        // Numbers of the children by their processes.
        let mut children: HashMap<u32, usize> = HashMap::new();
        for sample in &profile.samples {
            let point = Point {
                epoch_s: sample.epoch_s,
                bytes: sample.bytes as f64,
            };
            if sample.main {
                add(&mut recording.main.points, point);
                continue;
            }
            let Some(process) = profile.processes.get(sample.process as usize) else {
                continue;
            };
            let next = recording.children.len();
            let at = *children.entry(sample.process).or_insert(next);
            if at == next {
                recording.children.push(series(process));
            }
            recording.children[at].points.push(point);
        }
        if recording.main.points.is_empty() {
            recording.main.points = ends(profile);
        }
        for series in std::iter::once(&mut recording.main).chain(&mut recording.children) {
            let by_time = |a: &Point, b: &Point| a.epoch_s.total_cmp(&b.epoch_s);
            series.points.sort_by(by_time);
        }
        recording.calls = calls(profile, main, &recording.main);
        recording
    }
}

fn series(process: &Process) -> Series {
    Series {
        label: process.pid.to_string(),
        pid: Some(process.pid),
        role: Some(process.role.clone()),
        points: Vec::new(),
    }
}

/// Samples of the main process at one time are of one process that was replaced at that moment.
fn add(points: &mut Vec<Point>, point: Point) {
    match points.last_mut() {
        Some(last) if last.epoch_s == point.epoch_s => last.bytes += point.bytes,
        _ => points.push(point),
    }
}

/// A run too short to sample shows its two ends.
fn ends(profile: &Profile) -> Vec<Point> {
    let process = profile.processes.first().cloned().unwrap_or_default();
    let point = |epoch_s, bytes: u64| Point {
        epoch_s,
        bytes: bytes as f64,
    };
    vec![
        point(profile.started_epoch_s, process.rss_start),
        point(
            profile.started_epoch_s + profile.duration_s,
            process.rss_end,
        ),
    ]
}

fn calls(profile: &Profile, main: u32, series: &Series) -> Vec<Call> {
    let mut calls = Vec::new();
    for mark in &profile.marks {
        let Some(process) = profile.processes.get(mark.process as usize) else {
            continue;
        };
        let is_main = mark.process == main;
        let own = [mark.rss_begin as f64, mark.rss_end as f64];
        let of_rss = profile.metric.is_none_or(|metric| metric == Metric::Rss);
        let point = |epoch_s, own| Point {
            epoch_s,
            bytes: match is_main && of_rss {
                true => own,
                false => series.at(epoch_s),
            },
        };
        calls.push(Call {
            function: mark.function.clone(),
            pid: (!is_main).then_some(process.pid),
            begin: point(mark.begin_epoch_s, own[0]),
            // A clock set back meanwhile.
            end: point(mark.end_epoch_s.max(mark.begin_epoch_s), own[1]),
            own_bytes: Some(own),
            level: mark.level,
            calls: mark.calls,
            approximate: mark.approximate,
        });
    }
    settle(&mut calls);
    calls
}

fn loss(profile: &Profile) -> Vec<(String, u64)> {
    let loss = &profile.loss;
    let named = [
        ("events_lost", loss.events_lost),
        ("stacks_truncated", loss.stacks_truncated),
        ("stacks_failed", loss.stacks_failed),
        ("unknown_threads", loss.unknown_threads),
    ];
    let named = named.map(|(name, count)| (name.to_owned(), count));
    let all = named.into_iter().chain(loss.other.iter().cloned());
    all.filter(|&(_, count)| count > 0).collect()
}
