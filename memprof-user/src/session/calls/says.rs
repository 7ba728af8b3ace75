//! What people are told of the functions that they asked for.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;

use super::Chosen;
use crate::error::{Error, Exit};
use crate::python::patterns::nearest;
use crate::python::{Functions, Pattern};
use crate::sink::escape::{shell, terminal};

/// Names that a sentence lists.
const LISTED: usize = 8;

/// Nearest names that are suggested.
const NEAREST: usize = 3;

/// Names kept of processes that have gone, for suggestions.
const REMEMBERED: usize = 100_000;

/// Sentences, each said once.
#[derive(Default)]
pub struct Says {
    said: HashSet<String>,
    news: Vec<String>,
    warnings: Vec<String>,
    /// Functions that are marked by stacks, by the reason.
    sampled: BTreeMap<String, BTreeSet<String>>,
    /// Names that meant something somewhere.
    matched: HashSet<usize>,
    names: HashSet<String>,
}

impl Says {
    /// A function is watched.
    pub fn watched(&mut self, chosen: &Chosen) {
        self.matched.insert(chosen.pattern);
        let name = terminal(&chosen.name);
        self.tell(format!("each call of {name} is marked"));
        if chosen.function.is_generator {
            self.warn(format!(
                "{name} makes generators or coroutines: each is marked from its creation to its \
                 end, not while it runs (approximate)"
            ));
        }
    }

    /// The function with this name is better called otherwise.
    pub fn renamed(&mut self, name: &str, chosen: &Chosen) {
        for names in self.sampled.values_mut() {
            if names.remove(&*terminal(name)) {
                names.insert(terminal(&chosen.name).into_owned());
            }
        }
    }

    /// A function is not marked any more: the name fits another one better.
    pub fn outdone(&mut self, chosen: &Chosen) {
        let name = terminal(&chosen.name);
        for names in self.sampled.values_mut() {
            names.remove(&*name);
        }
        if chosen.armed_ns.is_some() {
            self.tell(format!(
                "{name} is not marked any more: a function that the name fits better was found"
            ));
        }
    }

    /// A function is marked by stacks; `error` is why.
    pub fn sampled(&mut self, chosen: &Chosen, error: Option<&io::Error>) {
        self.matched.insert(chosen.pattern);
        let name = terminal(&chosen.name);
        let why = match error {
            None => "the processor watches four functions of a process at a time".to_owned(),
            Some(e) if e.raw_os_error() == Some(libc::ENOSPC) => {
                "another program, a debugger perhaps, has taken its debug registers".to_owned()
            }
            Some(e) => format!("it cannot be watched: {e}"),
        };
        self.sampled
            .entry(why)
            .or_default()
            .insert(name.into_owned());
    }

    /// There is no room for another process.
    pub fn full(&mut self, pid: u32) {
        self.warn(format!(
            "the functions of pid {pid} are not marked: too many processes"
        ));
    }

    /// A process has gone: what it had is still worth a suggestion, if one of the `asked` names has
    /// meant nothing so far.
    pub fn remember(&mut self, functions: &Functions, asked: usize) {
        if self.matched.len() == asked {
            return;
        }
        let room = REMEMBERED.saturating_sub(self.names.len());
        let names = functions.namings().map(|naming| naming.display());
        self.names.extend(names.take(room));
    }

    /// What is to be told now.
    pub fn news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.news)
    }

    /// What is to be told at the end, of names that meant nothing too.
    pub fn into_warnings(mut self, patterns: &[Pattern]) -> Vec<String> {
        for (why, names) in self.sampled.iter().filter(|(_, names)| !names.is_empty()) {
            let listed: Vec<&str> = names.iter().take(LISTED).map(String::as_str).collect();
            let more = match names.len().saturating_sub(LISTED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            self.warnings.push(format!(
                "marked only where memory grew, from the stacks (approximate): {}{more}: {why}",
                listed.join(", ")
            ));
        }
        for (index, pattern) in patterns.iter().enumerate() {
            if !self.matched.contains(&index) {
                let names = self.names.iter().map(String::as_str);
                self.warnings.push(no_match(pattern, names));
            }
        }
        self.warnings
    }

    fn tell(&mut self, sentence: String) {
        if self.said.insert(sentence.clone()) {
            self.news.push(sentence);
        }
    }

    fn warn(&mut self, sentence: String) {
        if self.said.insert(sentence.clone()) {
            self.warnings.push(sentence);
        }
    }
}

fn no_match<'a>(pattern: &Pattern, names: impl Iterator<Item = &'a str>) -> String {
    let text = terminal(pattern.text());
    let near = nearest(pattern.text(), names, NEAREST);
    match near.first() {
        None => format!("--func {text}: no traced process had such a function"),
        Some(first) => format!(
            "--func {text}: no traced process had such a function; the nearest: {}; try: --func {}",
            terminal(&near.join(", ")),
            terminal(&shell(first.as_ref()))
        ),
    }
}

/// The refusal of a name that means too much.
pub fn too_many(pattern: &Pattern, pid: u32, names: &[&str]) -> Error {
    let text = pattern.text();
    let listed = names.get(..LISTED.min(names.len())).unwrap_or_default();
    let first = listed.first().copied().unwrap_or(text);
    Error::failed(
        format!("--func {text} means {} functions of pid {pid}", names.len()),
        format!("among them {}", listed.join(", ")),
        format!("name one of them: --func {}", shell(first.as_ref())),
    )
    .with_exit(Exit::Usage)
}
