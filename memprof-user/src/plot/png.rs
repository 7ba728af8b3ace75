//! A scene as PNG. The only module that names tiny-skia.

use std::collections::BTreeSet;
use std::io;

use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, StrokeDash,
    Transform,
};

use super::font::{self, Pen};
use super::scene::{Anchor, Frame, Item, Scene, Text};
use super::theme::{Ink, Theme};
use crate::sink::escape;

/// Pixels of the file for one of the scene, on each side: letters stay sharp on the screens of
/// today.
const SCALE: u16 = 2;

/// A larger file has one pixel for one of the scene: 256 MiB while it is drawn, and twice that while
/// it is written. A flame of many processes and depths is a hundred pages high.
const MOST_PIXELS: f64 = (64 << 20) as f64;

/// Control points of a quarter of a circle with Bézier's curves, from the corner, in radii:
/// 1 − 4/3 (√2 − 1).
const CORNER: f64 = 0.447_715;

/// Width of the background around letters, in pixels of the scene.
const HALO: f32 = 3.0;

/// The whole file. Fails when the picture is larger than memory allows.
pub fn png(scene: &Scene, theme: Theme) -> io::Result<Vec<u8>> {
    let scale = scale(scene);
    let pixels = |length: f64| (length * f64::from(scale)).ceil() as u32;
    let too_large = || io::Error::other("the picture is too large");
    let mut pixmap =
        Pixmap::new(pixels(scene.width), pixels(scene.height)).ok_or_else(too_large)?;
    pixmap.fill(colour(Ink::Background, theme));
    let transform = Transform::from_scale(f32::from(scale), f32::from(scale));
    let mut canvas = Canvas {
        pixmap,
        theme,
        transform,
    };
    for item in &scene.items {
        canvas.draw(item);
    }
    canvas.pixmap.encode_png().map_err(io::Error::other)
}

/// The letters that a PNG has boxes for, each once.
pub fn missing_letters(scene: &Scene) -> BTreeSet<char> {
    let texts = scene.items.iter().filter_map(|item| match item {
        Item::Text(text) => Some(escape::line(&text.text)),
        _ => None,
    });
    let missing = texts.flat_map(|text| text.chars().collect::<Vec<char>>());
    missing.filter(|&letter| !font::has(letter)).collect()
}

fn scale(scene: &Scene) -> u16 {
    let pixels = scene.width * scene.height * f64::from(SCALE * SCALE);
    if pixels <= MOST_PIXELS { SCALE } else { 1 }
}

struct Canvas {
    pixmap: Pixmap,
    theme: Theme,
    transform: Transform,
}

impl Canvas {
    fn draw(&mut self, item: &Item) {
        match item {
            Item::Rect {
                frame, ink, radius, ..
            } => {
                if let Some(path) = rounded(frame, *radius) {
                    self.fill(&path, *ink);
                }
            }
            Item::Line {
                points,
                ink,
                width,
                dash,
                ..
            } => {
                let stroke = Stroke {
                    width: *width as f32,
                    line_cap: LineCap::Butt,
                    line_join: LineJoin::Round,
                    dash: StrokeDash::new(vec![*dash as f32; 2], 0.0),
                    ..Stroke::default()
                };
                if let Some(path) = polyline(points) {
                    self.stroke(&path, *ink, &stroke);
                }
            }
            Item::Text(text) => self.text(text),
        }
    }

    fn text(&mut self, text: &Text) {
        let shown = escape::line(&text.text);
        let width = font::width(&shown, text.size);
        let x = match text.anchor {
            Anchor::Start => text.x,
            Anchor::Middle => text.x - width / 2.0,
            Anchor::End => text.x - width,
        };
        let mut outline = Outline(PathBuilder::new());
        font::outline(&shown, (x, text.y), text.size, &mut outline);
        let Some(path) = outline.0.finish() else {
            return;
        };
        if text.halo {
            let stroke = Stroke {
                width: HALO,
                line_join: LineJoin::Round,
                ..Stroke::default()
            };
            self.stroke(&path, Ink::Background, &stroke);
        }
        self.fill(&path, text.ink);
    }

    fn fill(&mut self, path: &Path, ink: Ink) {
        let paint = paint(ink, self.theme);
        self.pixmap
            .fill_path(path, &paint, FillRule::Winding, self.transform, None);
    }

    fn stroke(&mut self, path: &Path, ink: Ink, stroke: &Stroke) {
        let paint = paint(ink, self.theme);
        self.pixmap
            .stroke_path(path, &paint, stroke, self.transform, None);
    }
}

fn colour(ink: Ink, theme: Theme) -> Color {
    let [_, red, green, blue] = ink.colour(theme).to_be_bytes();
    Color::from_rgba8(red, green, blue, 255)
}

fn paint(ink: Ink, theme: Theme) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color(colour(ink, theme));
    paint.anti_alias = true;
    paint
}

fn polyline(points: &[(f64, f64)]) -> Option<Path> {
    let mut builder = PathBuilder::new();
    for (index, (x, y)) in points.iter().enumerate() {
        let (x, y) = (*x as f32, *y as f32);
        if index == 0 {
            builder.move_to(x, y);
        } else {
            builder.line_to(x, y);
        }
    }
    builder.finish()
}

fn rounded(frame: &Frame, radius: f64) -> Option<Path> {
    let radius = radius.min(frame.width / 2.0).min(frame.height / 2.0);
    if radius <= 0.0 {
        let rect = Rect::from_xywh(
            frame.x as f32,
            frame.y as f32,
            frame.width as f32,
            frame.height as f32,
        )?;
        return Some(PathBuilder::from_rect(rect));
    }
    let mut builder = PathBuilder::new();
    let (left, top, right, bottom) = (frame.x, frame.y, frame.right(), frame.bottom());
    // Each corner with the directions in which its two sides leave it.
    let corners = [
        ((right, top), (-1.0, 0.0), (0.0, 1.0)),
        ((right, bottom), (0.0, -1.0), (-1.0, 0.0)),
        ((left, bottom), (1.0, 0.0), (0.0, -1.0)),
        ((left, top), (0.0, 1.0), (1.0, 0.0)),
    ];
    for (index, (corner, from, to)) in corners.into_iter().enumerate() {
        let along = |direction: (f64, f64), radii: f64| {
            let length = radius * radii;
            let x = corner.0 + direction.0 * length;
            let y = corner.1 + direction.1 * length;
            (x as f32, y as f32)
        };
        let (begin, end) = (along(from, 1.0), along(to, 1.0));
        let (first, second) = (along(from, CORNER), along(to, CORNER));
        if index == 0 {
            builder.move_to(begin.0, begin.1);
        } else {
            builder.line_to(begin.0, begin.1);
        }
        builder.cubic_to(first.0, first.1, second.0, second.1, end.0, end.1);
    }
    builder.close();
    builder.finish()
}

struct Outline(PathBuilder);

impl Pen for Outline {
    fn move_to(&mut self, x: f32, y: f32) {
        self.0.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.0.line_to(x, y);
    }

    fn quad_to(&mut self, control: (f32, f32), to: (f32, f32)) {
        self.0.quad_to(control.0, control.1, to.0, to.1);
    }

    fn curve_to(&mut self, [first, second]: [(f32, f32); 2], to: (f32, f32)) {
        self.0
            .cubic_to(first.0, first.1, second.0, second.1, to.0, to.1);
    }

    fn close(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_very_high_picture_has_fewer_pixels() {
        let scene = |height| Scene {
            width: 1260.0,
            height,
            items: Vec::new(),
        };
        assert_eq!(scale(&scene(540.0)), 2);
        assert_eq!(scale(&scene(32_000.0)), 1);
    }
}
