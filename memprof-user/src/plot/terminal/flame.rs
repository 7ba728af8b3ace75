//! The flame in letters: a row a depth of marked calls, a pair of brackets a call.

use unicode_width::UnicodeWidthStr as _;

use super::super::axis::{Range, change};
use super::super::data::Call;
use super::super::flame::Flame;
use super::{MARGIN, Terminal, clipped, sequence_end};

/// Writes all bands, below curves of this many columns.
pub fn write(
    out: &mut String,
    flame: &Flame<'_>,
    width: usize,
    time_s: Range,
    terminal: &Terminal,
) {
    for (name, tail, rows) in flame.bands() {
        let room = terminal.columns.saturating_sub(tail.width());
        out.push_str(&format!("\n{}{tail}\n", clipped(name, room)));
        for calls in rows {
            row(out, flame, calls, (width, time_s), terminal.colour);
        }
    }
    if let Some(note) = flame.note() {
        out.push_str(&format!("\n{note}\n"));
    }
}

fn row(
    out: &mut String,
    flame: &Flame<'_>,
    calls: &[&Call],
    (width, time_s): (usize, Range),
    colour: bool,
) {
    let column = |time: f64| {
        let share = ((time - time_s.begin) / time_s.span()).clamp(0.0, 1.0);
        (share * (width - 1) as f64).round() as usize
    };
    out.push_str(&" ".repeat(MARGIN));
    let mut at = 0;
    for call in calls {
        // A cell that is taken already is of a call that began earlier.
        let begin = column(call.begin.time_s).max(at);
        let end = column(call.end.time_s);
        if end < begin {
            continue;
        }
        out.push_str(&" ".repeat(begin - at));
        if colour {
            out.push_str(heat(flame.step(call.growth())));
        }
        out.push_str(&shown(flame, call, end - begin + 1));
        if colour {
            out.push_str(sequence_end());
        }
        at = end + 1;
    }
    out.push('\n');
}

/// A call in so many cells: its name and growth where they fit.
fn shown(flame: &Flame<'_>, call: &Call, cells: usize) -> String {
    let Some(room) = cells.checked_sub(2) else {
        return "|".to_owned();
    };
    let name = flame.label(call);
    let growth = change(call.growth());
    let fits = name.width() + 1 + growth.width() <= room;
    let text = match (fits, room) {
        (true, _) => clipped(&format!("{name} {growth}"), room),
        // One letter and what stands for the rest tell nothing.
        (false, 3..) => clipped(&name, room),
        (false, _) => String::new(),
    };
    let rest = "─".repeat(room.saturating_sub(text.width()));
    format!("[{text}{rest}]")
}

/// ECMA-48 SGR: more and more red with growth, blue for what was given back.
fn heat(step: i8) -> &'static str {
    match step {
        5.. => "\x1b[31m",
        3..5 => "\x1b[33m",
        1..3 => "\x1b[93m",
        0 => "\x1b[90m",
        -2..0 => "\x1b[96m",
        -4..-2 => "\x1b[36m",
        _ => "\x1b[34m",
    }
}
