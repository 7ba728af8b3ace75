//! What became of the tests: how many passed, failed and were skipped, over all runners.

use std::fmt;
use std::ops::AddAssign;

/// Counts of one runner, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Ran and held.
    pub passed: u64,
    /// Ran and did not hold.
    pub failed: u64,
    /// Did not run.
    pub skipped: u64,
}

impl Outcome {
    /// One thing that held.
    pub const PASSED: Outcome = Outcome {
        passed: 1,
        failed: 0,
        skipped: 0,
    };
    /// One thing that did not hold.
    pub const FAILED: Outcome = Outcome {
        passed: 0,
        failed: 1,
        skipped: 0,
    };
    /// One thing that could not be tried.
    pub const SKIPPED: Outcome = Outcome {
        passed: 0,
        failed: 0,
        skipped: 1,
    };

    /// Adds what a line of a test runner's output says, if it says anything.
    ///
    /// libtest closes with `test result: ok. 5 passed; 0 failed; 1 ignored; …`. A test that finds
    /// at run time that it cannot run passes for libtest and writes `skipped: NAME: WHY`.
    pub fn read_line(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            let count = |word| count_before(result, word).unwrap_or(0);
            *self += Outcome {
                passed: count("passed"),
                failed: count("failed"),
                skipped: count("ignored"),
            };
        } else if line.starts_with("skipped: ") {
            self.skipped += 1;
            // Counted as passed by libtest, whose closing line may come before or after.
            self.passed = self.passed.wrapping_sub(1);
        }
    }

    /// True when nothing failed and, where `strict`, nothing was skipped.
    pub fn is_success(&self, strict: bool) -> bool {
        self.failed == 0 && !(strict && self.skipped > 0)
    }
}

/// The number before `word` in `ok. 5 passed; 0 failed; …`.
fn count_before(result: &str, word: &str) -> Option<u64> {
    let mut words = result
        .split([' ', ';', '.'])
        .filter(|part| !part.is_empty());
    let mut last = words.next()?;
    for part in words {
        if part == word {
            return last.parse().ok();
        }
        last = part;
    }
    None
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Outcome) {
        // Wrapping: `read_line` may take the skipped tests off before they are added.
        self.passed = self.passed.wrapping_add(other.passed);
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_runners_and_skips() {
        let mut outcome = Outcome::default();
        for line in [
            "skipped: traces_gevent: no chromium: apt-get install chromium",
            "running 7 tests",
            "test result: FAILED. 4 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.00s",
            "test result: ok. 10 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.25s",
        ] {
            outcome.read_line(line);
        }
        assert_eq!(outcome.to_string(), "13 passed, 2 failed, 2 skipped");
        assert!(!outcome.is_success(false));
    }

    #[test]
    fn a_skip_is_a_failure_where_strict() {
        let outcome = Outcome {
            passed: 3,
            failed: 0,
            skipped: 1,
        };
        assert!(outcome.is_success(false));
        assert!(!outcome.is_success(true));
    }
}
