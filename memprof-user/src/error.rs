//! The one error type that reaches the user: what went wrong, why, and the command to type next.

use std::fmt;

use crate::sink::escape;

/// Exit codes of the command (the contract of the command line).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Something failed that the other codes do not say.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A privilege is missing.
    Privilege = 3,
    /// The kernel or the Python is not supported.
    Unsupported = 4,
}

/// An error for the user, printed as `error: … / cause: … / hint: …`, one line each.
#[derive(Debug, Clone)]
pub struct Error {
    /// The exit code of the command.
    pub exit: Exit,
    /// What could not be done.
    pub error: String,
    /// Why.
    pub cause: String,
    /// The command to type next, or what to change.
    pub hint: String,
}

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with [`Exit::Failed`].
    pub fn failed(
        error: impl Into<String>,
        cause: impl fmt::Display,
        hint: impl Into<String>,
    ) -> Self {
        Error {
            exit: Exit::Failed,
            error: error.into(),
            cause: cause.to_string(),
            hint: hint.into(),
        }
    }

    /// The same with another exit code.
    pub fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line a part, whatever the parts contain: names and paths come from outside.
        let line = |text: &str| escape::terminal(&text.replace(['\n', '\r'], " ")).into_owned();
        writeln!(f, "error: {}", line(&self.error))?;
        writeln!(f, "cause: {}", line(&self.cause))?;
        write!(f, "hint: {}", line(&self.hint))
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_add_a_line_or_steer_the_terminal() {
        let error = Error::failed("no\nerror: a\u{1b}[2J", "b\r", "c\u{202e}");
        let shown = error.to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(
            lines,
            [
                "error: no error: a\\u{1b}[2J",
                "cause: b ",
                "hint: c\\u{202e}"
            ]
        );
    }
}
