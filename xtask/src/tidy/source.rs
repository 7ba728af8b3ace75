//! A source file as the rules see it: its text, and its code without comments, strings and tests.

/// One file.
pub struct Source {
    /// Path from the root of the repository, with `/`.
    pub path: String,
    /// The lines as they stand.
    pub text: Vec<String>,
    /// The same lines with comments and the contents of strings blanked; empty for a file that
    /// is not Rust.
    pub code: Vec<String>,
    /// Which lines belong to tests.
    pub test: Vec<bool>,
}

impl Source {
    /// Reads `text`.
    pub fn new(path: String, text: &str) -> Source {
        let rust = path.ends_with(".rs");
        let code = if rust {
            lines(&blanked(text))
        } else {
            Vec::new()
        };
        let whole_file =
            path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("tests.rs");
        let test = match whole_file {
            true => vec![true; code.len()],
            false => test_lines(&code),
        };
        Source {
            path,
            text: lines(text),
            code,
            test,
        }
    }

    /// True for Rust files under `prefix`.
    pub fn rust_in(&self, prefix: &str) -> bool {
        self.path.ends_with(".rs") && self.path.starts_with(prefix)
    }

    /// Numbers of the lines outside tests that hold one of `words` in their code.
    pub fn using(&self, words: &[&str]) -> Vec<usize> {
        (0..self.code.len())
            .filter(|&line| !self.test[line])
            .filter(|&line| words.iter().any(|word| holds(&self.code[line], word)))
            .map(|line| line + 1)
            .collect()
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// True when `word` stands in `line` and is not a part of a longer name.
pub fn holds(line: &str, word: &str) -> bool {
    let of_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let starts = !word.starts_with(of_name) || !before.is_some_and(of_name);
        let ends = !word.ends_with(of_name) || !after.is_some_and(of_name);
        starts && ends
    })
}

/// `text` with comments and the contents of literals as blanks; lines keep their numbers.
fn blanked(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest),
            'r' if !ends_in_name(&code) => raw_string(rest),
            '\'' => character(rest),
            _ => 0,
        };
        if length == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let newlines = rest[..length].chars().filter(|&c| c == '\n');
        // Two quotes keep `.expect("…")` looking like a call with an argument.
        code.push_str(if first == '/' { "" } else { "\"\"" });
        code.extend(newlines);
        rest = &rest[length..];
    }
    code
}

fn ends_in_name(code: &str) -> bool {
    // `br"…"` is a raw string too.
    let code = code.strip_suffix('b').unwrap_or(code);
    code.ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Length of the block comment at the start; they nest.
fn block_comment(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0, 0);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Length of the string literal at the start.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of the raw string at the start; 0 when this is another `r`.
fn raw_string(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|&c| c == '#').count();
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = 2 + hashes;
    text[body..]
        .find(&end)
        .map_or(text.len(), |at| body + at + end.len())
}

/// Length of the character literal at the start; 0 when it is a lifetime.
fn character(text: &str) -> usize {
    let mut inner = text[1..].chars();
    match inner.next() {
        Some('\\') => text[3..].find('\'').map_or(0, |at| at + 4),
        Some(c) if inner.next() == Some('\'') => 2 + c.len_utf8(),
        _ => 0,
    }
}

/// Marks `#[cfg(test)]` and the item after it, to its closing brace or semicolon.
fn test_lines(code: &[String]) -> Vec<bool> {
    let mut test = vec![false; code.len()];
    let mut line = 0;
    while line < code.len() {
        if !code[line].contains("#[cfg(test)]") {
            line += 1;
            continue;
        }
        let mut depth = 0usize;
        let mut ended = false;
        while line < code.len() && !ended {
            test[line] = true;
            for c in code[line].chars() {
                match c {
                    '{' => depth += 1,
                    '}' => {
                        depth = depth.saturating_sub(1);
                        ended |= depth == 0;
                    }
                    ';' => ended |= depth == 0,
                    _ => {}
                }
            }
            line += 1;
        }
    }
    test
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_code_only() {
        let text = "let a = \"x.unwrap()\"; // y.unwrap()\nlet b = r#\"\"unwrap()\"#; /* unwrap()\n */\nlet c = '\"'; z.unwrap();\nfn f<'a>(x: &'a str) { x.unwrap() }\nlet d = '\\''; let e = \"\\\"\"; w.unwrap()";
        let source = Source::new("a.rs".into(), text);
        assert_eq!(source.using(&[".unwrap()"]), [4, 5, 6]);
    }

    #[test]
    fn leaves_tests_out() {
        let text = "fn a() { b.unwrap() }\n#[cfg(test)]\nmod tests {\n    fn c() { d.unwrap() }\n}\nfn e() { f.unwrap() }\n#[cfg(test)]\nuse g;\nfn h() { i.unwrap() }";
        let source = Source::new("a.rs".into(), text);
        assert_eq!(source.using(&[".unwrap()"]), [1, 6, 9]);
        let source = Source::new("tests/src/a.rs".into(), text);
        assert!(source.using(&[".unwrap()"]).is_empty());
    }

    #[test]
    fn takes_whole_names() {
        assert!(holds("use aya::Ebpf;", "aya"));
        assert!(!holds("use aya_ebpf::macros;", "aya"));
        assert!(!holds("let playa = 1;", "aya"));
    }
}
