//! Bytes of a Python source file → its lines, by PEP 263.

use encoding_rs::{Encoding, UTF_8, mem};

/// The bytes decoded: by the byte order mark, by the coding comment in one of the first two lines,
/// or as UTF-8. What cannot be decoded becomes U+FFFD: a line is shown with a flaw rather than not
/// at all.
pub fn lines(bytes: &[u8]) -> Vec<String> {
    let text = decode(bytes);
    // Python's universal line ends.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.lines().map(str::to_owned).collect()
}

fn decode(bytes: &[u8]) -> String {
    let label = declared(bytes).unwrap_or_default();
    match label.as_str() {
        // WHATWG's "iso-8859-1" is windows-1252; Python's is the first 256 characters.
        "latin-1" | "latin1" | "iso-8859-1" | "iso8859-1" | "iso-latin-1" | "l1" => {
            mem::decode_latin1(bytes).into_owned()
        }
        label => {
            let encoding = Encoding::for_label(label.as_bytes()).unwrap_or(UTF_8);
            // A byte order mark goes before the comment, and is taken away.
            encoding.decode(bytes).0.into_owned()
        }
    }
}

/// The encoding that a comment names, in lower case with `-` for `_`.
fn declared(bytes: &[u8]) -> Option<String> {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let first = lines.next()?;
    if let Some(label) = cookie(first) {
        return Some(label);
    }
    // The second line counts only below a comment or an empty line.
    let blank = first.trim_ascii_start();
    match blank.is_empty() || blank.starts_with(b"#") {
        true => cookie(lines.next()?),
        false => None,
    }
}

/// PEP 263: `^[ \t\f]*#.*?coding[:=][ \t]*([-_.a-zA-Z0-9]+)`.
fn cookie(line: &[u8]) -> Option<String> {
    let line = String::from_utf8_lossy(line);
    let comment = line
        .trim_start_matches([' ', '\t', '\u{c}'])
        .strip_prefix('#')?;
    let named = comment.match_indices("coding").find_map(|(at, word)| {
        let rest = &comment[at + word.len()..];
        let rest = rest.strip_prefix([':', '='])?;
        let rest = rest.trim_start_matches([' ', '\t']);
        let of_label = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let end = rest.find(|c| !of_label(c)).unwrap_or(rest.len());
        (end > 0).then(|| &rest[..end])
    })?;
    Some(named.to_ascii_lowercase().replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf_8_is_the_default_and_a_flaw_costs_one_character() {
        assert_eq!(lines("é = 1\n\nb".as_bytes()), ["é = 1", "", "b"]);
        assert_eq!(lines(b"\xef\xbb\xbfa = 1\r\nb\rc"), ["a = 1", "b", "c"]);
        assert_eq!(lines(b"a = '\xe9'"), ["a = '\u{fffd}'"]);
    }

    #[test]
    fn the_coding_comment_is_followed() {
        assert_eq!(
            lines(b"# -*- coding: latin-1 -*-\n'\xe9\x80'")[1],
            "'é\u{80}'"
        );
        assert_eq!(
            lines(b"#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\n'\x80'")[2],
            "'€'"
        );
        assert_eq!(lines(b"# coding=koi8_r\n'\xc1'")[1], "'а'");
        assert_eq!(lines(b"# coding: utf-8\n'\xc3\xa9'")[1], "'é'");
        // Not in the third line, not below code, not outside a comment.
        for head in [
            "\n\n# coding: latin-1",
            "x = 1\n# coding: latin-1",
            "coding: latin-1",
        ] {
            let text = [head.as_bytes(), b"\n'\xe9'"].concat();
            assert_eq!(lines(&text).pop().unwrap(), "'\u{fffd}'", "{head}");
        }
    }
}
