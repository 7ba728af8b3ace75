//! `lines [FILE]`: memory_profiler's table for any function of a capture.

use std::path::Path;
use std::process::ExitCode;

use super::args::LinesArgs;
use super::{print, report};
use crate::error::{Error, Result};
use crate::recording::Folder;
use crate::report::lines::{self, LineTable, Lines};
use crate::report::only_pid;
use crate::{output, source};

/// `lines`
pub fn main(args: LinesArgs) -> Result<ExitCode> {
    if let Some(path) = &args.output {
        output::check(path, args.force)?;
    }
    if let Some(root) = &args.source_root {
        folder(root)?;
    }
    let file = match args.file {
        Some(file) => file,
        None => Folder::here()?.last_capture()?,
    };
    let mut profile = report::open(&file)?;
    if let Some(pid) = args.pid {
        profile = only_pid(&profile, pid)?;
    }
    let lines = Lines::new(&profile);
    let functions = match args.functions.is_empty() {
        true => lines.largest(args.tables.into()),
        false => lines.named(&args.functions, &file)?,
    };
    let tables: Vec<LineTable<'_>> = functions
        .into_iter()
        .map(|function| {
            let fits = |source: &_| lines.fits(&function.key, source);
            let found = source::find(function.key.file, args.source_root.as_deref(), fits);
            lines.table(function, found)
        })
        .collect();
    let text = match args.json {
        true => {
            serde_json::to_string_pretty(&lines::json(&lines, &tables))
                .map_err(|e| Error::failed("cannot write JSON", e, "leave out --json"))?
                + "\n"
        }
        false => lines::text(&lines, &tables, args.precision.into()),
    };
    match &args.output {
        None => print(&text)?,
        Some(path) => {
            output::write_file(path, args.force, |out| out.write_all(text.as_bytes()))?;
            eprintln!("written: {}", path.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn folder(root: &Path) -> Result<()> {
    let why = match root.metadata() {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => "not a folder".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Error::failed(
        format!("there are no sources in {}", root.display()),
        why,
        "--source-root DIR: the folder that the source files are below",
    ))
}
