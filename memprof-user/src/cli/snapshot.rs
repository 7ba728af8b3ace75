//! `snapshot -p PID`: what is there now, for those who look before they trace.

use std::process::ExitCode;

use super::args::SnapshotArgs;
use super::print;
use crate::error::{Error, Result};
use crate::snapshot;

/// `snapshot`
pub fn main(args: SnapshotArgs) -> Result<ExitCode> {
    let snapshot = snapshot::take(&args.pids)?;
    if args.json {
        let text = serde_json::to_string_pretty(&snapshot::json(&snapshot))
            .map_err(|e| Error::failed("cannot write JSON", e, "leave out --json"))?;
        print(&(text + "\n"))?;
    } else {
        print(&snapshot::text(&snapshot))?;
    }
    Ok(ExitCode::SUCCESS)
}
