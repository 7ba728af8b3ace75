//! Readers of line tables: `lines --json` as a contract, and the text as a reader of
//! memory_profiler's tables would split it, on its output and on ours.

use serde::Deserialize;

/// The head of memory_profiler's table.
pub const MEMORY_PROFILER: &str = "Line #    Mem usage    Increment  Occurrences   Line Contents\n\
     =============================================================\n";

/// All of `lines --json`.
#[derive(Debug, Deserialize)]
pub struct JsonTables {
    schema: u32,
    metric: String,
    functions: Vec<JsonTable>,
}

/// One function.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the report's words say what they are")]
pub struct JsonTable {
    pub function: String,
    pub file: String,
    pub gross: u64,
    pub net: u64,
    pub lines: Vec<JsonLine>,
}

/// One line.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the report's words say what they are")]
pub struct JsonLine {
    pub line: u32,
    pub text: String,
    pub gross: u64,
    pub freed: u64,
    pub net: u64,
    pub self_gross: u64,
    pub events: u64,
    pub mapped: u64,
}

impl JsonTables {
    /// Reads the output of `lines --json`.
    #[track_caller]
    pub fn parse(json: &str) -> JsonTables {
        let tables: JsonTables = serde_json::from_str(json)
            .unwrap_or_else(|e| panic!("not the JSON of lines ({e}):\n{json}"));
        assert_eq!((tables.schema, tables.metric.as_str()), (1, "bytes"));
        tables
    }

    /// The only table of a function.
    #[track_caller]
    pub fn table(&self, function: &str) -> &JsonTable {
        let tables = self.functions.iter();
        let tables: Vec<_> = tables.filter(|table| table.function == function).collect();
        assert_eq!(
            tables.len(),
            1,
            "tables of {function}: {:?}",
            self.functions
        );
        tables[0]
    }
}

impl JsonTable {
    /// The row of a line with growth.
    #[track_caller]
    pub fn row(&self, line: u32) -> &JsonLine {
        let row = self.lines.iter().find(|row| row.line == line);
        row.unwrap_or_else(|| panic!("line {line} has no growth in {self:?}"))
    }
}

/// One table as text.
#[derive(Debug, Default)]
pub struct TextTable {
    /// Lines without figures.
    blank: Vec<String>,
    /// Lines with figures.
    lines: Vec<TextLine>,
}

/// A line with figures.
#[derive(Clone, Debug, Default)]
pub struct TextLine {
    /// MiB.
    pub usage: f64,
    /// MiB.
    pub increment: f64,
    /// How often.
    pub occurrences: u64,
    /// What stands in further columns, in words.
    pub more: Vec<String>,
    /// The source.
    pub text: String,
}

impl TextTable {
    /// True when a line, with figures or without, contains `text`.
    pub fn has(&self, text: &str) -> bool {
        self.blank.iter().any(|line| line.contains(text)) || self.line(text).is_some()
    }

    /// The line with figures that contains `text`.
    pub fn line(&self, text: &str) -> Option<&TextLine> {
        self.lines.iter().find(|line| line.text.contains(text))
    }
}

/// Splits all tables in `output`.
pub fn text_tables(output: &str) -> Vec<TextTable> {
    let mut tables = Vec::new();
    for part in output.split("Filename: ").skip(1) {
        let mut rows = part.lines().skip_while(|line| !line.starts_with("Line #"));
        let head = rows.next().unwrap_or_default();
        let more = head
            .split("Occurrences")
            .nth(1)
            .map_or(0, |rest| rest.split_whitespace().count());
        let mut table = TextTable::default();
        // After the titles, of which the text's has two words: the words of the further cells.
        let more = more.saturating_sub(2) * 2;
        for row in rows.skip(1).take_while(|row| !row.is_empty()) {
            match figures(row, more) {
                Some(line) => table.lines.push(line),
                None => table.blank.push(row.to_owned()),
            }
        }
        tables.push(table);
    }
    tables
}

/// `53   63.324 MiB  160.016 MiB  4   text`
fn figures(row: &str, more: usize) -> Option<TextLine> {
    let words: Vec<&str> = row.split_whitespace().collect();
    let [_, usage, "MiB", increment, "MiB", occurrences, rest @ ..] = words.as_slice() else {
        return None;
    };
    let (more, text) = rest.split_at_checked(more)?;
    Some(TextLine {
        usage: usage.parse().ok()?,
        increment: increment.parse().ok()?,
        occurrences: occurrences.parse().ok()?,
        more: more.iter().map(|&word| word.to_owned()).collect(),
        text: text.join(" "),
    })
}
