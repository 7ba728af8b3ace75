//! What can be typed after `plot`: mprof's flags, and ours.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::plot::Range;

#[derive(Args, Debug)]
pub struct PlotArgs {
    /// Title of the picture [default: the command]
    #[arg(short, long)]
    pub title: Option<String>,
    /// No marks of functions
    #[arg(short = 'n', long)]
    pub no_function_ts: bool,
    /// The picture, SVG or PNG by its name [default: BASE-plot.svg, opened in a viewer]
    #[arg(short, long, value_name = "OUT.svg|OUT.png")]
    pub output: Option<PathBuf>,
    /// Only these seconds, counted from the first sample
    #[arg(short, long, value_name = "BEGIN,END", value_parser = window, allow_hyphen_values = true)]
    pub window: Option<Range>,
    /// Marks as boxes, time by depth, coloured by growth; a band a process
    #[arg(short, long)]
    pub flame: bool,
    /// A straight line through each curve, and its slope
    #[arg(short, long)]
    pub slope: bool,
    /// What matplotlib's backend does here without -o: agg writes a PNG and svg an SVG, without a
    /// viewer; one with windows (tkagg, …) opens it
    #[arg(long, value_enum, ignore_case = true, conflicts_with = "terminal")]
    pub backend: Option<PictureBackend>,
    /// Draw on the terminal
    #[arg(long, conflicts_with = "output")]
    pub terminal: bool,
    /// Light on dark [default: light in a PNG; in an SVG as the viewer prefers]
    #[arg(long, conflicts_with = "terminal")]
    pub dark: bool,
    /// Replace a file that exists
    #[arg(long)]
    pub force: bool,
    /// Files (.dat, mprof's too, or .memprof) or numbers from list [default: the last]
    #[arg(value_name = "FILE|N", allow_negative_numbers = true)]
    pub recordings: Vec<PathBuf>,
}

/// matplotlib's backends by what they are to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PictureBackend {
    Agg,
    Svg,
    #[value(name = "viewer", aliases = ["gtk3agg", "gtk3cairo", "gtk4agg", "gtk4cairo", "macosx",
        "qt5agg", "qt5cairo", "qtagg", "qtcairo", "tkagg", "tkcairo", "webagg", "wx", "wxagg"])]
    Viewer,
}

/// Two times in seconds, the first before the second.
fn window(text: &str) -> Result<Range, String> {
    // Beyond this, neighbouring numbers of floating point are no longer a millisecond apart.
    const MOST_S: f64 = 1e12;
    let number = |text: &str| text.trim().parse().ok().filter(|n: &f64| n.abs() <= MOST_S);
    let ends = text.split_once(',');
    match ends.and_then(|(begin, end)| Some((number(begin)?, number(end)?))) {
        Some((begin, end)) if begin < end => Ok(Range { begin, end }),
        _ => Err("not two numbers of seconds, the smaller one first (0,20.5)".to_owned()),
    }
}
