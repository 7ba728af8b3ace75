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
            let label = web_label(label);
            let encoding = Encoding::for_label(label.as_bytes()).unwrap_or(UTF_8);
            // A byte order mark goes before the comment, and is taken away.
            encoding.decode(bytes).0.into_owned()
        }
    }
}

/// WHATWG's label of an encoding that only Python calls so (CPython's `Lib/encodings/aliases.py`),
/// of those that sources are written in.
fn web_label(label: &str) -> &str {
    match label {
        "cp932" | "ms932" | "mskanji" | "ms-kanji" => "shift_jis",
        "cp936" | "ms936" => "gbk",
        "cp949" | "ms949" | "uhc" => "euc-kr",
        "cp950" | "ms950" => "big5",
        "mac-roman" | "macroman" => "macintosh",
        label => label,
    }
}

/// The encoding that a comment names, in lower case with `-` for `_`. What an editor adds about
/// line ends is left out (CPython's `get_normal_name`): `latin-1-unix`.
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
    let named = named.to_ascii_lowercase().replace('_', "-");
    let latin_1 = ["latin-1-", "iso-8859-1-", "iso-latin-1-"];
    match latin_1.iter().any(|with_more| named.starts_with(with_more)) {
        true => Some("latin-1".to_owned()),
        false => Some(named),
    }
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
        assert_eq!(lines(b"# coding: latin-1-unix\n'\xe9\x80'")[1], "'é\u{80}'");
        // By the names that Python alone has. The second byte is a backslash, were it ASCII.
        assert_eq!(lines(b"# coding: cp932\n'\x95\x5c'")[1], "'表'");
        assert_eq!(lines(b"# coding: cp949\n'\xb0\xa1'")[1], "'가'");
        assert_eq!(lines(b"# coding: mac_roman\n'\x8e'")[1], "'é'");
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
