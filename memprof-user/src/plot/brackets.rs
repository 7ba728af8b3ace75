//! mprof's marks: a bracket where a function began and one where it ended, on the curve of the
//! process that ran it.

use std::collections::HashMap;

use super::axis::{Scale, amount, change};
use super::data::{Call, Data};
use super::font;
use super::legend::{Entry, Sign, bracket};
use super::names;
use super::scene::{Anchor, Frame, Item, Scene, Text};
use super::theme::{Ink, SERIES};

/// Calls that get brackets: those that changed memory most. More hide the curve.
const MAX_CALLS: usize = 120;

/// Functions that get a colour and a row of the legend.
const MAX_FUNCTIONS: usize = 8;

/// Brackets that get words, of each function and of all. The legend has every function.
const MAX_WORDS: (usize, usize) = (3, 20);

/// Size of the words at a bracket.
const SIZE: f64 = 11.0;

/// Width of a name beside a bracket. The legend has more room.
const MAX_NAME: f64 = 120.0;

/// What is known of a function from its calls.
#[derive(Clone, Debug, PartialEq)]
pub struct Function<'a> {
    /// Its whole name.
    pub name: &'a str,
    /// The shortest name that tells it from the others.
    pub label: &'a str,
    /// Its calls.
    pub calls: u64,
    /// What they grew by together, in bytes.
    pub growth: f64,
    /// How long they took together.
    pub duration_s: f64,
    /// Begin and end of one of them are guessed.
    pub approximate: bool,
}

/// Functions with calls, those that changed memory most first.
pub fn functions(calls: &[Call]) -> Vec<Function<'_>> {
    let labels = names::shortest(calls.iter().map(|call| call.function.as_str()));
    let mut functions: Vec<Function<'_>> = Vec::new();
    let mut indexes = HashMap::new();
    for call in calls {
        let name = call.function.as_str();
        let next = functions.len();
        let index = *indexes.entry(name).or_insert(next);
        if index == next {
            functions.push(Function {
                name,
                label: labels.get(name).copied().unwrap_or(name),
                calls: 0,
                growth: 0.0,
                duration_s: 0.0,
                approximate: false,
            });
        }
        let function = &mut functions[index];
        function.calls = function.calls.saturating_add(call.calls);
        function.growth += call.growth();
        function.approximate |= call.approximate;
        function.duration_s += call.end.time_s - call.begin.time_s;
    }
    functions.sort_by(|a, b| {
        let order = b.growth.abs().total_cmp(&a.growth.abs());
        order.then(a.name.cmp(b.name))
    });
    functions
}

/// Colours from the end of the palette: curves take them from its begin.
pub fn ink(index: usize) -> Ink {
    if index < MAX_FUNCTIONS {
        Ink::Series((SERIES - 1 - index % SERIES) as u8)
    } else {
        Ink::Others
    }
}

/// A row a function.
pub fn legend(functions: &[Function<'_>], drawn: usize, calls: usize) -> Vec<Entry> {
    let row = |(index, function): (usize, &Function<'_>)| {
        let times = match function.calls {
            0 | 1 => String::new(),
            calls => format!("  ×{calls}"),
        };
        Entry {
            sign: Sign::Brackets,
            ink: ink(index),
            label: names::shown(function.label, function.approximate),
            tail: times,
            details: vec![format!(
                "{} in {:.3} s",
                change(function.growth),
                function.duration_s
            )],
        }
    };
    let rows = functions.iter().enumerate().take(MAX_FUNCTIONS);
    let mut entries: Vec<Entry> = rows.map(row).collect();
    let mut say = |label: String| entries.push(Entry::note(label));
    if functions.len() > MAX_FUNCTIONS {
        say(format!(
            "and {} more functions",
            functions.len() - MAX_FUNCTIONS
        ));
    }
    if drawn < calls {
        say(format!("brackets: the {drawn} largest of {calls} calls"));
    }
    entries
}

/// Which calls get brackets, by their begin.
pub fn chosen(data: &Data) -> Vec<&Call> {
    let mut calls: Vec<&Call> = data.calls.iter().collect();
    calls.sort_by(|a, b| b.growth().abs().total_cmp(&a.growth().abs()));
    calls.truncate(MAX_CALLS);
    calls.sort_by(|a, b| a.begin.time_s.total_cmp(&b.begin.time_s));
    calls
}

/// Draws the brackets and, where there is room, what they are. `taken` are places of other words.
pub fn draw(
    scene: &mut Scene,
    calls: &[&Call],
    functions: &[Function<'_>],
    scale: &Scale,
    taken: &mut Vec<Frame>,
) {
    const ARM: f64 = 5.0;
    // Many brackets are smaller, so that the curve is seen between them.
    const MANY: usize = 40;
    let half = if calls.len() > MANY { 5.0 } else { 9.0 };
    let places: HashMap<&str, usize> = functions
        .iter()
        .enumerate()
        .map(|(index, function)| (function.name, index))
        .collect();
    let shown = |time_s: f64| time_s >= scale.time_s.begin && time_s <= scale.time_s.end;
    for call in calls {
        let Some(&place) = places.get(call.function.as_str()) else {
            continue;
        };
        let ink = ink(place);
        let ends = call.ends().into_iter().zip([ARM, -ARM]);
        for (point, arm) in ends.filter(|(point, _)| shown(point.time_s)) {
            let at = (scale.x(point.time_s), scale.y(point.bytes));
            scene.items.push(Item::Line {
                points: bracket(at, arm, half),
                ink,
                width: 2.0,
                dash: 0.0,
                hover: Some(told(call)),
            });
        }
    }
    // The words after all brackets, and those of large calls first: they find room.
    let mut by_growth: Vec<&&Call> = calls.iter().filter(|c| shown(c.begin.time_s)).collect();
    by_growth.sort_by(|a, b| b.growth().abs().total_cmp(&a.growth().abs()));
    let mut said = vec![0; functions.len()];
    for call in by_growth {
        if let Some(&place) = places.get(call.function.as_str()) {
            if said[place] >= MAX_WORDS.0 || said.iter().sum::<usize>() >= MAX_WORDS.1 {
                continue;
            }
            said[place] += 1;
            let name = names::shown(functions[place].label, call.approximate);
            let name = font::fit(&name, SIZE, MAX_NAME);
            let text = format!("{name} {}", change(call.growth()));
            let [begin, _] = call.ends();
            let at = (scale.x(begin.time_s), scale.y(begin.bytes));
            words(scene, &text, ink(place), at, scale.frame, taken);
        }
    }
}

/// Writes beside a bracket, above it or below, where nothing is written yet.
fn words(
    scene: &mut Scene,
    text: &str,
    ink: Ink,
    (x, y): (f64, f64),
    frame: Frame,
    taken: &mut Vec<Frame>,
) {
    const HEIGHT: f64 = 13.0;
    let width = font::width(text, SIZE);
    for offset in [-13.0, 22.0, -27.0, 36.0] {
        let place = Frame {
            x,
            y: y + offset - HEIGHT + 3.0,
            width,
            height: HEIGHT,
        };
        let inside = place.right() <= frame.right()
            && place.y >= frame.y
            && place.bottom() <= frame.bottom();
        if inside && !taken.iter().any(|other| other.overlaps(&place)) {
            taken.push(place);
            scene.items.push(Item::Text(Text {
                x,
                y: y + offset,
                size: SIZE,
                anchor: Anchor::Start,
                ink,
                text: text.to_owned(),
                halo: true,
            }));
            return;
        }
    }
}

/// All about a call, for the pointer that rests on it.
pub fn told(call: &Call) -> String {
    let process = match call.pid {
        Some(pid) => format!(", process {pid}"),
        None => String::new(),
    };
    let calls = match call.calls {
        0 | 1 => String::new(),
        calls => format!("{calls} calls, "),
    };
    let about = if call.approximate {
        ", approximate"
    } else {
        ""
    };
    format!(
        "{}: {calls}{} ({} → {}), {:.4} s from {:.4} s on{about}{process}",
        call.function,
        change(call.growth()),
        amount(call.begin.bytes),
        amount(call.end.bytes),
        call.end.time_s - call.begin.time_s,
        call.begin.time_s,
    )
}
