//! Lines of a `.dat` → [`Recording`].
//!
//! mprof's own reader dies of a blank line, a tab, or a blank in a function's name, and takes a
//! number cut by a full disk for a number. This one uses every line that can be understood, and
//! counts the others. The file is input from outside: its lines, names and numbers are bounded.

use std::collections::HashMap;
use std::io::{self, BufRead, Read as _};
use std::str::SplitAsciiWhitespace;

use super::{Call, Point, Recording, Series, Skipped, settle};
use crate::model::{Timed, Timeline};

/// Bytes of a line that are looked at: a command line may be long, other lines are short.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// Characters of a name that are kept.
const MAX_NAME_CHARS: usize = 512;

/// Values kept, of all processes together (24 MB): three hours of ten processes at ten a second
/// before the resolution is halved.
const MAX_POINTS: usize = 1 << 20;

/// Processes kept beside the main one.
const MAX_CHILDREN: usize = 1 << 14;

/// Calls kept.
const MAX_CALLS: usize = 1 << 16;

/// Loss counters kept.
const MAX_COUNTERS: usize = 64;

/// Bytes in mprof's unit.
const MIB: f64 = (1 << 20) as f64;

/// No machine addresses more.
const MOST_BYTES: f64 = u64::MAX as f64;

/// The main process's number among the series.
const MAIN: u32 = 0;

/// Whether a file that begins so is a `.dat`: its first line has one of its keywords, as ours and
/// mprof's have.
pub fn is_dat(beginning: &[u8]) -> bool {
    ["CMDLINE ", "MEM ", "CHLD ", "FUNC "]
        .iter()
        .any(|keyword| beginning.starts_with(keyword.as_bytes()))
}

/// Reads a whole `.dat`. None when no line of it is one.
pub fn read(mut input: impl BufRead) -> io::Result<Option<Recording>> {
    let mut parser = Parser::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        input
            .by_ref()
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(parser.finish());
        }
        let mut ended = line.ends_with(b"\n");
        let whole = ended || line.len() < MAX_LINE_BYTES as usize;
        if !whole {
            ended = input.skip_until(b'\n')? > 0;
        }
        parser.line(&String::from_utf8_lossy(&line), whole, ended);
    }
}

/// A point of a series by its number.
#[derive(Clone, Copy)]
struct Numbered {
    series: u32,
    point: Point,
}

impl Timed for Numbered {
    fn epoch_s(&self) -> f64 {
        self.point.epoch_s
    }

    fn process(&self) -> u32 {
        self.series
    }

    fn bytes(&self) -> u64 {
        self.point.bytes as u64
    }
}

struct Parser {
    recording: Recording,
    points: Timeline<Numbered>,
    /// Numbers of the children by their labels, from 1.
    children: HashMap<String, u32>,
    main_role: Option<(u32, String)>,
    roles: HashMap<u32, String>,
    lines: u64,
    understood: u64,
}

impl Default for Parser {
    fn default() -> Self {
        Parser {
            recording: Recording::default(),
            points: Timeline::with_capacity_limit(MAX_POINTS),
            children: HashMap::new(),
            main_role: None,
            roles: HashMap::new(),
            lines: 0,
            understood: 0,
        }
    }
}

/// What became of a line.
enum Line {
    Understood,
    NotUnderstood,
    /// Nothing to understand: blank, or a comment of somebody else.
    Empty,
    BeyondLimits,
}

impl Parser {
    /// `whole`: the line was not too long; `ended`: it ends in a line feed.
    fn line(&mut self, line: &str, whole: bool, ended: bool) {
        self.lines += 1;
        let mut words = line.split_ascii_whitespace();
        let Some(keyword) = words.next() else {
            return;
        };
        let skipped = &mut self.recording.skipped;
        // A command line says something even where it is cut.
        let is_command = keyword == "CMDLINE";
        if !ended && !is_command && !is_whole_sample(keyword, line) {
            skipped.cut = true;
            return;
        }
        if !whole && !is_command {
            skipped.note_line(self.lines);
            return;
        }
        let became = match keyword {
            "MEM" => self.main(words),
            "CHLD" => self.child(words),
            "FUNC" => self.call(words),
            "CMDLINE" => {
                let command = line.trim_start().strip_prefix("CMDLINE");
                self.recording.command = command.map(|command| command.trim().to_owned());
                Line::Understood
            }
            "#" => self.comment(words),
            // mprof's reader passes over records that it does not know, and so may later writers'.
            _ => Line::NotUnderstood,
        };
        let skipped = &mut self.recording.skipped;
        match became {
            Line::Understood => self.understood += 1,
            Line::NotUnderstood => skipped.note_line(self.lines),
            Line::BeyondLimits => skipped.beyond_limits += 1,
            Line::Empty => {}
        }
    }

    /// `MIB EPOCH`, and whatever follows.
    fn main(&mut self, words: SplitAsciiWhitespace<'_>) -> Line {
        let Some(point) = point(words) else {
            return Line::NotUnderstood;
        };
        self.points.push(Numbered {
            series: MAIN,
            point,
        });
        Line::Understood
    }

    /// `LABEL MIB EPOCH`, and whatever follows.
    fn child(&mut self, mut words: SplitAsciiWhitespace<'_>) -> Line {
        let label = words.next().map(name);
        let (Some(label), Some(point)) = (label, point(words)) else {
            return Line::NotUnderstood;
        };
        let next = self.children.len() as u32 + 1;
        let series = match self.children.get(&label) {
            Some(&series) => series,
            None if self.children.len() >= MAX_CHILDREN => return Line::BeyondLimits,
            None => {
                self.recording.children.push(Series {
                    pid: leading_pid(&label),
                    label: label.clone(),
                    ..Series::default()
                });
                self.children.insert(label, next);
                next
            }
        };
        self.points.push(Numbered { series, point });
        Line::Understood
    }

    /// `NAME MIB EPOCH MIB EPOCH [LEVEL [KEY=VALUE …]]`. A name may have blanks in it: it goes as
    /// far as what follows has this form.
    fn call(&mut self, words: SplitAsciiWhitespace<'_>) -> Line {
        let words: Vec<&str> = words.collect();
        let Some(mut call) = (1..words.len()).find_map(|at| call(words.get(at..)?)) else {
            return Line::NotUnderstood;
        };
        if self.recording.calls.len() >= MAX_CALLS {
            return Line::BeyondLimits;
        }
        let function = words[..words.len() - call.words].join(" ");
        let (pid, function) = split_pid(&function);
        call.call.pid = pid;
        call.call.function = name(function);
        self.recording.calls.push(call.call);
        Line::Understood
    }

    /// Records of our own, which mprof takes for comments.
    fn comment(&mut self, mut words: SplitAsciiWhitespace<'_>) -> Line {
        match words.next() {
            // A call beyond those that mprof draws in time.
            Some("FUNC") => self.call(words),
            Some("SERIES") => {
                for (key, value) in words.filter_map(|word| word.split_once('=')) {
                    match key {
                        "metric" => self.recording.metric = Some(name(value)),
                        "include_children" => self.recording.includes_children = value == "yes",
                        _ => {}
                    }
                }
                Line::Understood
            }
            Some("ROLE") => self.role(words),
            Some("LOSS") => {
                let counters = words.filter_map(|word| word.split_once('='));
                let counters =
                    counters.filter_map(|(key, value)| Some((name(key), value.parse().ok()?)));
                let lost = counters.filter(|&(_, count)| count > 0);
                self.recording.loss = lost.take(MAX_COUNTERS).collect();
                Line::Understood
            }
            _ => Line::Empty,
        }
    }

    /// `MEM|CHLD PID ROLE`
    fn role(&mut self, mut words: SplitAsciiWhitespace<'_>) -> Line {
        let series = words.next();
        let Some(pid) = words.next().and_then(|pid| pid.parse().ok()) else {
            return Line::NotUnderstood;
        };
        let role = name(&words.collect::<Vec<_>>().join(" "));
        match series {
            Some("MEM") => self.main_role = Some((pid, role)),
            Some("CHLD") if self.roles.len() < MAX_CHILDREN => {
                self.roles.insert(pid, role);
            }
            Some("CHLD") => return Line::BeyondLimits,
            _ => return Line::NotUnderstood,
        }
        Line::Understood
    }

    fn finish(self) -> Option<Recording> {
        if self.understood == 0 {
            return None;
        }
        let mut recording = self.recording;
        // Our writer's way to keep matplotlib from reading a formula.
        if let (Some(_), Some(command)) = (&recording.metric, &mut recording.command) {
            *command = command.replace("\\$", "$");
        }
        if let Some((pid, role)) = self.main_role {
            recording.main.label = pid.to_string();
            recording.main.pid = Some(pid);
            recording.main.role = Some(role);
        }
        for child in &mut recording.children {
            child.role = child.pid.and_then(|pid| self.roles.get(&pid).cloned());
        }
        for numbered in self.points.finish() {
            let child = (numbered.series as usize).checked_sub(1);
            let series = match child {
                None => Some(&mut recording.main),
                Some(child) => recording.children.get_mut(child),
            };
            if let Some(series) = series {
                series.points.push(numbered.point);
            }
        }
        settle(&mut recording.calls);
        Some(recording)
    }
}

impl Skipped {
    fn note_line(&mut self, line: u64) {
        if self.lines == 0 {
            self.first_line = line;
        }
        self.lines += 1;
    }
}

/// The numbers of a MEM or CHLD line.
fn point(mut words: SplitAsciiWhitespace<'_>) -> Option<Point> {
    let bytes = mib(words.next()?)?;
    let epoch_s = epoch(words.next()?)?;
    Some(Point { epoch_s, bytes })
}

/// A call without its name, and how many words it took.
struct Numbers {
    call: Call,
    words: usize,
}

/// The numbers of a FUNC line, when these words are exactly that.
fn call(words: &[&str]) -> Option<Numbers> {
    let (numbers, rest) = words.split_at_checked(4)?;
    let begin = Point {
        bytes: mib(numbers[0])?,
        epoch_s: epoch(numbers[1])?,
    };
    let end = Point {
        bytes: mib(numbers[2])?,
        // A clock may have been set back meanwhile.
        epoch_s: epoch(numbers[3])?.max(begin.epoch_s),
    };
    let mut call = Call {
        begin,
        end,
        calls: 1,
        ..Call::default()
    };
    // Before 0.31 mprof wrote no level.
    if let Some((level, rest)) = rest.split_first() {
        call.level = level.parse().ok()?;
        let mut own = [None, None];
        for (key, value) in rest.iter().filter_map(|word| word.split_once('=')) {
            match key {
                "rss0" => own[0] = bytes(value),
                "rss1" => own[1] = bytes(value),
                "calls" => call.calls = value.parse().unwrap_or(1),
                "approximate" => call.approximate = value == "yes",
                _ => {}
            }
        }
        if let [Some(begin), Some(end)] = own {
            call.own_bytes = Some([begin, end]);
        }
    }
    Some(Numbers {
        call,
        words: words.len(),
    })
}

/// `PID/NAME` → both; a name without a pid as it is.
pub(super) fn split_pid(name: &str) -> (Option<u32>, &str) {
    let parts = name.split_once('/');
    let pid = parts.and_then(|(pid, rest)| Some((pid.parse().ok()?, rest)));
    match pid {
        Some((pid, rest)) => (Some(pid), rest),
        None => (None, name),
    }
}

/// `123(gunicorn:w1)` → 123
fn leading_pid(label: &str) -> Option<u32> {
    let end = label.find(|c: char| !c.is_ascii_digit());
    label[..end.unwrap_or(label.len())].parse().ok()
}

/// A line without an end has its last number whole when that has all the decimals that writers
/// give it.
fn is_whole_sample(keyword: &str, line: &str) -> bool {
    const EPOCH_DECIMALS: usize = 4;
    let words = match keyword {
        "MEM" => 3,
        "CHLD" => 4,
        _ => return false,
    };
    let mut found = line.split_ascii_whitespace();
    let decimals = found
        .nth(words - 1)
        .and_then(|epoch| epoch.split_once('.'))
        .map(|(_, decimals)| decimals.len());
    found.next().is_none() && decimals == Some(EPOCH_DECIMALS)
}

/// A Unix time in seconds. Beyond the bounds (30,000 years) it is none, and differences of such
/// numbers would not be numbers.
fn epoch(word: &str) -> Option<f64> {
    within(word.parse().ok()?, 1e12)
}

/// Bytes, from MiB.
fn mib(word: &str) -> Option<f64> {
    bytes(word).and_then(|number| within(number * MIB, MOST_BYTES))
}

fn bytes(word: &str) -> Option<f64> {
    within(word.parse().ok()?, MOST_BYTES)
}

fn within(number: f64, most: f64) -> Option<f64> {
    // Not a number is not within.
    (0.0..=most).contains(&number).then_some(number)
}

fn name(word: &str) -> String {
    word.chars().take(MAX_NAME_CHARS).collect()
}

#[cfg(test)]
#[path = "dat_tests.rs"]
mod tests;
