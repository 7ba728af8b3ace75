//! The letters: how wide a text is, and its outlines. The only module that names ttf-parser.
//!
//! The font is a part of DejaVu Sans inside the binary, so that a picture does not depend on the
//! fonts of the machine. In an SVG the browser draws the text: with the same font where there is
//! one, else with Verdana, which has the same widths, or one that is narrower.

use std::sync::LazyLock;

use ttf_parser::{Face, OutlineBuilder};
use unicode_width::UnicodeWidthChar as _;

/// The font of a text in an SVG.
pub const FAMILY: &str = "'DejaVu Sans', Verdana, 'Bitstream Vera Sans', sans-serif";

/// What stands for text that was cut away.
const ELLIPSIS: char = '…';

static FACE: LazyLock<Option<Face<'static>>> = LazyLock::new(|| {
    let font = include_bytes!("../../assets/DejaVuSans.subset.ttf");
    Face::parse(font, 0).ok()
});

/// How wide `text` is in letters of `size` pixels.
pub fn width(text: &str, size: f64) -> f64 {
    text.chars().map(|character| advance(character, size)).sum()
}

/// `text`, or as much of its begin as fits into `room` pixels, with `…` for the rest. Empty when
/// not even two letters would be left.
pub fn fit(text: &str, size: f64, room: f64) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let mut left = room - advance(ELLIPSIS, size);
    let fits = |character: &char| {
        left -= advance(*character, size);
        left >= 0.0
    };
    let kept: String = text.chars().take_while(fits).collect();
    match kept.chars().nth(1) {
        Some(_) => kept + "…",
        None => String::new(),
    }
}

/// Whether there is an outline of this letter, and not just the empty box.
pub fn has(character: char) -> bool {
    FACE.as_ref()
        .is_some_and(|face| face.glyph_index(character).is_some())
}

/// How far the next letter stands from this one.
fn advance(character: char, size: f64) -> f64 {
    // Letters of other scripts come from another font: one cell of a terminal is about half as
    // wide as high.
    let foreign = || character.width().unwrap_or(1) as f64 * 0.55;
    let ems = FACE.as_ref().and_then(|face| {
        let glyph = face.glyph_index(character)?;
        let units = face.glyph_hor_advance(glyph)?;
        Some(f64::from(units) / f64::from(face.units_per_em()))
    });
    ems.unwrap_or_else(foreign) * size
}

/// Where outlines go: `move_to`, `line_to`, `quad_to`, `curve_to`, `close` in pixels.
pub trait Pen {
    /// A new contour begins.
    fn move_to(&mut self, x: f32, y: f32);
    /// A straight line.
    fn line_to(&mut self, x: f32, y: f32);
    /// A curve with one control point.
    fn quad_to(&mut self, control: (f32, f32), to: (f32, f32));
    /// A curve with two control points.
    fn curve_to(&mut self, controls: [(f32, f32); 2], to: (f32, f32));
    /// The contour ends where it began.
    fn close(&mut self);
}

/// Draws the outlines of `text` from `(x, y)`, its base line, to the right.
pub fn outline(text: &str, (x, y): (f64, f64), size: f64, pen: &mut dyn Pen) {
    let Some(face) = FACE.as_ref() else {
        return;
    };
    let scale = size / f64::from(face.units_per_em());
    let mut at = x;
    for character in text.chars() {
        // Glyph 0 is the empty box of what the font has not (OpenType, "glyf").
        let glyph = face.glyph_index(character).unwrap_or_default();
        let mut placed = Placed {
            pen,
            x: at,
            y,
            scale,
        };
        face.outline_glyph(glyph, &mut placed);
        at += advance(character, size);
    }
}

/// Turns the font's units, whose y goes up, into pixels at a place.
struct Placed<'a> {
    pen: &'a mut dyn Pen,
    x: f64,
    y: f64,
    scale: f64,
}

impl Placed<'_> {
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        let x = self.x + f64::from(x) * self.scale;
        let y = self.y - f64::from(y) * self.scale;
        (x as f32, y as f32)
    }
}

impl OutlineBuilder for Placed<'_> {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.pen.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.pen.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        self.pen.quad_to(self.at(x1, y1), self.at(x, y));
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let controls = [self.at(x1, y1), self.at(x2, y2)];
        self.pen.curve_to(controls, self.at(x, y));
    }

    fn close(&mut self) {
        self.pen.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_font_is_there_and_letters_have_their_widths() {
        assert!(FACE.is_some());
        // DejaVu Sans: a digit is 1303 of 2048 units wide, an i is 569.
        assert!((width("0123", 2048.0) - 4.0 * 1303.0).abs() < 1e-6);
        assert!((width("i", 2048.0) - 569.0).abs() < 1e-6);
    }

    #[test]
    fn a_text_is_cut_to_its_room() {
        assert_eq!(fit("short", 10.0, 100.0), "short");
        let name = "service.handlers.Upload.receive";
        let cut = fit(name, 10.0, 60.0);
        assert!(cut.ends_with('…') && width(&cut, 10.0) <= 60.0, "{cut}");
        assert_eq!(fit("wide", 10.0, 5.0), "");
    }
}
