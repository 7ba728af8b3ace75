//! `list`: the recordings of this folder, with mprof's numbers.

use std::process::ExitCode;

use super::print;
use crate::error::Result;
use crate::recording::{Folder, stamp};
use crate::sink::escape;

/// `list`
pub fn main() -> Result<ExitCode> {
    let folder = Folder::here()?;
    let rows = folder.recordings().iter().enumerate();
    let text: String = rows.map(|(number, name)| row(number, name)).collect();
    print(&text)?;
    if let Some(note) = folder.note_on_others("peak") {
        eprintln!("note: {note}");
    }
    Ok(ExitCode::SUCCESS)
}

/// `0 mprofile_20260102030405.dat 03:04:05 02/01/2026`
fn row(number: usize, name: &str) -> String {
    let shown = escape::terminal(name);
    let digits = stamp(name).filter(|stamp| stamp.bytes().all(|byte| byte.is_ascii_digit()));
    match digits {
        Some(time) => format!(
            "{number} {shown} {}:{}:{} {}/{}/{}\n",
            &time[8..10],
            &time[10..12],
            &time[12..14],
            &time[6..8],
            &time[4..6],
            &time[..4]
        ),
        // It has a number all the same: mprof counts it, and numbers must mean the same to both.
        None => format!("{number} {shown}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::row;

    #[test]
    fn a_row_is_mprofs() {
        assert_eq!(
            row(3, "mprofile_20260102030405.dat"),
            "3 mprofile_20260102030405.dat 03:04:05 02/01/2026\n"
        );
        assert_eq!(
            row(0, "mprofile_\u{1b}[2Jabcdefghij.dat"),
            "0 mprofile_\\u{1b}[2Jabcdefghij.dat\n"
        );
    }
}
