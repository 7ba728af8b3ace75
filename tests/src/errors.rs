//! What an error must look like: one `error / cause / hint`, the right code, no panic.

use crate::program::Ended;

/// The parts of one error.
#[derive(Debug)]
pub struct Said {
    /// What could not be done.
    pub error: String,
    /// Why.
    pub cause: String,
    /// What to type.
    pub hint: String,
}

/// Panics unless the program ended with this code and said exactly one error; its parts.
#[track_caller]
pub fn expect_error(ended: Ended, code: i32) -> Said {
    let ended = ended.expect_code(code);
    let part = |word: &str| {
        let mut lines = ended
            .stderr
            .lines()
            .filter_map(|line| line.strip_prefix(word));
        let first = lines.next();
        let text = first.unwrap_or_else(|| panic!("no {word:?} line on stderr:\n{}", ended.stderr));
        assert!(
            lines.next().is_none(),
            "two {word:?} lines on stderr:\n{}",
            ended.stderr
        );
        assert!(
            !text.trim().is_empty(),
            "an empty {word:?} line:\n{}",
            ended.stderr
        );
        text.trim().to_string()
    };
    Said {
        error: part("error:"),
        cause: part("cause:"),
        hint: part("hint:"),
    }
}

impl Said {
    /// Panics unless one of its parts contains one of these words.
    #[track_caller]
    pub fn expect_words(&self, words: &[&str]) {
        let all = format!("{} {} {}", self.error, self.cause, self.hint);
        assert!(
            words.iter().any(|word| all.contains(word)),
            "none of {words:?} in {self:?}"
        );
    }
}
