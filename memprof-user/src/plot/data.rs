//! A [`Recording`] as it is drawn: seconds from its first sample, a curve a process and one for
//! their sum, calls with the curve they belong to, all cut to the window.

use std::collections::HashMap;

use super::axis::Range;
use crate::recording::{self, Recording, Series};
use crate::sink::clock;

/// What is drawn of one recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Data {
    /// The file's name.
    pub file: String,
    /// The command that ran; empty when it is not known.
    pub command: String,
    /// What the numbers are: `RSS`.
    pub metric: String,
    /// When the first sample was taken, for people.
    pub started: String,
    /// The total of all processes where there are several, then the main process, then the
    /// others, those that grew most first.
    pub curves: Vec<Curve>,
    /// The main process's label and pid as in a [`Curve`], also where its curve is the total.
    pub main: (String, String),
    /// Calls of marked functions, by their begin.
    pub calls: Vec<Call>,
    /// Lost events, for the line below the title; empty when nothing was lost.
    pub loss: String,
}

/// Memory over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Whose: the role of a process.
    pub label: String,
    /// Its pid in parentheses, when that is not the label: what tells it from others of its role.
    pub pid: String,
    /// In which part it appears.
    pub part: Part,
    /// By time.
    pub points: Vec<Point>,
}

/// Which process a curve is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Of all together.
    Total,
    /// Of the first one.
    Main,
    /// Of a descendant.
    Child,
}

/// An amount at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Seconds from the first sample.
    pub time_s: f64,
    /// Bytes.
    pub bytes: f64,
}

/// A call of a marked function.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// `module.qualname`
    pub function: String,
    /// Index into [`Data::curves`]: the process that ran it. None when it has no sample.
    pub curve: Option<usize>,
    /// Its pid when it is not the main process.
    pub pid: Option<u32>,
    /// Memory of its process (or, where the file does not tell, of the main one) at its begin.
    pub begin: Point,
    /// And at its end.
    pub end: Point,
    /// Where both are on the curve, in bytes: elsewhere when that is the sum over all processes, or
    /// of PSS or USS.
    pub on_curve: [f64; 2],
    /// Depth among the marked calls.
    pub level: u32,
    /// Calls that began in it; none where a suspended one went on.
    pub calls: u64,
    /// Begin and end are guessed.
    pub approximate: bool,
}

impl Call {
    /// Bytes from begin to end.
    pub fn growth(&self) -> f64 {
        self.end.bytes - self.begin.bytes
    }

    /// Its begin and its end on the curve.
    pub fn ends(&self) -> [Point; 2] {
        let [begin, end] = self.on_curve;
        [(self.begin.time_s, begin), (self.end.time_s, end)]
            .map(|(time_s, bytes)| Point { time_s, bytes })
    }
}

impl Curve {
    /// The highest point.
    pub fn peak(&self) -> Option<Point> {
        let higher = |a: Point, b: &Point| if b.bytes > a.bytes { *b } else { a };
        let (first, rest) = self.points.split_first()?;
        Some(rest.iter().fold(*first, higher))
    }

    /// From its first to its last point, in bytes.
    pub fn growth(&self) -> f64 {
        match (self.points.first(), self.points.last()) {
            (Some(first), Some(last)) => last.bytes - first.bytes,
            _ => 0.0,
        }
    }

    /// The slope of the straight line with the least squares of distances, in bytes a second, and
    /// its value at time 0 (as numpy's `polyfit` of degree 1, which mprof uses). None where all
    /// points are of one time.
    pub fn trend(&self) -> Option<(f64, f64)> {
        let count = self.points.len() as f64;
        let mean = |value: fn(&Point) -> f64| self.points.iter().map(value).sum::<f64>() / count;
        let (time, bytes) = (mean(|p| p.time_s), mean(|p| p.bytes));
        let spread = |p: &Point| (p.time_s - time).powi(2);
        let square: f64 = self.points.iter().map(spread).sum();
        if square.is_nan() || square <= 0.0 {
            return None;
        }
        let both = |p: &Point| (p.time_s - time) * (p.bytes - bytes);
        let slope = self.points.iter().map(both).sum::<f64>() / square;
        Some((slope, bytes - slope * time))
    }
}

impl Data {
    /// What of `recording`, from `file`, is drawn. None when it has no sample.
    pub fn new(recording: &Recording, file: &str) -> Option<Data> {
        let start = first_time(recording)?;
        let curve = |series: &Series, part| {
            let (label, pid) = label(series, part);
            Curve {
                label,
                pid,
                part,
                points: series.points.iter().map(|p| point(*p, start)).collect(),
            }
        };
        let main = curve(&recording.main, Part::Main);
        let mut series: Vec<(&Series, Curve)> = vec![(&recording.main, main)];
        if recording.includes_children {
            series[0].1.part = Part::Total;
            series[0].1.label = "all processes".to_owned();
            series[0].1.pid.clear();
        }
        let children = recording.children.iter();
        let mut children: Vec<_> = children.map(|s| (s, curve(s, Part::Child))).collect();
        children.sort_by(|a, b| b.1.growth().total_cmp(&a.1.growth()));
        series.extend(children);
        series.retain(|(_, curve)| !curve.points.is_empty());

        let mut indexes = HashMap::new();
        let mut curves = Vec::new();
        // Of mprof's own files, which tell no role, nobody knows whether MEM has the children in
        // it already.
        let told = recording.main.role.is_some();
        if told && !recording.includes_children && series.len() > 1 {
            curves.push(total(series.iter().map(|(_, curve)| curve)));
        }
        for (series, curve) in series {
            let pid = match curve.part {
                Part::Child => series.pid,
                _ => None,
            };
            indexes.entry(pid).or_insert((curves.len(), series));
            curves.push(curve);
        }
        let call = |call: &recording::Call| {
            let whose = indexes.get(&call.pid).copied();
            let (begin, end) = (own(call, 0, start), own(call, 1, start));
            let is_curves = whose.is_some() && is_of_series(recording, call.pid);
            let series = whose.map_or(&recording.main, |(_, series)| series);
            let on_curve = |own: Point, epoch_s| match is_curves {
                true => own.bytes,
                false => series.at(epoch_s).min(MOST_BYTES),
            };
            Call {
                function: call.function.clone(),
                curve: whose.map(|(index, _)| index),
                pid: call.pid,
                on_curve: [
                    on_curve(begin, call.begin.epoch_s),
                    on_curve(end, call.end.epoch_s),
                ],
                begin,
                end,
                level: call.level,
                calls: call.calls,
                approximate: call.approximate,
            }
        };
        Some(Data {
            file: file.to_owned(),
            command: recording.command.clone().unwrap_or_default(),
            metric: match &recording.metric {
                Some(metric) => metric.to_uppercase(),
                None => "memory".to_owned(),
            },
            started: clock::utc(start),
            main: label(&recording.main, Part::Main),
            calls: recording.calls.iter().map(call).collect(),
            curves,
            loss: loss(recording),
        })
    }

    /// The times that it covers.
    pub fn time_s(&self) -> Range {
        let times = self.curves.iter().flat_map(|curve| {
            let ends = curve.points.first().into_iter().chain(curve.points.last());
            ends.map(|p| p.time_s)
        });
        let calls = self
            .calls
            .iter()
            .flat_map(|c| [c.begin.time_s, c.end.time_s]);
        let range = Range {
            begin: f64::INFINITY,
            end: f64::NEG_INFINITY,
        };
        times.chain(calls).fold(range, |range, time| Range {
            begin: range.begin.min(time),
            end: range.end.max(time),
        })
    }

    /// Cuts everything to a window. Curves are read at its edges between two points.
    pub fn cut(&mut self, window: Range) {
        for curve in &mut self.curves {
            curve.points = cut(&curve.points, window);
        }
        let touches =
            |call: &Call| call.end.time_s >= window.begin && call.begin.time_s <= window.end;
        self.calls.retain(touches);
    }
}

fn first_time(recording: &Recording) -> Option<f64> {
    // As mprof: the main process's first sample, or the begin of a call before that. A file
    // without MEM begins with its first child.
    let calls = recording.calls.iter().map(|call| call.begin.epoch_s);
    let first = |series: &Series| series.points.first().map(|p| p.epoch_s);
    let samples = recording.series().filter_map(first);
    let sampled = samples.reduce(f64::min)?;
    Some(calls.fold(sampled, f64::min))
}

/// Whether the bytes that calls of a process tell, its RSS, are what its series shows. mprof's files
/// tell no metric, and no other bytes of a call than their series'.
fn is_of_series(recording: &Recording, pid: Option<u32>) -> bool {
    let metric = recording.metric.as_deref().unwrap_or("rss");
    metric == "rss" && !(recording.includes_children && pid.is_none())
}

/// No machine has more.
const MOST_BYTES: f64 = 1e18;

/// The file's numbers are finite, and here they become such that sums and distances are too: no
/// run takes longer.
fn point(point: recording::Point, start: f64) -> Point {
    const LONGEST_S: f64 = 1e12;
    Point {
        time_s: (point.epoch_s - start).clamp(-LONGEST_S, LONGEST_S),
        bytes: point.bytes.min(MOST_BYTES),
    }
}

fn own(call: &recording::Call, end: usize, start: f64) -> Point {
    let mut at = [call.begin, call.end][end];
    at.bytes = call.own_bytes.map_or(at.bytes, |own| own[end]);
    point(at, start)
}

fn label(series: &Series, part: Part) -> (String, String) {
    let role = series.role.as_deref().unwrap_or_default();
    match (role, series.label.as_str(), part) {
        ("", "", _) => ("main process".to_owned(), String::new()),
        ("", pid, Part::Child) => (format!("child {pid}"), String::new()),
        ("", pid, _) => ("main process".to_owned(), format!(" ({pid})")),
        (role, pid, _) => (role.to_owned(), format!(" ({pid})")),
    }
}

fn loss(recording: &Recording) -> String {
    let counters = recording.loss.iter();
    let counters: Vec<String> = counters
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    counters.join(", ")
}

/// The sum of all curves at each time at which one of them has a point. A process counts from
/// its first point until no other is to be expected after its last one: very long recordings
/// have one of several points, of each process another one.
fn total<'a>(curves: impl Iterator<Item = &'a Curve>) -> Curve {
    const MISSED: f64 = 2.5;
    // (when, which curve, how much; None: no more)
    let mut events: Vec<(f64, usize, Option<f64>)> = Vec::new();
    let mut now = Vec::new();
    for (index, curve) in curves.enumerate() {
        now.push(0.0);
        let points = curve.points.iter();
        events.extend(points.map(|point| (point.time_s, index, Some(point.bytes))));
        if let Some(last) = curve.points.last() {
            let usual = usual_distance(&curve.points).unwrap_or(0.0);
            events.push((last.time_s + usual * MISSED, index, None));
        }
    }
    events.sort_by(|a, b| {
        let order = a.0.total_cmp(&b.0);
        order.then(b.2.is_none().cmp(&a.2.is_none()))
    });
    let mut points: Vec<Point> = Vec::new();
    let mut sum = 0.0;
    for sweep in events.chunk_by(|a, b| a.0 == b.0) {
        for &(_, index, bytes) in sweep {
            let bytes = bytes.unwrap_or(0.0);
            sum += bytes - now[index];
            now[index] = bytes;
        }
        let sampled = sweep.iter().find(|event| event.2.is_some());
        points.extend(sampled.map(|&(time_s, ..)| Point {
            time_s,
            bytes: sum.max(0.0),
        }));
    }
    Curve {
        label: "all processes".to_owned(),
        pid: String::new(),
        part: Part::Total,
        points,
    }
}

/// The median of the distances between points, in seconds. None of a single one.
fn usual_distance(points: &[Point]) -> Option<f64> {
    let distances = points.windows(2).map(|w| w[1].time_s - w[0].time_s);
    let mut distances: Vec<f64> = distances.collect();
    if distances.is_empty() {
        return None;
    }
    let middle = distances.len() / 2;
    Some(*distances.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// The points of a window, with the values at its edges.
fn cut(points: &[Point], window: Range) -> Vec<Point> {
    let from = points.partition_point(|p| p.time_s < window.begin);
    let to = points.partition_point(|p| p.time_s <= window.end);
    let edge = |at: usize, time_s: f64| {
        let (a, b) = (points.get(at.checked_sub(1)?)?, points.get(at)?);
        let length = b.time_s - a.time_s;
        let share = if length > 0.0 {
            (time_s - a.time_s) / length
        } else {
            0.0
        };
        let bytes = a.bytes + (b.bytes - a.bytes) * share;
        Some(Point { time_s, bytes })
    };
    let inside = points.get(from..to).unwrap_or(&[]);
    edge(from, window.begin)
        .into_iter()
        .chain(inside.iter().copied())
        .chain(edge(to, window.end))
        .collect()
}

/// At most four points a column of `columns`: first, lowest, highest, last, so that no peak is
/// lost.
pub fn thin(points: &[Point], time_s: Range, columns: f64) -> Vec<Point> {
    if (points.len() as f64) <= columns * 2.0 {
        return points.to_vec();
    }
    let column = |p: &Point| ((p.time_s - time_s.begin) / time_s.span() * columns).floor();
    let mut kept = Vec::new();
    for group in points.chunk_by(|a, b| column(a) == column(b)) {
        let by_bytes = |a: &&Point, b: &&Point| a.bytes.total_cmp(&b.bytes);
        let ends = [group.first(), group.last()];
        let extremes = [group.iter().min_by(by_bytes), group.iter().max_by(by_bytes)];
        let mut four: Vec<Point> = ends
            .into_iter()
            .chain(extremes)
            .flatten()
            .copied()
            .collect();
        four.sort_by(|a, b| a.time_s.total_cmp(&b.time_s));
        four.dedup();
        kept.extend(four);
    }
    kept
}

/// Where a curve is interrupted: nobody looked for far longer than usual, so that nothing is
/// known of the time between. Gives the stretches that are known.
pub fn stretches(points: &[Point]) -> Vec<&[Point]> {
    // A loaded machine delays samples a few times their interval, and thinned time lines have
    // twice the usual distance.
    const UNUSUAL: f64 = 20.0;
    const LEAST_S: f64 = 1.0;
    let Some(usual) = usual_distance(points) else {
        return vec![points];
    };
    let longest = (usual * UNUSUAL).max(LEAST_S);
    points
        .chunk_by(|a, b| b.time_s - a.time_s <= longest)
        .collect()
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;
