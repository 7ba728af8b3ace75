//! memory_profiler's table for any function of a capture: each of its lines with what it made
//! resident, and the source text.
//!
//! A line's bytes are those of every stack that it is on, once a stack. So a table holds what the
//! line called, a recursion counts once, and code nested in the function (comprehensions, lambdas,
//! inner functions) stands on its own lines, as memory_profiler has it.

mod json;
mod select;
mod text;

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::path::PathBuf;

pub use json::json;
pub use text::text;

use super::tally::{self, Amounts, FunctionKey, Place, by_own};
use crate::model::{Function, Profile};
use crate::sink::View;
use crate::source::{Missing, Source};

/// The functions of a profile, ready to be taken apart into lines.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    profile: &'a Profile,
    /// Of each stack.
    stacks: Vec<Amounts>,
    /// With growth, the largest on top of the stacks first.
    functions: Vec<Place<FunctionKey<'a>>>,
    /// The first and the last line known of each function.
    known: HashMap<FunctionKey<'a>, (u32, u32)>,
}

/// What a line did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// It was anywhere on the stack, counted once under recursion.
    pub total: Amounts,
    /// It was on top.
    pub own: Amounts,
}

/// The table of one function.
#[derive(Clone, Debug, PartialEq)]
pub struct LineTable<'a> {
    /// Which, and what it did as a whole.
    pub function: Place<FunctionKey<'a>>,
    /// Where the text comes from.
    pub source: Option<PathBuf>,
    /// Every line of the function when there is text, then what has growth and no text.
    pub rows: Vec<Row>,
    /// What the reader should know of the text. Not escaped.
    pub notes: Vec<String>,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its number, None for all lines that are not known.
    pub line: Option<u32>,
    /// What it did; None for a line that did nothing.
    pub figures: Option<Figures>,
    /// As it stands in the source. Not escaped.
    pub text: Option<String>,
}

impl<'a> Lines<'a> {
    /// Adds the functions of `profile` up.
    pub fn new(profile: &'a Profile) -> Lines<'a> {
        let stacks = tally::by_stack(profile);
        let functions = tally::places(profile, &stacks, View::Net, tally::function_key);
        let mut lines = Lines {
            profile,
            stacks,
            functions: by_own(&functions, View::Net),
            known: HashMap::new(),
        };
        for (number, frame) in (0..).zip(&profile.frames) {
            if let Some(key) = tally::function_key(profile, number)
                && frame.line > 0
            {
                let (first, last) = lines.known.entry(key).or_insert((frame.line, frame.line));
                *first = frame.line.min(*first);
                *last = frame.line.max(*last);
            }
        }
        lines
    }

    /// The profile that they were made from.
    pub fn profile(&self) -> &'a Profile {
        self.profile
    }

    /// The functions on top of the stacks that still hold most, at most so many. A lambda or a
    /// comprehension gives way to the function that it stands in.
    pub fn largest(&self, most: usize) -> Vec<Place<FunctionKey<'a>>> {
        let mut largest = Vec::new();
        for place in &self.functions {
            let place = self.around(&place.key).unwrap_or(*place);
            if largest.len() < most && !largest.contains(&place) {
                largest.push(place);
            }
        }
        largest
    }

    /// The function that a lambda or a comprehension stands in, by its qualified name (3.11 and
    /// later).
    fn around(&self, key: &FunctionKey<'_>) -> Option<Place<FunctionKey<'a>>> {
        let (outer, inner) = key.function.rsplit_once(".<locals>.")?;
        let around = self.functions.iter().filter(|place| {
            let other = place.key;
            other.file == key.file && other.function == outer && other.line <= key.line
        });
        let nearest = around.max_by_key(|place| place.key.line);
        nearest.filter(|_| inner.starts_with('<')).copied()
    }

    /// True when `source` has the function where the profile says.
    pub fn fits(&self, function: &FunctionKey<'_>, source: &Source) -> bool {
        let (_, last) = self.span(function);
        let ends = source.end_of(function.function, function.line);
        ends.is_some() && source.line(last).is_some()
    }

    /// The table of one function.
    pub fn table(
        &self,
        function: Place<FunctionKey<'a>>,
        source: Result<Source, Missing>,
    ) -> LineTable<'a> {
        let key = function.key;
        let (first, last_known) = self.span(&key);
        let mut notes = Vec::new();
        let source = match source {
            Ok(source) => {
                self.note(&key, &source, &mut notes);
                Some(source)
            }
            Err(missing) => {
                notes.push(missing.to_string());
                None
            }
        };
        let end = source
            .as_ref()
            .and_then(|source| source.end_of(key.function, key.line));
        let last = end.map_or(last_known, |end| end.max(last_known));
        let mut figures = self.figures(&key, first..=last);
        let unknown = figures.remove(&0);
        let mut rows = Vec::new();
        if let Some(source) = &source {
            // Numbers of a damaged capture are not to be trusted: no more rows than lines.
            let in_file = (first..=last).take_while(|&line| source.line(line).is_some());
            rows.extend(in_file.map(|line| Row {
                line: Some(line),
                figures: figures.remove(&line),
                text: source.line(line).map(str::to_owned),
            }));
        }
        rows.extend(figures.into_iter().map(|(line, figures)| Row {
            line: Some(line),
            figures: Some(figures),
            text: None,
        }));
        if unknown.is_some() {
            rows.push(Row {
                line: None,
                figures: unknown,
                text: None,
            });
            notes.push("the row without a number: the line table could not be read".to_owned());
        }
        LineTable {
            function,
            source: source.map(|source| source.path),
            rows,
            notes,
        }
    }

    /// What each line of a function, and of the code nested in its lines, did; line 0 is what is
    /// not known.
    fn figures(&self, key: &FunctionKey<'_>, lines: RangeInclusive<u32>) -> BTreeMap<u32, Figures> {
        let functions = self.profile.functions.iter();
        let inside: Vec<bool> = functions
            .map(|function| is_inside(function, key, &lines))
            .collect();
        let line = |profile: &Profile, frame: u32| {
            let frame = profile.frames.get(frame as usize)?;
            let inside = inside.get(frame.function as usize).copied();
            inside.unwrap_or_default().then_some(frame.line)
        };
        let places = tally::places(self.profile, &self.stacks, View::Net, line);
        let figures = places.into_iter().map(|place| {
            let (total, own) = (place.total, place.own);
            (place.key, Figures { total, own })
        });
        figures.collect()
    }

    /// The first line and the last that is known. What lies between is a part of the function.
    fn span(&self, key: &FunctionKey<'_>) -> (u32, u32) {
        let first = key.line.max(1);
        let known = self.known.get(key).copied();
        known.map_or((first, first), |(low, high)| {
            (low.min(first), high.max(first))
        })
    }

    fn note(&self, key: &FunctionKey<'_>, source: &Source, notes: &mut Vec<String>) {
        let path = source.path.display();
        if source.path.as_os_str() != key.file {
            notes.push(format!("the source is taken from {path}"));
        }
        if source.modified_epoch_s > self.profile.started_epoch_s {
            notes.push(format!(
                "{path} was changed after the trace had begun: lines may have moved"
            ));
        }
    }
}

/// True for the function itself, and for code that stands in its lines.
fn is_inside(function: &Function, key: &FunctionKey<'_>, lines: &RangeInclusive<u32>) -> bool {
    if function.file != key.file {
        return false;
    }
    let itself = function.name == key.function && function.first_line == key.line;
    if itself || key.function == "<module>" {
        return true;
    }
    // On the very line of a `def` stand the code of a short function, and that of its decorators.
    let rest = function.name.strip_prefix(key.function);
    let nested = rest.is_some_and(|rest| rest.starts_with(".<locals>."));
    let unnamed = function.name.starts_with('<') && function.name != "<module>";
    lines.contains(&function.first_line) && (function.first_line > key.line || nested || unnamed)
}
