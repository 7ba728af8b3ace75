//! The tables for people: memory_profiler's columns, in its order and its widths.

use super::{LineTable, Lines, Row};
use crate::report::columns::expand_tabs;
use crate::report::human::count;
use crate::report::mapped::WORTH_TELLING_BYTES;
use crate::report::tally::{Amounts, Mapped};
use crate::sink::{escape, loss_line};

/// In a longer table, lines without growth are left out but for those around one with growth: a
/// module is a table too.
const LONG: usize = 200;
/// Lines shown around one with growth in a long table.
const AROUND: usize = 3;

/// A column that a table has only when a line has something in it.
#[derive(Clone, Copy)]
struct Extra {
    title: &'static str,
    /// What it says, for the legend.
    says: &'static str,
    bytes: fn(&Amounts) -> u64,
    /// The least that is worth the column.
    worth: fn(&Amounts) -> bool,
}

const EXTRAS: [Extra; 3] = [
    Extra {
        title: "Freed",
        says: "given back since",
        bytes: |amounts| amounts.freed,
        worth: |amounts| amounts.freed > 0,
    },
    Extra {
        title: "Copied",
        says: "stopped being shared after a fork, in no other column",
        bytes: |amounts| amounts.cow,
        worth: |amounts| amounts.cow > 0,
    },
    Extra {
        title: "Mapped",
        says: "address space that it asked for, touched or not",
        bytes: |amounts| amounts.mapped.net,
        worth: |amounts| untouched(&amounts.mapped) >= WORTH_TELLING_BYTES,
    },
];

fn untouched(mapped: &Mapped) -> u64 {
    let usable = mapped.net.saturating_sub(mapped.reserved);
    usable.saturating_sub(mapped.touched)
}

/// The tables one below the other, what their columns mean, and what was lost. MiB are shown with
/// `precision` decimals.
pub fn text(lines: &Lines<'_>, tables: &[LineTable<'_>], precision: usize) -> String {
    let mut text = String::new();
    if tables.is_empty() {
        text.push_str("No Python function made anything resident during the trace.\n");
    }
    for table in tables {
        text.push_str(&one(table, precision));
        text.push('\n');
    }
    let profile = lines.profile();
    let processes = count(profile.processes.len(), "process", "processes");
    text.push_str(&format!(
        "Mem usage: what the line made resident, itself and by what it called, and still is at the end.\n\
         Increment: all that it made resident, in {processes}. Occurrences: in how many growth events.\n"
    ));
    for extra in EXTRAS {
        if tables.iter().any(|table| has(table, &extra)) {
            text.push_str(&format!("{}: {}.\n", extra.title, extra.says));
        }
    }
    text.push_str(&loss_line(&profile.loss));
    text.push('\n');
    text
}

fn has(table: &LineTable<'_>, extra: &Extra) -> bool {
    let mut figures = table.rows.iter().filter_map(|row| row.figures);
    figures.any(|figures| (extra.worth)(&figures.total))
}

fn one(table: &LineTable<'_>, precision: usize) -> String {
    let extras: Vec<Extra> = EXTRAS
        .into_iter()
        .filter(|extra| has(table, extra))
        .collect();
    let key = table.function.key;
    let mut text = format!(
        "Function: {}\nFilename: {}\n\n",
        escape::terminal(key.function),
        escape::terminal(key.file)
    );
    let titles: Vec<String> = extras.iter().map(|extra| extra.title.to_owned()).collect();
    let head = line(
        ["Line #", "Mem usage", "Increment", "Occurrences"],
        &titles,
        "Line Contents",
    );
    let rule = "=".repeat(head.len());
    text.push_str(&format!("{head}\n{rule}\n"));
    let shown = shown(&table.rows);
    let mut left_out = false;
    for (row, shown) in table.rows.iter().zip(shown) {
        if shown {
            text.push_str(&cells(row, &extras, precision));
            text.push('\n');
        } else if !left_out {
            text.push_str("   ...\n");
        }
        left_out = !shown;
    }
    for note in &table.notes {
        text.push_str(&format!("note: {}\n", escape::terminal(note)));
    }
    text
}

/// Which rows of a table are shown.
fn shown(rows: &[Row]) -> Vec<bool> {
    if rows.len() <= LONG {
        return vec![true; rows.len()];
    }
    let mut shown = vec![false; rows.len()];
    let with_growth = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| row.figures.is_some());
    // The head of the function, too.
    for at in with_growth.map(|(at, _)| at).chain([0]) {
        let last = (at + AROUND).min(rows.len() - 1);
        shown[at.saturating_sub(AROUND)..=last].fill(true);
    }
    shown
}

fn cells(row: &Row, extras: &[Extra], precision: usize) -> String {
    let number = row
        .line
        .map_or_else(|| "?".to_owned(), |line| line.to_string());
    let contents = row.text.as_deref().unwrap_or_default();
    let contents = expand_tabs(contents.trim_end());
    let contents = escape::terminal(&contents);
    let Some(figures) = row.figures else {
        let blank = vec![String::new(); extras.len()];
        return line([&number, "", "", ""], &blank, &contents);
    };
    let amounts = figures.total;
    let mib = |bytes| mebibytes(bytes, precision);
    let more: Vec<String> = extras
        .iter()
        .map(|extra| mib((extra.bytes)(&amounts)))
        .collect();
    line(
        [
            &number,
            &mib(amounts.net),
            &mib(amounts.gross),
            &amounts.events.to_string(),
        ],
        &more,
        &contents,
    )
}

/// memory_profiler's own template, `{0:>6} {1:>12} {2:>12}  {3:>10}   {4:<}`, with further columns
/// before the text. Its title "Occurrences" is wider than its column: so it is there.
fn line(cells: [&str; 4], more: &[String], contents: &str) -> String {
    let [number, usage, increment, occurrences] = cells;
    let width = if more.is_empty() { 10 } else { 11 };
    let mut line = format!("{number:>6} {usage:>12} {increment:>12}  {occurrences:>width$}");
    for cell in more {
        line.push_str(&format!(" {cell:>12}"));
    }
    line.push_str(&format!("   {contents}"));
    line.truncate(line.trim_end().len());
    line
}

/// memory_profiler's `{:{precision + 4}.{precision}f} MiB`.
fn mebibytes(bytes: u64, precision: usize) -> String {
    let width = precision + 4;
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    format!("{mebibytes:width$.precision$} MiB")
}
