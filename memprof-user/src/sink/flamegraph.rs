//! The flame graph, an SVG that needs no network. The only module that names inferno.

use std::io::{self, Write};

use inferno::flamegraph::color::{BasicPalette, Palette};
use inferno::flamegraph::{self, Direction, Options, TextTruncateDirection};

use super::folded::{FoldedOptions, folded};
use super::{View, clock, escape, loss_line};
use crate::model::Profile;

/// How the picture is drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlamegraphOptions {
    /// Leaves first: who made memory resident, then who called.
    pub reverse: bool,
    /// Instead of the title made from the view and the command.
    pub title: Option<String>,
}

/// A title is one line over a picture 1200 wide in letters of 17: longer commands are cut.
const TITLE_COMMAND_CHARS: usize = 60;

/// Stands in a comment near the beginning: `rm` and `clean` know our pictures by it.
pub const MADE_BY: &str = "Made by memprof-ebpf";

/// Writes the flame graph. A profile in which nothing grew gives a picture that says so.
pub fn write(
    profile: &Profile,
    view: View,
    names: FoldedOptions,
    options: &FlamegraphOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let title = escape::line(&title(profile, view, options));
    let subtitle = subtitle(profile);
    let stacks = folded(profile, view, names);
    if stacks.is_empty() {
        return write_empty(&title, &subtitle, view, out);
    }
    let lines = lines(stacks, options.reverse);
    let mut inferno = Options::default();
    inferno.title = title;
    inferno.subtitle = Some(subtitle);
    inferno.notes = format!("{MADE_BY}.");
    inferno.count_name = "bytes".to_owned();
    inferno.colors = Palette::Basic(BasicPalette::Mem);
    // Roots on top: stacks of imports and event loops are deep, and a browser shows the top
    // first.
    inferno.direction = Direction::Inverted;
    // A function has one colour in every picture, and a picture the same bytes each time.
    inferno.deterministic = true;
    // The name comes first and the path after it: cut the path.
    inferno.text_truncate_direction = TextTruncateDirection::Right;
    flamegraph::from_lines(&mut inferno, lines.iter().map(String::as_str), out)
}

fn lines(stacks: Vec<(String, u64)>, reverse: bool) -> Vec<String> {
    let line = |(stack, bytes): (String, u64)| {
        if reverse {
            let frames: Vec<&str> = stack.split(';').rev().collect();
            format!("{} {bytes}", end_unlike_a_count(frames.join(";")))
        } else {
            format!("{stack} {bytes}")
        }
    };
    stacks.into_iter().map(line).collect()
}

/// A line that ends in two numbers is a difference to inferno, and a role may end in one
/// (`serve.py 8000`) where it is the last frame.
fn end_unlike_a_count(mut stack: String) -> String {
    if let Some(blank) = stack.rfind(' ') {
        let last = &stack[blank + 1..];
        if last
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
        {
            stack.replace_range(blank..=blank, "_");
        }
    }
    stack
}

fn title(profile: &Profile, view: View, options: &FlamegraphOptions) -> String {
    if let Some(title) = &options.title {
        return title.clone();
    }
    let mut command: String = profile.command.chars().take(TITLE_COMMAND_CHARS).collect();
    if command.len() < profile.command.len() {
        command.push('…');
    }
    format!("memprof-ebpf: {} — {command}", view.title())
}

fn subtitle(profile: &Profile) -> String {
    format!(
        "{}, {:.1} s · {}",
        clock::utc(profile.started_epoch_s),
        profile.duration_s,
        loss_line(&profile.loss)
    )
}

/// inferno takes an empty input for a mistake; here it is an answer.
fn write_empty(title: &str, subtitle: &str, view: View, out: &mut dyn Write) -> io::Result<()> {
    let text = match view {
        View::Net => "Nothing that became resident during the trace is still resident.",
        View::Gross | View::Peak => "Nothing became resident during the trace.",
        View::Freed => "Nothing was given back during the trace.",
        View::Cow => "No page stopped being shared during the trace.",
    };
    writeln!(
        out,
        r##"<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<svg version="1.1" width="1200" height="120" viewBox="0 0 1200 120" xmlns="http://www.w3.org/2000/svg">
<!--{MADE_BY}.-->
<rect width="100%" height="100%" fill="#eef2ee"/>
<g font-family="monospace" font-size="12" text-anchor="middle">
<text x="600" y="28" font-size="17">{}</text>
<text x="600" y="52">{}</text>
<text x="600" y="88">{text}</text>
</g>
</svg>"##,
        escape::xml(title),
        escape::xml(subtitle),
    )
}
