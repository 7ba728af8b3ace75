//! The layout of a picture: title, curves, axes, legend; and the flame below them when asked for.

use super::axis::{self, Axis, Range, Scale, amount, change};
use super::brackets;
use super::data::{self, Curve, Data, Part, Point};
use super::flame::Flame;
use super::font;
use super::legend::{self, Entry, Sign};
use super::scene::{Anchor, Frame, Item, Scene, Text};
use super::theme::{Ink, SERIES};

/// As wide as mprof's pictures.
const WIDTH: f64 = 1260.0;
/// As high as mprof's pictures, at least.
const HEIGHT: f64 = 540.0;
/// Above the curves: title, what was measured, the unit.
const TOP: f64 = 84.0;
/// Below the curves: the numbers of the time axis.
const BOTTOM: f64 = 50.0;
/// Left of the curves: the numbers of the memory axis.
const LEFT: f64 = 70.0;
/// Between the curves and the legend.
const GUTTER: f64 = 24.0;
/// The legend's width.
const LEGEND: f64 = 296.0;
/// Height of the curves when a flame follows.
const CURVES_ABOVE_FLAME: f64 = 190.0;
/// Size of letters at axes.
const SMALL: f64 = 11.0;

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

/// Draws recordings. Several share the axes, each from its own first sample, without marks.
pub fn picture(recordings: &[Data], options: &PlotOptions) -> Scene {
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

    let panel_width = WIDTH - LEFT - GUTTER - LEGEND - GUTTER;
    let panels = flame.as_ref().map_or(HEIGHT - TOP - BOTTOM, |flame| {
        CURVES_ABOVE_FLAME + flame.height()
    });
    let key = flame.as_ref().map_or(0.0, |flame| flame.key_height());
    let inner = panels.max(legend::height(&entries) + key);
    let mut scene = Scene {
        width: WIDTH,
        height: TOP + inner + BOTTOM,
        items: Vec::new(),
    };
    heading(&mut scene, recordings, options, time_s);
    let height = if flame.is_some() {
        CURVES_ABOVE_FLAME
    } else {
        inner
    };
    let frame = Frame {
        x: LEFT,
        y: TOP,
        width: panel_width,
        height,
    };
    let scale = Scale {
        frame,
        time_s,
        bytes: bytes_range(&curves, &calls),
    };
    let bottom = if flame.is_some() {
        TOP + panels
    } else {
        frame.bottom()
    };
    let below = Frame {
        y: frame.bottom(),
        height: bottom - frame.bottom(),
        ..frame
    };
    if let Some(flame) = &flame {
        flame.draw_bands(&mut scene, below);
    }
    grid(&mut scene, &scale, bottom, &unit_of(recordings));
    let mut taken = Vec::new();
    if let [_] = recordings {
        peak(&mut scene, &curves, &scale, &mut taken);
    }
    draw_curves(&mut scene, &curves, &scale, options.slope);
    brackets::draw(&mut scene, &calls, &functions, &scale, &mut taken);

    let column = Frame {
        x: frame.right() + GUTTER,
        y: TOP,
        width: LEGEND,
        height: inner,
    };
    let used = legend::draw(&mut scene, &entries, column);
    if let Some(flame) = flame {
        flame.draw(&mut scene, below, time_s);
        flame.draw_key(&mut scene, (column.x, column.y + used));
    }
    scene
}

/// A curve with its looks.
pub(super) struct Styled<'a> {
    pub(super) curve: &'a Curve,
    pub(super) ink: Ink,
    width: f64,
    /// Its row in the legend, what may be cut of it and what not; None for one of many.
    label: Option<(String, String)>,
}

pub(super) fn styled(recordings: &[Data]) -> Vec<Styled<'_>> {
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

pub(super) fn curve_entries(curves: &[Styled<'_>], slope: bool) -> Vec<Entry> {
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

pub(super) fn time_range(recordings: &[Data], window: Option<Range>) -> Range {
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

pub(super) fn bytes_range(curves: &[Styled<'_>], calls: &[&data::Call]) -> Range {
    let points = curves.iter().flat_map(|styled| &styled.curve.points);
    let ends = calls.iter().flat_map(|call| [&call.begin, &call.end]);
    let all = points.chain(ends).map(|point| point.bytes);
    let (low, high) = all.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), bytes| {
        (low.min(bytes), high.max(bytes))
    });
    axis::bytes_range(low.min(high), high)
}

pub(super) fn unit_of(recordings: &[Data]) -> String {
    let mut metrics: Vec<&str> = recordings.iter().map(|data| data.metric.as_str()).collect();
    metrics.dedup();
    metrics.join(" / ")
}

fn heading(scene: &mut Scene, recordings: &[Data], options: &PlotOptions, time_s: Range) {
    const SIZE: f64 = 17.0;
    let room = scene.width - 2.0 * GUTTER;
    let mut words = Vec::new();
    let title = match (&options.title, recordings) {
        (Some(title), _) => title.clone(),
        (None, [only]) if only.command.is_empty() => only.file.clone(),
        (None, [only]) => only.command.clone(),
        (None, several) => format!("{} recordings", several.len()),
    };
    let title = font::fit(&title, SIZE, room);
    scene.text((GUTTER, 32.0), SIZE, Ink::Text, title);
    words.push(match recordings {
        [only] => only.started.clone(),
        _ => "each from its own first sample".to_owned(),
    });
    words.push(match options.window {
        Some(_) => format!("seconds {} to {} of it", time_s.begin, time_s.end),
        None => format!("{:.1} s", covered(recordings).span()),
    });
    let lost = recordings.iter().filter(|data| !data.loss.is_empty());
    words.extend(lost.map(|data| format!("lost: {}", data.loss)));
    let subtitle = font::fit(&words.join(" · "), 12.0, room);
    scene.text((GUTTER, 52.0), 12.0, Ink::Muted, subtitle);
}

/// Axes, their numbers, and the lines at them. Those of time go down to `bottom`.
fn grid(scene: &mut Scene, scale: &Scale, bottom: f64, metric: &str) {
    let frame = scale.frame;
    let memory: Axis = axis::bytes(scale.bytes, (frame.height / 64.0).max(4.0));
    let time = axis::seconds(scale.time_s, 9.0);
    for tick in &memory.ticks {
        let y = scale.y(tick.at);
        scene.line(vec![(frame.x, y), (frame.right(), y)], Ink::Grid, 1.0, 0.0);
        let at = (frame.x - 8.0, y + 4.0);
        scene.anchored(at, SMALL, Ink::Muted, Anchor::End, tick.label.clone());
    }
    for tick in &time.ticks {
        let x = scale.x(tick.at);
        scene.line(vec![(x, frame.y), (x, bottom)], Ink::Grid, 1.0, 0.0);
        let at = (x, bottom + 18.0);
        scene.anchored(at, SMALL, Ink::Muted, Anchor::Middle, tick.label.clone());
    }
    let left = vec![(frame.x, frame.y), (frame.x, frame.bottom())];
    scene.line(left, Ink::Axis, 1.0, 0.0);
    let base = vec![(frame.x, frame.bottom()), (frame.right(), frame.bottom())];
    scene.line(base, Ink::Axis, 1.0, 0.0);
    let above = (frame.x, frame.y - 10.0);
    scene.text(
        above,
        SMALL,
        Ink::Muted,
        format!("{metric}, {}", memory.unit),
    );
    let below = (frame.x + frame.width / 2.0, bottom + 38.0);
    let text = format!("time, {}", time.unit);
    scene.anchored(below, SMALL, Ink::Muted, Anchor::Middle, text);
}

/// mprof's dashed lines through the highest point.
fn peak(scene: &mut Scene, curves: &[Styled<'_>], scale: &Scale, taken: &mut Vec<Frame>) {
    let peaks = curves.iter().filter_map(|styled| styled.curve.peak());
    let Some(peak) = peaks.max_by(|a, b| a.bytes.total_cmp(&b.bytes)) else {
        return;
    };
    let frame = scale.frame;
    let (x, y) = (scale.x(peak.time_s), scale.y(peak.bytes));
    scene.line(vec![(frame.x, y), (frame.right(), y)], Ink::Axis, 1.0, 4.0);
    scene.line(vec![(x, frame.y), (x, frame.bottom())], Ink::Axis, 1.0, 4.0);
    let text = format!("peak {}", amount(peak.bytes));
    let width = font::width(&text, SMALL);
    // On the side of the peak that has room.
    let left = if x + width + 8.0 < frame.right() {
        x + 6.0
    } else {
        x - width - 6.0
    };
    let at = (left, y - 5.0);
    taken.push(Frame {
        x: at.0,
        y: at.1 - SMALL,
        width,
        height: SMALL + 4.0,
    });
    scene.items.push(Item::Text(Text {
        x: at.0,
        y: at.1,
        size: SMALL,
        anchor: Anchor::Start,
        ink: Ink::Muted,
        text,
        halo: true,
    }));
}

fn draw_curves(scene: &mut Scene, curves: &[Styled<'_>], scale: &Scale, slope: bool) {
    // The first curve, and those with names, in front.
    for styled in curves.iter().rev() {
        let hover = format!("{}{}", styled.curve.label, styled.curve.pid);
        draw_curve(scene, styled, scale, &hover);
        if let (true, Some(trend)) = (slope && styled.label.is_some(), styled.curve.trend()) {
            draw_trend(scene, styled, scale, trend);
        }
    }
}

fn draw_curve(scene: &mut Scene, styled: &Styled<'_>, scale: &Scale, hover: &str) {
    let at = |point: &Point| (scale.x(point.time_s), scale.y(point.bytes));
    let stretches = data::stretches(&styled.curve.points);
    for (index, stretch) in stretches.iter().enumerate() {
        if let (Some(from), Some(to)) = (
            index
                .checked_sub(1)
                .and_then(|before| stretches[before].last()),
            stretch.first(),
        ) {
            scene.line(vec![at(from), at(to)], styled.ink, 1.0, 2.0);
        }
        let points = data::thin(stretch, scale.time_s, scale.frame.width);
        match points.as_slice() {
            [] => {}
            [only] => {
                const SIDE: f64 = 5.0;
                let (x, y) = at(only);
                scene.items.push(Item::Rect {
                    frame: Frame {
                        x: x - SIDE / 2.0,
                        y: y - SIDE / 2.0,
                        width: SIDE,
                        height: SIDE,
                    },
                    ink: styled.ink,
                    radius: SIDE / 2.0,
                    hover: Some(hover.to_owned()),
                });
            }
            several => scene.items.push(Item::Line {
                points: several.iter().map(at).collect(),
                ink: styled.ink,
                width: styled.width,
                dash: 0.0,
                hover: Some(hover.to_owned()),
            }),
        }
    }
}

/// The straight line, as far as it is on the paper.
fn draw_trend(scene: &mut Scene, styled: &Styled<'_>, scale: &Scale, (slope, at_zero): (f64, f64)) {
    let points = &styled.curve.points;
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return;
    };
    let value = |time_s: f64| at_zero + slope * time_s;
    // Where the line enters and leaves the paper.
    let mut crossings = [scale.bytes.begin, scale.bytes.end].map(|bytes| (bytes - at_zero) / slope);
    crossings.sort_by(f64::total_cmp);
    let [enters, leaves] = match slope == 0.0 {
        true => [f64::NEG_INFINITY, f64::INFINITY],
        false => crossings,
    };
    let (begin, end) = (first.time_s.max(enters), last.time_s.min(leaves));
    if begin < end {
        let at = |time_s: f64| (scale.x(time_s), scale.y(value(time_s)));
        scene.line(vec![at(begin), at(end)], styled.ink, 1.0, 5.0);
    }
}
