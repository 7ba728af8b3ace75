//! `report FILE`: who made memory grow.

use std::process::ExitCode;

use super::args::ReportArgs;
use super::print;
use crate::error::{Error, Result};
use crate::report::{self, ReportOptions};
use crate::{capture, model::Profile};

/// Reads a capture; damage is told on stderr and costs only what is damaged.
pub fn open(path: &std::path::Path) -> Result<Profile> {
    let capture = capture::open(path)?;
    if let Some(damage) = capture.damage {
        eprintln!("warning: {damage}");
    }
    Ok(capture.profile)
}

/// `report`
pub fn main(args: ReportArgs) -> Result<ExitCode> {
    let mut profile = open(&args.file)?;
    if let Some(pid) = args.pid {
        profile = report::only_pid(&profile, pid)?;
    }
    let options = ReportOptions {
        view: args.view.into(),
        rows: args.rows,
    };
    if args.json {
        let json = report::json(&profile, &options);
        let text = serde_json::to_string_pretty(&json)
            .map_err(|e| Error::failed("cannot write JSON", e, "leave out --json"))?;
        print(&(text + "\n"))?;
    } else {
        print(&report::text(&profile, &options))?;
    }
    Ok(ExitCode::SUCCESS)
}
