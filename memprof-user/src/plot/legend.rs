//! The column beside the curves: what each colour is, in words and numbers.

use super::font;
use super::scene::{Frame, Scene};
use super::theme::Ink;

/// Size of the letters of a name, in pixels.
const LABEL: f64 = 12.0;
/// Size of the letters of a number.
const DETAIL: f64 = 11.0;
/// From one line to the next.
const LINE: f64 = 15.0;
/// Between two entries.
const GAP: f64 = 8.0;
/// Where texts begin, from the left edge.
const INDENT: f64 = 30.0;

/// One colour.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What stands for it.
    pub sign: Sign,
    /// The colour.
    pub ink: Ink,
    /// Whose it is. The end is cut when it is too long.
    pub label: String,
    /// What follows and is never cut.
    pub tail: String,
    /// Lines below it.
    pub details: Vec<String>,
}

/// How a colour appears in the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// A curve.
    Line,
    /// Many curves of one colour.
    ThinLine,
    /// The brackets of a function.
    Brackets,
    /// Nothing: words only.
    None,
}

impl Entry {
    /// Words only.
    pub fn note(label: String) -> Entry {
        Entry {
            sign: Sign::None,
            ink: Ink::Muted,
            label,
            tail: String::new(),
            details: Vec::new(),
        }
    }

    fn height(&self) -> f64 {
        LINE * (1 + self.details.len()) as f64 + GAP
    }
}

/// The height of these entries.
pub fn height(entries: &[Entry]) -> f64 {
    entries.iter().map(Entry::height).sum()
}

/// Draws entries from the top of `frame`; gives the height that they took.
pub fn draw(scene: &mut Scene, entries: &[Entry], frame: Frame) -> f64 {
    let mut top = frame.y;
    let room = frame.width - INDENT;
    for entry in entries {
        let middle = top + LINE / 2.0;
        sign(scene, entry, (frame.x, middle));
        let at = |line: usize| (frame.x + INDENT, top + LINE * line as f64 + 12.0);
        let left = room - font::width(&entry.tail, LABEL);
        let label = font::fit(&entry.label, LABEL, left) + &entry.tail;
        scene.text(at(0), LABEL, Ink::Text, label);
        for (index, detail) in entry.details.iter().enumerate() {
            let detail = font::fit(detail, DETAIL, room);
            scene.text(at(index + 1), DETAIL, Ink::Muted, detail);
        }
        top += entry.height();
    }
    top - frame.y
}

fn sign(scene: &mut Scene, entry: &Entry, (x, y): (f64, f64)) {
    const LENGTH: f64 = 20.0;
    match entry.sign {
        Sign::Line => scene.line(vec![(x, y), (x + LENGTH, y)], entry.ink, 3.0, 0.0),
        Sign::ThinLine => {
            for offset in [-4.0, 0.0, 4.0] {
                let y = y + offset;
                scene.line(vec![(x, y), (x + LENGTH, y)], entry.ink, 1.0, 0.0);
            }
        }
        Sign::Brackets => {
            scene.line(bracket((x + 4.0, y), 5.0, 5.5), entry.ink, 2.0, 0.0);
            scene.line(bracket((x + 16.0, y), -5.0, 5.5), entry.ink, 2.0, 0.0);
        }
        Sign::None => {}
    }
}

/// A bracket around a point: `[` with a positive arm, `]` with a negative one.
pub fn bracket((x, y): (f64, f64), arm: f64, half: f64) -> Vec<(f64, f64)> {
    vec![
        (x + arm, y - half),
        (x, y - half),
        (x, y + half),
        (x + arm, y + half),
    ]
}
