//! Python source files as text: where one is, how it is encoded, where a function in it ends.
//!
//! The path of a source file comes from a code object of the target, the file itself lies on the
//! machine on which a capture is looked at: both are input from outside. [`find`] alone does I/O.

mod block;
mod encoding;
mod find;

use std::fmt;
use std::path::PathBuf;

pub use find::find;

/// A source file that was found and read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    /// Where it is.
    pub path: PathBuf,
    /// Its lines, the first at index 0, without their ends. Not escaped.
    pub lines: Vec<String>,
    /// When it was last changed, Unix time in seconds.
    pub modified_epoch_s: f64,
}

impl Source {
    /// The text of a line, counted from 1.
    pub fn line(&self, number: u32) -> Option<&str> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.lines.get(index).map(String::as_str)
    }
}

/// Why there is no text for a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The code was not read from a file: `<string>`, `<frozen importlib._bootstrap>`.
    NoFile,
    /// It was read out of this archive.
    Archive(PathBuf),
    /// There is no such file here.
    NotFound,
    /// The file has something else where the function was: it was changed, or the code was
    /// generated and only says that it came from there.
    Changed(PathBuf),
    /// It could not be read, and why.
    Unreadable(String),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::NoFile => write!(f, "the code did not come from a file"),
            Missing::Archive(archive) => write!(
                f,
                "the source is inside {}: unpack it, and add --source-root DIR",
                archive.display()
            ),
            Missing::NotFound => write!(
                f,
                "the source is not here: add --source-root DIR, a folder that has it"
            ),
            Missing::Changed(path) => write!(
                f,
                "{} has no such function there: it was changed since, or the code was generated; \
                 add --source-root DIR, a folder that has the source as it was",
                path.display()
            ),
            Missing::Unreadable(why) => write!(f, "the source cannot be read: {why}"),
        }
    }
}
