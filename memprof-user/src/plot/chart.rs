//! The layout of a picture: title, curves, axes, legend; and the flame below them when asked for.

use super::axis::{self, Axis, Scale, amount};
use super::brackets;
use super::content::{Content, PlotOptions, Styled};
use super::data::{self, Data, Point};
use super::flame::Flame;
use super::font;
use super::legend;
use super::scene::{Anchor, Frame, Item, Scene, Text};
use super::theme::Ink;

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

/// Draws recordings. Several share the axes, each from its own first sample, without marks.
pub fn picture(recordings: &[Data], options: &PlotOptions) -> Scene {
    let content = Content::new(recordings, options);
    let flame = content.flame.as_ref();
    let flame_height = flame.map_or(0.0, Flame::height);
    let key_height = flame.map_or(0.0, Flame::key_height);
    let legend_height = legend::height(&content.entries) + key_height;
    let curves_height = match flame {
        Some(_) => CURVES_ABOVE_FLAME,
        None => legend_height.max(HEIGHT - TOP - BOTTOM),
    };
    let inner = legend_height.max(curves_height + flame_height);
    let mut scene = Scene {
        width: WIDTH,
        height: TOP + inner + BOTTOM,
        items: Vec::new(),
    };
    heading(&mut scene, &content);
    let frame = Frame {
        x: LEFT,
        y: TOP,
        width: WIDTH - LEFT - GUTTER - LEGEND - GUTTER,
        height: curves_height,
    };
    let below = Frame {
        y: frame.bottom(),
        height: flame_height,
        ..frame
    };
    if let Some(flame) = flame {
        flame.draw_bands(&mut scene, below);
    }
    let scale = Scale {
        frame,
        time_s: content.time_s,
        bytes: content.bytes,
    };
    grid(&mut scene, &scale, below.bottom(), &content.metric);
    let mut taken = Vec::new();
    if let [_] = recordings {
        peak(&mut scene, &content.curves, &scale, &mut taken);
    }
    draw_curves(&mut scene, &content.curves, &scale, options.slope);
    let Content {
        calls, functions, ..
    } = &content;
    brackets::draw(&mut scene, calls, functions, &scale, &mut taken);
    let column = Frame {
        x: frame.right() + GUTTER,
        width: LEGEND,
        ..frame
    };
    let used = legend::draw(&mut scene, &content.entries, column);
    if let Some(flame) = flame {
        flame.draw(&mut scene, below, content.time_s);
        flame.draw_key(&mut scene, (column.x, column.y + used));
    }
    scene
}

fn heading(scene: &mut Scene, content: &Content<'_>) {
    let room = scene.width - 2.0 * GUTTER;
    for (text, y, size, ink) in [
        (&content.title, 32.0, 17.0, Ink::Text),
        (&content.subtitle, 52.0, 12.0, Ink::Muted),
    ] {
        scene.text((GUTTER, y), size, ink, font::fit(text, size, room));
    }
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
