//! What a picture says, wherever it is drawn: curves with their colours, marks, axes' ranges,
//! rows of the legend, and the words above them.

use super::axis::{self, Range, amount, change};
use super::brackets::{self, Function};
use super::data::{Call, Curve, Data, Part, Point};
use super::flame::Flame;
use super::legend::{Entry, Sign};
use super::names;
use super::theme::{Ink, SERIES};

/// What is drawn, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlotOptions {
    /// Instead of the command.
    pub title: Option<String>,
    /// No marks of functions.
    pub no_marks: bool,
    /// Only these seconds.
    pub window: Option<Range>,
    /// Calls as boxes, time by depth.
    pub flame: bool,
    /// The straight line through each curve, and its slope in numbers.
    pub slope: bool,
}

/// All of a picture but the places.
pub struct Content<'a> {
    /// What stands above everything.
    pub title: String,
    /// What was recorded, and what of it was lost.
    pub subtitle: String,
    /// What the numbers are.
    pub metric: String,
    /// The curves, those in front first.
    pub curves: Vec<Styled<'a>>,
    /// The times that are shown.
    pub time_s: Range,
    /// The amounts that are shown.
    pub bytes: Range,
    /// Functions with brackets.
    pub functions: Vec<Function<'a>>,
    /// Calls with brackets.
    pub calls: Vec<&'a Call>,
    /// Calls as boxes, instead of brackets.
    pub flame: Option<Flame<'a>>,
    /// The legend.
    pub entries: Vec<Entry>,
}

impl<'a> Content<'a> {
    /// Decides on everything. Several recordings share the axes, each from its own first sample,
    /// without marks.
    pub fn new(recordings: &'a [Data], options: &PlotOptions) -> Content<'a> {
        let curves = styled(recordings);
        let time_s = time_range(recordings, options.window);
        let marked = match recordings {
            [only] if !options.no_marks => Some(only),
            _ => None,
        };
        let flame = marked.filter(|_| options.flame).map(Flame::new);
        let bracketed = marked.filter(|_| flame.is_none());
        let functions = bracketed.map_or_else(Vec::new, |data| brackets::functions(&data.calls));
        let calls = bracketed.map_or_else(Vec::new, brackets::chosen);
        let mut entries = curve_entries(&curves, options.slope);
        let all_calls = bracketed.map_or(0, |data| data.calls.len());
        entries.extend(brackets::legend(&functions, calls.len(), all_calls));
        if marked.is_some_and(|data| data.calls.iter().any(|call| call.approximate)) {
            entries.push(Entry::note(names::APPROXIMATE.to_owned()));
        }
        Content {
            title: title(recordings, options),
            subtitle: subtitle(recordings, options),
            metric: metric(recordings),
            time_s,
            bytes: bytes_range(&curves, &calls, time_s),
            curves,
            functions,
            calls,
            flame,
            entries,
        }
    }
}

/// A curve with its looks.
pub struct Styled<'a> {
    /// The curve.
    pub curve: &'a Curve,
    /// Its colour.
    pub ink: Ink,
    /// How thick.
    pub width: f64,
    /// Its row in the legend, what may be cut of it and what not; None for one of many.
    pub label: Option<(String, String)>,
}

fn styled(recordings: &[Data]) -> Vec<Styled<'_>> {
    match recordings {
        [only] => styled_processes(only),
        several => {
            let files = several.iter().enumerate();
            files.flat_map(|(at, data)| styled_file(at, data)).collect()
        }
    }
}

/// One recording: a colour a process.
fn styled_processes(data: &Data) -> Vec<Styled<'_>> {
    let has_total = data.curves.iter().any(|curve| curve.part == Part::Total);
    let mut colours = 0..SERIES as u8;
    data.curves
        .iter()
        .map(|curve| {
            let leads = curve.part == Part::Total || (curve.part == Part::Main && !has_total);
            let ink = if leads {
                Some(Ink::Total)
            } else {
                colours.next().map(Ink::Series)
            };
            Styled {
                curve,
                ink: ink.unwrap_or(Ink::Others),
                width: if leads { 2.0 } else { 1.5 },
                label: ink.map(|_| (curve.label.clone(), curve.pid.clone())),
            }
        })
        .collect()
}

/// Several recordings: a colour a file, the first curve of each in front.
fn styled_file(at: usize, data: &Data) -> Vec<Styled<'_>> {
    let ink = if at < SERIES {
        Ink::Series(at as u8)
    } else {
        Ink::Others
    };
    let style = |(index, curve)| Styled {
        curve,
        ink,
        width: if index == 0 { 2.0 } else { 0.75 },
        label: (index == 0).then(|| (data.file.clone(), String::new())),
    };
    data.curves.iter().enumerate().map(style).collect()
}

fn curve_entries(curves: &[Styled<'_>], slope: bool) -> Vec<Entry> {
    let row = |styled: &Styled<'_>| {
        let mut details = Vec::new();
        let points = &styled.curve.points;
        if let (Some(first), Some(last), Some(peak)) =
            (points.first(), points.last(), styled.curve.peak())
        {
            let (first, last) = (amount(first.bytes), amount(last.bytes));
            details.push(format!("{first} → {last}, peak {}", amount(peak.bytes)));
        } else {
            details.push("nothing in this window".to_owned());
        }
        if let (true, Some((slope, _))) = (slope, styled.curve.trend()) {
            details.push(format!("slope {}/s", change(slope)));
        }
        let (label, tail) = styled.label.clone()?;
        Some(Entry {
            sign: Sign::Line,
            ink: styled.ink,
            label,
            tail,
            details,
        })
    };
    let mut entries: Vec<Entry> = curves.iter().filter_map(row).collect();
    let rest: Vec<&Styled<'_>> = curves
        .iter()
        .filter(|styled| styled.ink == Ink::Others)
        .collect();
    if !rest.is_empty() {
        let growth: f64 = rest.iter().map(|styled| styled.curve.growth()).sum();
        entries.push(Entry {
            sign: Sign::ThinLine,
            ink: Ink::Others,
            label: crate::report::count(rest.len(), "other process", "other processes"),
            tail: String::new(),
            details: vec![format!("together {}", change(growth))],
        });
    }
    entries
}

fn time_range(recordings: &[Data], window: Option<Range>) -> Range {
    // One sample has no length; a picture needs one.
    const LEAST_S: f64 = 1e-3;
    let range = window.unwrap_or_else(|| covered(recordings));
    match range.span() >= LEAST_S {
        true => range,
        false => Range {
            begin: range.begin - 0.5,
            end: range.begin + 0.5,
        },
    }
}

/// The times of all recordings.
fn covered(recordings: &[Data]) -> Range {
    let ranges = recordings.iter().map(Data::time_s);
    let wider = |a: Range, b: Range| Range {
        begin: a.begin.min(b.begin),
        end: a.end.max(b.end),
    };
    let nothing = Range {
        begin: 0.0,
        end: 0.0,
    };
    ranges.reduce(wider).unwrap_or(nothing)
}

fn bytes_range(curves: &[Styled<'_>], calls: &[&Call], time_s: Range) -> Range {
    let points = curves.iter().flat_map(|styled| &styled.curve.points);
    let ends = calls.iter().flat_map(|call| call.ends());
    // A call may begin before the window, or end after it.
    let shown = |end: &Point| end.time_s >= time_s.begin && end.time_s <= time_s.end;
    let all = points
        .copied()
        .chain(ends.filter(shown))
        .map(|point| point.bytes);
    let (low, high) = all.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), bytes| {
        (low.min(bytes), high.max(bytes))
    });
    axis::bytes_range(low.min(high), high)
}

fn metric(recordings: &[Data]) -> String {
    let mut metrics: Vec<&str> = recordings.iter().map(|data| data.metric.as_str()).collect();
    metrics.dedup();
    metrics.join(" / ")
}

/// What stands above everything.
fn title(recordings: &[Data], options: &PlotOptions) -> String {
    match (&options.title, recordings) {
        (Some(title), _) => title.clone(),
        (None, [only]) if only.command.is_empty() => only.file.clone(),
        (None, [only]) => only.command.clone(),
        (None, several) => format!("{} recordings", several.len()),
    }
}

fn subtitle(recordings: &[Data], options: &PlotOptions) -> String {
    let mut words = Vec::new();
    words.push(match recordings {
        [only] => only.started.clone(),
        _ => "each from its own first sample".to_owned(),
    });
    words.push(match options.window {
        Some(Range { begin, end }) => format!("seconds {begin} to {end} of it"),
        None => axis::length(covered(recordings).span()),
    });
    let lost = recordings.iter().filter(|data| !data.loss.is_empty());
    words.extend(lost.map(|data| format!("lost: {}", data.loss)));
    words.join(" · ")
}
