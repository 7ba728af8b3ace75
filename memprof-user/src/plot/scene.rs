//! What a picture consists of, before anybody knows which file it becomes.
//!
//! Every picture is drawn once, into a [`Scene`]; [`super::svg`] and [`super::png`] only copy it.
//! Lengths are pixels of CSS, with the origin at the top left.

use super::theme::Ink;

/// A finished picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scene {
    /// Width in pixels.
    pub width: f64,
    /// Height in pixels.
    pub height: f64,
    /// What is drawn, the first at the back.
    pub items: Vec<Item>,
}

/// A rectangle of the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Frame {
    /// Left edge.
    pub x: f64,
    /// Top edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

impl Frame {
    /// The right edge.
    pub fn right(&self) -> f64 {
        self.x + self.width
    }

    /// The lower edge.
    pub fn bottom(&self) -> f64 {
        self.y + self.height
    }

    /// True when both have a common point inside.
    pub fn overlaps(&self, other: &Frame) -> bool {
        self.x < other.right()
            && other.x < self.right()
            && self.y < other.bottom()
            && other.y < self.bottom()
    }
}

/// One thing that is drawn.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A filled rectangle.
    Rect {
        /// Where.
        frame: Frame,
        /// Its colour.
        ink: Ink,
        /// Radius of its corners.
        radius: f64,
        /// What a browser shows when the pointer rests on it.
        hover: Option<String>,
    },
    /// A line through points.
    Line {
        /// At least two.
        points: Vec<(f64, f64)>,
        /// Its colour.
        ink: Ink,
        /// How thick.
        width: f64,
        /// Length of dashes and of the gaps between them; 0 for a solid line.
        dash: f64,
        /// What a browser shows when the pointer rests on it.
        hover: Option<String>,
    },
    /// One line of text.
    Text(Text),
}

/// One line of text.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// Where its anchor is.
    pub x: f64,
    /// Its base line.
    pub y: f64,
    /// Size of the letters.
    pub size: f64,
    /// Which part of the text lies at `x`.
    pub anchor: Anchor,
    /// Its colour.
    pub ink: Ink,
    /// The text, as it came: escaped by who writes the file.
    pub text: String,
    /// The background is drawn around the letters, so that lines behind them do not cross them.
    pub halo: bool,
}

/// Which part of a text lies at its point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anchor {
    /// Its begin.
    #[default]
    Start,
    /// Its middle.
    Middle,
    /// Its end.
    End,
}

impl Scene {
    /// Adds a rectangle.
    pub fn rect(&mut self, frame: Frame, ink: Ink) {
        self.items.push(Item::Rect {
            frame,
            ink,
            radius: 0.0,
            hover: None,
        });
    }

    /// Adds a line.
    pub fn line(&mut self, points: Vec<(f64, f64)>, ink: Ink, width: f64, dash: f64) {
        self.items.push(Item::Line {
            points,
            ink,
            width,
            dash,
            hover: None,
        });
    }

    /// Adds a text that begins at `(x, y)`.
    pub fn text(&mut self, (x, y): (f64, f64), size: f64, ink: Ink, text: impl Into<String>) {
        self.anchored((x, y), size, ink, Anchor::Start, text);
    }

    /// Adds a text.
    pub fn anchored(
        &mut self,
        (x, y): (f64, f64),
        size: f64,
        ink: Ink,
        anchor: Anchor,
        text: impl Into<String>,
    ) {
        self.items.push(Item::Text(Text {
            x,
            y,
            size,
            anchor,
            ink,
            text: text.into(),
            halo: false,
        }));
    }
}
