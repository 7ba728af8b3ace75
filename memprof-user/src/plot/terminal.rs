//! Curves in letters: eight dots a cell (Unicode's Braille patterns), for a machine one is logged
//! in to.

mod flame;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::axis::{self, Axis, Range, Scale};
use super::brackets;
use super::content::{Content, PlotOptions, Styled};
use super::data::{self, Data};
use super::legend::{Entry, Sign};
use super::scene::Frame;
use super::theme::Ink;
use crate::sink::escape;

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Cells in a row.
    pub columns: usize,
    /// Rows, when they are known.
    pub rows: Option<usize>,
    /// Whether it understands colours.
    pub colour: bool,
}

/// Cells left of the curves: a number and its unit.
const MARGIN: usize = 11;
/// Rows of the curves.
const HEIGHT: (usize, usize) = (8, 24);
/// Columns of the curves.
const WIDTH: (usize, usize) = (20, 160);
/// Rows below them: times, legend, the prompt.
const BELOW: usize = 12;

/// The curves as text.
pub fn text(recordings: &[Data], options: &PlotOptions, terminal: &Terminal) -> String {
    let width = terminal.columns.saturating_sub(MARGIN + 1);
    let width = width.clamp(WIDTH.0, WIDTH.1);
    let height = terminal
        .rows
        .unwrap_or(HEIGHT.1 + BELOW)
        .saturating_sub(BELOW);
    let height = height.clamp(HEIGHT.0, HEIGHT.1);
    let content = Content::new(recordings, options);
    let scale = Scale {
        // In dots, so that the middle of the last dot is the end of the range.
        frame: Frame {
            x: 0.0,
            y: 0.0,
            width: (width * 2 - 1) as f64,
            height: (height * 4 - 1) as f64,
        },
        time_s: content.time_s,
        bytes: content.bytes,
    };
    let mut canvas = Canvas::new(width, height);
    for styled in content.curves.iter().rev() {
        canvas.curve(styled, &scale);
    }
    for call in &content.calls {
        let mut functions = content.functions.iter();
        let place = functions.position(|function| function.name == call.function);
        let ink = place.map_or(Ink::Others, brackets::ink);
        let [begin, end] = call.ends();
        canvas.letter('[', ink, &scale, begin);
        canvas.letter(']', ink, &scale, end);
    }
    let memory = axis::bytes(scale.bytes, (height as f64 / 3.0).max(2.0));
    let time = axis::seconds(scale.time_s, (width as f64 / 12.0).max(2.0));
    let units = format!("{}, {} · time, {}", content.metric, memory.unit, time.unit);
    let mut out = String::new();
    for line in [&content.title, &content.subtitle, &units] {
        out.push_str(&clipped(line, terminal.columns));
        out.push('\n');
    }
    rows(&mut out, &canvas, &scale, &memory, terminal);
    times(&mut out, width, scale.time_s, &time);
    if let Some(flame) = &content.flame {
        flame::write(&mut out, flame, width, scale.time_s, terminal);
        out.push('\n');
    }
    for entry in &content.entries {
        legend_row(&mut out, entry, terminal);
    }
    out
}

/// Cells of eight dots.
struct Canvas {
    width: usize,
    cells: Vec<Cell>,
}

#[derive(Clone, Copy, Default)]
struct Cell {
    /// A bit a dot, as Unicode numbers them.
    dots: u8,
    letter: Option<char>,
    ink: Option<Ink>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Canvas {
        Canvas {
            width,
            cells: vec![Cell::default(); width * height],
        }
    }

    fn cell(&mut self, x: f64, y: f64) -> Option<(&mut Cell, usize, usize)> {
        if x < 0.0 || y < 0.0 {
            return None;
        }
        let (x, y) = (x.round() as usize, y.round() as usize);
        if x >= self.width * 2 {
            return None;
        }
        let cell = self.cells.get_mut(y / 4 * self.width + x / 2)?;
        Some((cell, x % 2, y % 4))
    }

    fn dot(&mut self, x: f64, y: f64, ink: Ink) {
        // Unicode 15, "Braille Patterns": dots 1 to 8 are bits 0 to 7, by column and row.
        const BITS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
        if let Some((cell, column, row)) = self.cell(x, y) {
            cell.dots |= BITS[column][row];
            cell.ink = Some(ink);
        }
    }

    fn letter(&mut self, letter: char, ink: Ink, scale: &Scale, point: data::Point) {
        let (x, y) = (scale.x(point.time_s), scale.y(point.bytes));
        if let Some((cell, _, _)) = self.cell(x, y) {
            cell.letter = Some(letter);
            cell.ink = Some(ink);
        }
    }

    fn curve(&mut self, styled: &Styled<'_>, scale: &Scale) {
        for stretch in data::stretches(&styled.curve.points) {
            let points = data::thin(stretch, scale.time_s, scale.frame.width);
            let at = |p: &data::Point| (scale.x(p.time_s), scale.y(p.bytes));
            let places: Vec<(f64, f64)> = points.iter().map(at).collect();
            if let [(x, y)] = places.as_slice() {
                self.dot(*x, *y, styled.ink);
            }
            for ends in places.windows(2) {
                self.line(ends[0], ends[1], styled.ink);
            }
        }
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), ink: Ink) {
        let (width, height) = (to.0 - from.0, to.1 - from.1);
        let steps = width.abs().max(height.abs()).ceil().max(1.0);
        for step in 0..=steps as u32 {
            let share = f64::from(step) / steps;
            self.dot(from.0 + width * share, from.1 + height * share, ink);
        }
    }

    fn row(&self, row: usize) -> &[Cell] {
        let from = row * self.width;
        self.cells.get(from..from + self.width).unwrap_or(&[])
    }
}

/// The canvas with the numbers of memory beside it.
fn rows(out: &mut String, canvas: &Canvas, scale: &Scale, memory: &Axis, terminal: &Terminal) {
    let height = canvas.cells.len() / canvas.width;
    let row_of = |bytes: f64| (scale.y(bytes) / 4.0).floor() as usize;
    for row in 0..height {
        let tick = memory.ticks.iter().find(|tick| row_of(tick.at) == row);
        let label = tick.map_or("", |tick| tick.label.as_str());
        let edge = if tick.is_some() { '┤' } else { '│' };
        out.push_str(&format!("{label:>width$} {edge}", width = MARGIN - 2));
        let mut line = String::new();
        let mut last = None;
        for cell in canvas.row(row) {
            if terminal.colour && cell.ink != last {
                // Bold is switched off by nothing else.
                line.push_str(sequence(None));
                if cell.ink.is_some() {
                    line.push_str(sequence(cell.ink));
                }
                last = cell.ink;
            }
            // U+2800 with these bits; a blank where nothing is drawn.
            let dots = char::from_u32(0x2800 + u32::from(cell.dots)).unwrap_or(' ');
            let shown = if cell.dots == 0 { ' ' } else { dots };
            line.push(cell.letter.unwrap_or(shown));
        }
        if last.is_some() {
            line.push_str(sequence(None));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// The line below the canvas, and the numbers of time.
fn times(out: &mut String, width: usize, time_s: Range, time: &Axis) {
    let mut edge = vec!['─'; width];
    let mut labels = vec![' '; width + MARGIN];
    for tick in &time.ticks {
        let share = (tick.at - time_s.begin) / time_s.span();
        let column = (share * (width - 1) as f64).round() as usize;
        if let Some(place) = edge.get_mut(column) {
            *place = '┬';
        }
        let label = tick.label.chars();
        // In the middle below its tick, but whole.
        let begin = (column + MARGIN).saturating_sub(tick.label.len() / 2);
        let begin = begin.min(labels.len().saturating_sub(tick.label.len()));
        for (offset, character) in label.enumerate() {
            if let Some(place) = labels.get_mut(begin + offset) {
                *place = character;
            }
        }
    }
    let edge: String = edge.into_iter().collect();
    let labels: String = labels.into_iter().collect();
    out.push_str(&format!("{:>width$} └{edge}\n", "", width = MARGIN - 2));
    out.push_str(labels.trim_end());
    out.push('\n');
}

fn legend_row(out: &mut String, entry: &Entry, terminal: &Terminal) {
    let sign = match entry.sign {
        Sign::Line | Sign::ThinLine => "⣀⣀",
        Sign::Brackets => "[]",
        Sign::None => "  ",
    };
    let (begin, end) = match (terminal.colour, entry.sign) {
        (false, _) | (_, Sign::None) => ("", ""),
        (true, _) => (sequence(Some(entry.ink)), sequence(None)),
    };
    let details = entry.details.join(", ");
    let tail = escape::terminal(&entry.tail);
    // The numbers stay whole: a long name gives way, and then they go to a line of their own.
    const LEAST_NAME: usize = 12;
    const SIGN: usize = 3;
    const BETWEEN: usize = 2;
    let room = |other: usize| terminal.columns.saturating_sub(SIGN + tail.width() + other);
    let beside = room(BETWEEN + details.width());
    let (room, between) = match beside >= LEAST_NAME.min(entry.label.width()) {
        true => (beside, " ".repeat(BETWEEN)),
        false => (room(0), format!("\n{}", " ".repeat(SIGN))),
    };
    let label = clipped(&entry.label, room) + &tail;
    let between = if details.is_empty() { "" } else { &between };
    out.push_str(&format!("{begin}{sign}{end} {label}{between}{details}\n"));
}

/// What came from outside, in at most so many cells.
fn clipped(text: &str, columns: usize) -> String {
    let text = escape::terminal(text);
    if text.width() <= columns {
        return text.into_owned();
    }
    let mut kept = String::new();
    for character in text.chars() {
        let wider = kept.width() + character.width().unwrap_or(0);
        // One cell is for what stands for the rest.
        if wider >= columns {
            break;
        }
        kept.push(character);
    }
    kept + "…"
}

/// The end of a colour.
fn sequence_end() -> &'static str {
    sequence(None)
}

/// ECMA-48 SGR. The sixteen colours of the terminal, which its user has chosen to be readable.
fn sequence(ink: Option<Ink>) -> &'static str {
    match ink {
        Some(Ink::Series(0)) => "\x1b[34m",
        Some(Ink::Series(1)) => "\x1b[33m",
        Some(Ink::Series(2)) => "\x1b[32m",
        Some(Ink::Series(3)) => "\x1b[35m",
        Some(Ink::Series(4)) => "\x1b[36m",
        Some(Ink::Series(5)) => "\x1b[95m",
        Some(Ink::Series(6)) => "\x1b[93m",
        Some(Ink::Series(_)) => "\x1b[31m",
        Some(Ink::Others) => "\x1b[90m",
        Some(Ink::Total) => "\x1b[1m",
        _ => "\x1b[0m",
    }
}
