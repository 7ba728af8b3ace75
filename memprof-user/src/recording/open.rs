//! A file → [`Recording`], whatever of the two it is.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use super::{Recording, read_dat};
use crate::sink::escape;
use crate::{Error, Result, capture};

/// Reads a `.dat` or a capture; the file's content says which it is. What had to be left out is
/// told on stderr.
pub fn open(path: &Path) -> Result<Recording> {
    let shown = path.to_string_lossy();
    let shown = escape::terminal(&shown);
    let failed = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "memprof-ebpf list".to_owned(),
            _ => format!("ls -l {}", escape::shell(path)),
        };
        Error::failed(format!("cannot read {shown}"), error, hint)
    };
    let mut input = BufReader::new(File::open(path).map_err(failed)?);
    if capture::is_capture(input.fill_buf().map_err(failed)?) {
        let capture = capture::read(input).map_err(|mut error| {
            error.error = format!("cannot read {shown}: {}", error.error);
            error
        })?;
        if let Some(damage) = &capture.damage {
            eprintln!("warning: {shown}: {damage}");
        }
        return Ok(Recording::from(&capture.profile));
    }
    let recording = read_dat(input).map_err(failed)?.ok_or_else(|| {
        Error::failed(
            format!("{shown} is not a recording"),
            "it is no capture, and has no line of a .dat (MEM, CHLD, FUNC, CMDLINE)",
            "memprof-ebpf list",
        )
    })?;
    if !recording.skipped.is_empty() {
        eprintln!("warning: {shown}: {}", recording.skipped);
    }
    Ok(recording)
}
