//! `rm` and `clean`: recordings go, with all files of the same run.

use std::process::ExitCode;

use super::args::{CleanArgs, RmArgs};
use super::print;
use crate::error::Result;
use crate::recording::{Folder, Removal};
use crate::sink::escape;

/// `rm`
pub fn main(args: RmArgs) -> Result<ExitCode> {
    let removal = Removal::of(&Folder::here()?, &args.recordings)?;
    finish(removal, args.dry_run)
}

/// `clean`
pub fn clean(args: CleanArgs) -> Result<ExitCode> {
    let folder = Folder::here()?;
    let removal = Removal::all(&folder)?;
    if let Some(note) = folder.note_on_others("rm") {
        eprintln!("note: {note}");
    }
    finish(removal, args.dry_run)
}

fn finish(removal: Removal, dry_run: bool) -> Result<ExitCode> {
    for kept in removal.kept() {
        eprintln!("note: {kept}");
    }
    if dry_run {
        // The blank at the end is mprof's.
        let mut text = "Files to be removed: \n".to_owned();
        for path in removal.files() {
            text += &escape::terminal(&path.to_string_lossy());
            text.push('\n');
        }
        print(&text)?;
    } else {
        removal.carry_out()?;
    }
    Ok(ExitCode::SUCCESS)
}
