//! Where the code of a function ends in its file, told by logical lines and their indent.
//!
//! It takes no parser: a suite ends with the first logical line that is not indented more than its
//! header (reference: "Lexical analysis" of the language). Strings and brackets have to be known,
//! as their lines may begin anywhere.

use super::Source;

/// Columns between two tab stops, as Python's tokenizer counts an indent.
const TAB: usize = 8;

/// What opens and ends a string, the longer ones first.
const QUOTES: [&str; 4] = ["\"\"\"", "'''", "\"", "'"];

impl Source {
    /// The last line of the code object `name` (a qualified or plain name) that begins at line
    /// `first`; None when that line begins something else.
    pub fn end_of(&self, name: &str, first: u32) -> Option<u32> {
        let first_index = usize::try_from(first).ok()?.saturating_sub(1);
        let mut logical = Logical::new(self.lines.get(first_index..)?);
        let plain = name.rsplit('.').next().unwrap_or(name);
        let last = match plain {
            // The path comes from the target: a `def` is its own evidence, a module could be any file.
            _ if plain.starts_with('<') && !self.is_python() => return None,
            "<module>" => self.lines.len().checked_sub(first_index + 1)?,
            "<lambda>" if !self.lines.get(first_index)?.contains("lambda") => return None,
            // A lambda or a comprehension ends at the latest where its statement does.
            _ if plain.starts_with('<') => logical.next()?.last,
            _ => {
                let header = logical.find(|line| !line.text.starts_with('@'))?;
                if !defines(header.text, plain) {
                    return None;
                }
                let suite = logical.take_while(|line| line.indent > header.indent);
                suite.last().unwrap_or(header).last
            }
        };
        u32::try_from(first_index + last + 1).ok()
    }

    /// By its name, or by the first lines of a script.
    fn is_python(&self) -> bool {
        let named = self.path.extension();
        let named = named.is_some_and(|extension| extension == "py" || extension == "pyw");
        named
            || self
                .lines
                .iter()
                .take(2)
                .any(|line| line.contains("python"))
    }
}

/// True for `def NAME`, `async def NAME` and `class NAME`.
fn defines(header: &str, name: &str) -> bool {
    let mut words = header.split_whitespace();
    let keyword = match words.next() {
        Some("async") => words.next(),
        keyword => keyword,
    };
    if !matches!(keyword, Some("def" | "class")) {
        return false;
    }
    let named = words.next().unwrap_or_default();
    let end = named.find(['(', '[', ':', '\\']).unwrap_or(named.len());
    // CPython normalises names (NFKC), so that one with other letters may be spelled otherwise.
    named[..end] == *name || !name.is_ascii()
}

/// One logical line.
#[derive(Clone, Copy)]
struct Line<'a> {
    /// Its first physical line without the indent.
    text: &'a str,
    /// Columns.
    indent: usize,
    /// Index of its last physical line.
    last: usize,
}

/// The logical lines of some physical ones, without the empty ones and those of comments.
struct Logical<'a> {
    lines: &'a [String],
    next: usize,
}

impl<'a> Logical<'a> {
    fn new(lines: &'a [String]) -> Self {
        Logical { lines, next: 0 }
    }
}

impl<'a> Iterator for Logical<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        loop {
            let first = self.lines.get(self.next)?;
            let text = first.trim_start();
            if text.is_empty() || text.starts_with('#') {
                self.next += 1;
                continue;
            }
            let mut state = State::default();
            let mut last = self.next;
            while state.goes_on(self.lines.get(last)?) && last + 1 < self.lines.len() {
                last += 1;
            }
            self.next = last + 1;
            return Some(Line {
                text,
                indent: indent(&first[..first.len() - text.len()]),
                last,
            });
        }
    }
}

fn indent(blanks: &str) -> usize {
    blanks.chars().fold(0, |column, blank| match blank {
        '\t' => (column / TAB + 1) * TAB,
        // A form feed sets the column back.
        '\u{c}' => 0,
        _ => column + 1,
    })
}

/// What is open at the end of a physical line.
#[derive(Default)]
struct State {
    /// Brackets.
    depth: usize,
    /// The quotes that end the open string: one or three.
    quotes: Option<&'static str>,
}

impl State {
    /// Reads a physical line; true when the logical one goes on in the next.
    fn goes_on(&mut self, line: &str) -> bool {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            if first == '\\' {
                // In a string, raw ones too, it covers a quote; outside, it is the last character.
                let mut covered = rest.chars();
                covered.next();
                if covered.next().is_none() {
                    return true;
                }
                rest = covered.as_str();
                continue;
            }
            let mut read = first.len_utf8();
            match (self.quotes, first) {
                (Some(quotes), _) if rest.starts_with(quotes) => {
                    self.quotes = None;
                    read = quotes.len();
                }
                (Some(_), _) => {}
                (None, '#') => break,
                (None, '"' | '\'') => {
                    self.quotes = QUOTES.into_iter().find(|quotes| rest.starts_with(quotes));
                    read = self.quotes.map_or(read, str::len);
                }
                (None, '(' | '[' | '{') => self.depth += 1,
                // A scan may begin inside brackets.
                (None, ')' | ']' | '}') => self.depth = self.depth.saturating_sub(1),
                (None, _) => {}
            }
            rest = &rest[read..];
        }
        // A string in single quotes ends with its line, at the latest.
        if self.quotes.is_some_and(|quotes| quotes.len() == 1) {
            self.quotes = None;
        }
        self.depth > 0 || self.quotes.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source {
            path: "x.py".into(),
            lines: text.lines().map(str::to_owned).collect(),
            ..Source::default()
        }
    }

    #[test]
    fn a_function_ends_with_its_indent() {
        let source = source(
            "def f(a,\n      b):\n    x = 1\n\n    # more\n    if x:\n        y\n# at the side\n    z\n\n\n# after\ndef g(): return 1\nh\n",
        );
        assert_eq!(source.end_of("f", 1), Some(9));
        assert_eq!(source.end_of("m.g", 13), Some(13));
        assert_eq!(source.end_of("<module>", 1), Some(14));
        assert_eq!(source.end_of("g", 1), None, "another function");
        assert_eq!(source.end_of("f", 3), None, "no header");
        assert_eq!(source.end_of("f", 99), None, "past the end");
        assert_eq!(
            source.end_of("f", 0),
            Some(9),
            "a first line of 0 is the first"
        );
    }

    #[test]
    fn decorators_classes_and_coroutines_are_headers() {
        let source = source(
            "@one\n@two(\n    3)\n# why\nasync  def f[T](x): # c\n\tpass\nclass C(A):\n\n    def m(self):\n\t    pass\n    n = 1\n",
        );
        assert_eq!(source.end_of("f", 1), Some(6));
        assert_eq!(source.end_of("C", 7), Some(11));
        assert_eq!(source.end_of("C.m", 9), Some(10));
    }

    #[test]
    fn strings_brackets_and_backslashes_may_leave_the_indent() {
        let source = source(
            "def f():\n    s = '''\nnot \\''' the end ' \"\n''' # '''\n    t = (1, \"(\", ')',\n2)\n    u = 1 + \\\n2\n    v = 'it\\'s' \"\n    w = r'\\'\n    return \"\"\nx = 1\n",
        );
        assert_eq!(source.end_of("f", 1), Some(11));
    }

    #[test]
    fn a_lambda_ends_where_its_statement_does() {
        let source =
            source("x = foo(\n    lambda: bar(\n        1),\n    2)\ny = [\n  z\n  for z in x]\n");
        assert_eq!(source.end_of("f.<locals>.<lambda>", 2), Some(3));
        assert_eq!(source.end_of("<lambda>", 1), None);
        assert_eq!(source.end_of("<listcomp>", 5), Some(7));
    }
}
