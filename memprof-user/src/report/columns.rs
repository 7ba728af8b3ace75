//! A table of aligned columns for a terminal, safe to show whatever the names in it are.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::sink::escape;

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Aligned right, never shortened.
    Number,
    /// Aligned left; what is longer than so many cells loses its end.
    Name(usize),
    /// Aligned left; what is longer loses its beginning: the end of a path says most.
    Path(usize),
}

/// Rows under a head.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new(columns: &[(&str, Column)]) -> Table {
        Table {
            columns: columns.iter().map(|(_, column)| *column).collect(),
            rows: vec![
                columns
                    .iter()
                    .map(|(title, _)| (*title).to_owned())
                    .collect(),
            ],
        }
    }

    /// Adds a row of as many cells as there are columns.
    pub fn row(&mut self, cells: Vec<String>) {
        let cells = self.columns.iter().zip(cells).map(|(column, cell)| {
            let cell = escape::terminal(&cell);
            match *column {
                Column::Number => cell.into_owned(),
                Column::Name(width) => keep_begin(&cell, width),
                Column::Path(width) => keep_end(&cell, width),
            }
        });
        self.rows.push(cells.collect());
    }

    /// The table as lines, each ended by a line feed, without blanks at the ends.
    pub fn render(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.width()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, column), width) in row.iter().zip(&self.columns).zip(&widths) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                let blanks = " ".repeat(width.saturating_sub(cell.width()));
                match column {
                    Column::Number => line.extend([blanks.as_str(), cell]),
                    Column::Name(_) | Column::Path(_) => line.extend([cell, blanks.as_str()]),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn cells(character: char) -> usize {
    character.width().unwrap_or(0)
}

/// The beginning of `text` and `…`, when it is wider than `width` cells.
pub fn keep_begin(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let kept = text.chars().take_while(|&character| {
        let fits = cells(character) <= left;
        left = left.saturating_sub(cells(character));
        fits
    });
    kept.chain(['…']).collect()
}

/// `…` and the end of `text`, when it is wider than `width` cells.
pub fn keep_end(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let kept = text.chars().rev().take_while(|&character| {
        let fits = cells(character) <= left;
        left = left.saturating_sub(cells(character));
        fits
    });
    let mut kept: Vec<char> = kept.collect();
    kept.push('…');
    kept.into_iter().rev().collect()
}

/// Cells between two tab stops of a terminal.
const TAB: usize = 8;

/// `text` with blanks up to the next tab stop for each tab.
pub fn expand_tabs(text: &str) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut column = 0;
    for character in text.chars() {
        let blanks = TAB - column % TAB;
        match character {
            '\t' => expanded.extend(std::iter::repeat_n(' ', blanks)),
            character => expanded.push(character),
        }
        column += match character {
            '\t' => blanks,
            character => cells(character),
        };
    }
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tab_goes_to_the_next_stop() {
        assert_eq!(expand_tabs("\ta\tb"), "        a       b");
        assert_eq!(expand_tabs("ラー\tb"), "ラー    b");
    }

    #[test]
    fn wide_characters_count_two_cells() {
        assert_eq!(keep_begin("ラーメン", 5), "ラー…");
        assert_eq!(keep_end("/srv/ラーメン", 6), "…メン");
        assert_eq!(keep_end("/app/x.py", 9), "/app/x.py");
        let mut table = Table::new(&[("name", Column::Name(9)), ("n", Column::Number)]);
        table.row(vec!["ラー".into(), "1".into()]);
        table.row(vec!["abc\u{1b}".into(), "22".into()]);
        assert_eq!(
            table.render(),
            "name        n\nラー        1\nabc\\u{1b}  22\n"
        );
    }
}
