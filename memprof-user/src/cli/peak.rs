//! `peak`: the highest memory of recordings, as mprof prints it.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use super::args::PeakArgs;
use super::print;
use crate::error::{Error, Result};
use crate::recording::{self, Folder, Peaks, Recording};
use crate::sink::escape;

/// Names of functions that an error tells at most.
const MAX_NAMES: usize = 10;

/// `peak`
pub fn main(args: PeakArgs) -> Result<ExitCode> {
    let mut missing = None;
    for path in Folder::here()?.select(&args.recordings, "peak")? {
        let recording = recording::open(&path)?;
        let peaks = match &args.func {
            None => recording.peaks(),
            Some(name) => during(&recording, name, &path),
        };
        print(&text(&path, &peaks))?;
        if peaks == Peaks::default() && missing.is_none() {
            missing = Some(no_value(&recording, args.func.as_deref(), &path));
        }
    }
    match missing {
        None => Ok(ExitCode::SUCCESS),
        Some(error) => Err(error),
    }
}

fn during(recording: &Recording, name: &str, path: &Path) -> Peaks {
    let (peaks, functions) = recording.peaks_in(name);
    if functions.len() > 1 {
        let functions: Vec<_> = functions
            .iter()
            .map(|name| escape::terminal(name))
            .collect();
        eprintln!(
            "note: {}: {} means {} functions here: {}",
            path.display(),
            escape::terminal(name),
            functions.len(),
            functions.join(", ")
        );
    }
    peaks
}

/// mprof's lines: a tab before the file's value, three before a child's.
fn text(path: &Path, peaks: &Peaks) -> String {
    let mut text = String::new();
    let path = path.to_string_lossy();
    let path = escape::terminal(&path);
    // Writing to a String does not fail.
    let _ = match peaks.main {
        Some(bytes) => writeln!(text, "{path}\t{:.3} MiB", mib(bytes)),
        None => writeln!(text, "{path}\tNaN MiB"),
    };
    for (label, bytes) in &peaks.children {
        let label = escape::terminal(label);
        let _ = writeln!(text, "  Child {label}\t\t\t{:.3} MiB", mib(*bytes));
    }
    text
}

fn no_value(recording: &Recording, func: Option<&str>, path: &Path) -> Error {
    let shown = path.display();
    let Some(name) = func else {
        return Error::failed(
            format!("{shown} has no sample"),
            "the run ended before the first one, or the file is damaged",
            format!("memprof-ebpf rm {}", escape::shell(path)),
        );
    };
    let mut names: Vec<&str> = recording.calls.iter().map(|c| &*c.function).collect();
    names.sort_unstable();
    names.dedup();
    let cause = match names.len() {
        0 => "no function is marked in it".to_owned(),
        count => {
            let more = if count > MAX_NAMES { ", …" } else { "" };
            names.truncate(MAX_NAMES);
            format!("marked are {}{more}", escape::terminal(&names.join(", ")))
        }
    };
    Error::failed(
        format!("{shown} has no call of {}", escape::terminal(name)),
        cause,
        format!("memprof-ebpf peak {}", escape::shell(path)),
    )
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}
