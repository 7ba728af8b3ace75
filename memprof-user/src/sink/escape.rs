//! What of a name that came from the target may reach an output, and in what guise.
//!
//! Names, paths and process titles are input from outside. A title with an escape sequence must
//! not move the reader's cursor, one with a bidirectional override must not show another name,
//! and one with a separator must not forge a record.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;

/// True for characters that steer a display instead of being shown: controls, line and paragraph
/// separators, bidirectional marks and overrides (Unicode TR 36 and TR 9), what has no width,
/// and what XML 1.0 does not allow.
pub fn is_steering(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{fffe}'..='\u{ffff}'
            | '\u{e0000}'..='\u{e007f}')
}

/// For a terminal: steering characters are spelled out (`\u{1b}`).
pub fn terminal(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_steering) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_steering(character) {
            // Writing to a String does not fail.
            let _ = write!(shown, "{}", character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// A path as one word of a shell's command line, for the commands in hints: it may hold blanks and
/// quotes, and begin like an option.
pub fn shell(path: &Path) -> String {
    let text = path.to_string_lossy();
    let here = if text.starts_with('-') { "./" } else { "" };
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+=,".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => format!("{here}{text}"),
        false => format!("'{here}{}'", text.replace('\'', "'\\''")),
    }
}

/// For one line of text read by a program: steering characters become `?`.
pub fn line(text: &str) -> String {
    text.chars()
        .map(|character| {
            if is_steering(character) {
                '?'
            } else {
                character
            }
        })
        .collect()
}

/// For a frame of a folded stack: as [`line()`], and `;`, which separates frames, becomes `:`.
///
/// Readers trim lines and take `# ` for a comment, so neither is left at the ends.
pub fn frame(text: &str) -> String {
    let mut name = line(text.trim()).replace(';', ":");
    if name.starts_with('#') {
        name.replace_range(..1, "?");
    }
    name
}

/// For one column of a file whose columns are separated by blanks, and which may become a label
/// of matplotlib, where `$` begins a formula.
pub fn token(text: &str) -> String {
    let token: String = text
        .chars()
        .map(|character| {
            if character == '$' || character.is_whitespace() || is_steering(character) {
                '_'
            } else {
                character
            }
        })
        .collect();
    if token.is_empty() {
        "_".to_owned()
    } else {
        token
    }
}

/// For text and attributes of XML.
pub fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            character if is_steering(character) => escaped.push('?'),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(terminal("leak"), "leak");
        assert_eq!(terminal("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(
            terminal("a\u{202e}b\u{9b}c\nd"),
            "a\\u{202e}b\\u{9b}c\\u{a}d"
        );
    }

    #[test]
    fn a_name_cannot_add_to_a_command() {
        for (path, word) in [
            ("run/out.v2.dat", "run/out.v2.dat"),
            ("-o.dat", "./-o.dat"),
            ("my run.dat", "'my run.dat'"),
            ("a'; rm -r *; '.dat", "'a'\\''; rm -r *; '\\''.dat'"),
            ("", "''"),
        ] {
            assert_eq!(shell(Path::new(path)), word);
        }
    }

    #[test]
    fn a_name_cannot_forge_a_frame_or_a_comment() {
        assert_eq!(frame("a;b\nc"), "a:b?c");
        assert_eq!(frame("# not a comment "), "? not a comment");
    }

    #[test]
    fn a_token_has_no_blank_and_is_never_empty() {
        assert_eq!(token("app.<lambda> x\t$y"), "app.<lambda>_x__y");
        assert_eq!(token(""), "_");
    }

    #[test]
    fn xml_is_escaped() {
        assert_eq!(
            xml("<a b=\"c\">&'\u{0}\u{ffff}"),
            "&lt;a b=&quot;c&quot;&gt;&amp;&#39;??"
        );
    }
}
