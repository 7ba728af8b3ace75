//! What this kernel, these privileges and this Python allow, each with the command that mends it.
//!
//! `kernel` tries what a trace needs up to loading the programs; `process` says how one process
//! would be walked, and walks it once. Nothing is attached.

mod kernel;
mod process;

pub use kernel::kernel;
pub use process::process;

use crate::error::{Error, Exit};
use crate::sink::escape;

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Check {
    /// In a word or two.
    pub what: &'static str,
    /// What was found; or what is wrong, why, and what mends it.
    pub found: Result<String, Error>,
}

impl Check {
    fn good(what: &'static str, found: impl Into<String>) -> Check {
        Check {
            what,
            found: Ok(found.into()),
        }
    }

    fn bad(what: &'static str, error: Error) -> Check {
        Check {
            what,
            found: Err(error),
        }
    }
}

/// The checks as lines for a terminal; what comes from a process is escaped.
pub fn text(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.what.len()).max();
    let width = width.unwrap_or(0);
    let mut lines = Vec::new();
    for Check { what, found } in checks {
        match found {
            Ok(found) => lines.push(format!(
                "  ok    {what:width$}  {}",
                escape::terminal(found)
            )),
            Err(error) => {
                let says = [
                    ("FAIL", *what, &error.error),
                    ("", "cause", &error.cause),
                    ("", "hint", &error.hint),
                ];
                lines.extend(says.map(|(mark, what, text)| {
                    let text = escape::line(text);
                    format!("  {mark:4}  {what:width$}  {}", escape::terminal(&text))
                }));
            }
        }
    }
    lines.join("\n") + "\n"
}

/// The exit code that the first thing amiss asks for.
pub fn exit(checks: &[Check]) -> Option<Exit> {
    let mut amiss = checks.iter().filter_map(|check| check.found.as_ref().err());
    amiss.next().map(|error| error.exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_amiss_stands_with_its_hint() {
        let error = Error::failed("no BTF", "a\nb", "ls /sys").with_exit(Exit::Unsupported);
        let checks = [
            Check::good("kernel", "6.18\x1b[m"),
            Check::bad("types", error),
        ];
        let shown = text(&checks);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[0].starts_with("  ok    kernel  6.18") && !shown.contains('\x1b'));
        assert_eq!(lines[1], "  FAIL  types   no BTF");
        assert_eq!(lines[3], "        hint    ls /sys");
        assert_eq!(exit(&checks), Some(Exit::Unsupported));
        assert_eq!(exit(&checks[..1]), None);
    }
}
