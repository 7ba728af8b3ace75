//! `plot [FILES]`: pictures of recordings, as mprof's users know them, without Python.

mod target;

use std::path::Path;
use std::process::ExitCode;

use rustix::termios;

use super::args::PlotArgs;
use super::print;
use crate::error::{Error, Exit, Result};
use crate::output;
use crate::plot::{self, Data, PlotOptions, Range};
use crate::recording::{self, Folder};
use target::Target;

/// Cells of a terminal that does not tell its size (POSIX's own default).
const COLUMNS: usize = 80;

/// `plot`
pub fn main(args: PlotArgs) -> Result<ExitCode> {
    let files = Folder::here()?.select(&args.recordings, "plot")?;
    let target = Target::of(&args, &files)?;
    if let Target::File { path, force, .. } = &target {
        output::check(path, *force)?;
    }
    let mut recordings = files
        .iter()
        .map(|file| read(file))
        .collect::<Result<Vec<Data>>>()?;
    let marked = recordings.iter().any(|data| !data.calls.is_empty());
    if let Some(window) = args.window {
        cut(&mut recordings, window)?;
    }
    if args.flame {
        match recordings.as_slice() {
            [_] if args.no_function_ts => {
                eprintln!("warning: --no-function-ts leaves a flame nothing: these are the curves");
            }
            [only] => needs_marks(only, args.window.filter(|_| marked))?,
            _ => eprintln!("warning: only a single recording has a flame: these are the curves"),
        }
    }
    let options = PlotOptions {
        title: args.title,
        no_marks: args.no_function_ts,
        window: args.window,
        flame: args.flame,
        slope: args.slope,
    };
    match target {
        Target::Terminal => print(&plot::text(&recordings, &options, &terminal()))?,
        Target::File { .. } => target.write(&plot::picture(&recordings, &options), args.dark)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<Data> {
    let recording = recording::open(path)?;
    let name = path.file_name().unwrap_or(path.as_os_str());
    Data::new(&recording, &name.to_string_lossy()).ok_or_else(|| {
        Error::failed(
            format!("nothing to draw in {}", path.display()),
            "it has no sample of memory: the run ended before the first, or the file is damaged",
            "memprof-ebpf list",
        )
    })
}

/// Cuts all to the window, which must have something of one of them.
fn cut(recordings: &mut [Data], window: Range) -> Result<()> {
    let ranges: Vec<Range> = recordings.iter().map(Data::time_s).collect();
    let begin = ranges.iter().map(|r| r.begin).fold(f64::INFINITY, f64::min);
    let end = ranges.iter().map(|r| r.end).fold(begin, f64::max);
    if window.begin > end || window.end < begin {
        // Whole seconds around all of it, and never none.
        let (from, to) = (begin.floor(), end.ceil().max(begin.floor() + 1.0));
        return Err(Error::failed(
            format!("nothing to draw from {} to {} s", window.begin, window.end),
            format!("the recording has {begin:.3} to {end:.3} s, counted from its first sample"),
            format!("--window {from:.0},{to:.0}"),
        )
        .with_exit(Exit::Usage));
    }
    for data in recordings {
        data.cut(window);
    }
    Ok(())
}

/// A flame is made of marks; `window` is what may have cut them all away.
fn needs_marks(data: &Data, window: Option<Range>) -> Result<()> {
    if !data.calls.is_empty() {
        return Ok(());
    }
    let error = format!("no flame for {}", data.file);
    Err(match window {
        Some(_) => Error::failed(
            error,
            "no call of a marked function lies in this window",
            "leave out --window",
        ),
        None => Error::failed(
            error,
            "it has no marks: nobody asked when which function began and ended",
            "memprof-ebpf run --func MODULE.NAME -- CMD, or decorate functions with @profile",
        ),
    })
}

/// What stdout can show.
fn terminal() -> plot::Terminal {
    let stdout = std::io::stdout();
    let is_terminal = termios::isatty(&stdout);
    let size = termios::tcgetwinsize(&stdout).ok();
    let columns = size.map(|size| usize::from(size.ws_col));
    // For a pipe, whoever reads it may say how wide it is, as for ls(1) and column(1).
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    let columns = columns.filter(|&columns| columns > 0).or_else(told);
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    plot::Terminal {
        columns: columns.unwrap_or(COLUMNS),
        rows: size.map(|size| usize::from(size.ws_row)),
        colour: is_terminal && !no_colour,
    }
}
