//! The report for people.

use std::cmp::Reverse;

use super::columns::{Column, Table, keep_end};
use super::human::{count, size};
use super::kinds::{FileRow, KindRow};
use super::mapped;
use super::tally::{Amounts, FunctionKey, LineKey, Place, Tally, by_own};
use super::verdict::sentences;
use super::{DEFAULT_ROWS, ReportOptions};
use crate::model::{MarkedFunction, Profile};
use crate::sink::{Kind, View, clock, escape, loss_line};

/// Rows of the table that closes a trace.
const CLOSING_ROWS: usize = 10;
/// Files shown below the file-backed pages, and below the shared memory.
const FILE_ROWS: usize = 5;
/// Rows of the table of processes: a program that forks for each request has thousands.
const PROCESS_ROWS: usize = 50;
/// Cells for a function's name or a role.
const NAME_CELLS: usize = 40;
/// Cells for a path with its line.
const PATH_CELLS: usize = 48;

/// The table that closes a trace: the functions on top of the stacks that still hold most.
pub fn table(profile: &Profile) -> String {
    let tally = Tally::new(profile, View::Net);
    if tally.functions.is_empty() {
        return "No Python function made anything resident during the trace.\n".to_owned();
    }
    functions(&tally, View::Net, CLOSING_ROWS)
}

/// The whole report: processes, functions, lines, marks, the verdict, what was lost.
pub fn text(profile: &Profile, options: &ReportOptions) -> String {
    let tally = Tally::new(profile, options.view);
    let rows = options.rows.unwrap_or(DEFAULT_ROWS);
    let mut sections = vec![
        format!(
            "{}\n{}, {:.1} s\n",
            escape::terminal(&profile.command),
            clock::utc(profile.started_epoch_s),
            profile.duration_s
        ),
        processes(profile, &tally, rows.max(PROCESS_ROWS)),
    ];
    let went = tally.kinds.iter().any(|row| !row.amounts.is_zero());
    if went || tally.before_attach[0].sum() > 0 {
        sections.push(format!("Where it went\n{}", kinds(&tally)));
    }
    let ranked = |what: &str, number: usize| {
        let view = options.view;
        format!("{what} by {view} ({} of {number})\n", rows.min(number))
    };
    if !tally.functions.is_empty() {
        sections.push(format!(
            "{}{}",
            ranked("Functions", tally.functions.len()),
            functions(&tally, options.view, rows)
        ));
        sections.push(format!(
            "{}{}",
            ranked("Lines", tally.lines.len()),
            lines(&tally, options.view, rows)
        ));
    }
    if !tally.natives.is_empty() {
        sections.push(format!(
            "{}{}",
            ranked("Native code", tally.natives.len()),
            natives(&tally, options.view, rows)
        ));
    }
    if !profile.marked.is_empty() {
        let number = profile.marked.len();
        sections.push(format!(
            "Marked functions by change of RSS ({} of {number})\n{}",
            rows.min(number),
            marks(profile, rows)
        ));
    }
    let mut verdict = sentences(profile, &tally);
    verdict.push(loss_line(&profile.loss));
    sections.push(verdict.join("\n") + "\n");
    sections.join("\n")
}

/// Of more than `rows`: those that live, then those that made most.
fn processes(profile: &Profile, tally: &Tally<'_>, rows: usize) -> String {
    let mut ranked: Vec<usize> = (0..profile.processes.len()).collect();
    ranked.sort_by_key(|&index| {
        let (amounts, _) = &tally.processes[index];
        let made = amounts.gross.saturating_add(amounts.cow);
        (profile.processes[index].exited, Reverse(made))
    });
    let left_out = ranked.split_off(rows.min(ranked.len()));
    ranked.sort_unstable();
    let mut table = Table::new(&[
        ("PID", Column::Number),
        ("PYTHON", Column::Name(NAME_CELLS)),
        ("RSS START", Column::Number),
        ("RSS END", Column::Number),
        ("RSS PEAK", Column::Number),
        ("PSS END", Column::Number),
        ("USS END", Column::Number),
        ("GROSS", Column::Number),
        ("FREED", Column::Number),
        ("NET", Column::Number),
        ("COW", Column::Number),
        ("INHERITED", Column::Number),
        ("ROLE", Column::Name(NAME_CELLS)),
    ]);
    for index in ranked {
        let (process, (amounts, _)) = (&profile.processes[index], &tally.processes[index]);
        let exited = if process.exited { " [exited]" } else { "" };
        table.row(vec![
            process.pid.to_string(),
            process.python.clone().unwrap_or_else(|| "-".to_owned()),
            size(process.rss_start),
            size(process.rss_end),
            size(process.rss_peak),
            process.pss_end.map_or_else(|| "-".to_owned(), size),
            process.uss_end.map_or_else(|| "-".to_owned(), size),
            size(amounts.gross),
            size(amounts.freed),
            size(amounts.net),
            size(amounts.cow),
            size(process.inherited),
            format!("{}{exited}", process.role),
        ]);
    }
    let mut text = table.render();
    if !left_out.is_empty() {
        let gross = left_out.iter().map(|&index| tally.processes[index].0.gross);
        text += &format!(
            "and {} that made {} resident: report --json has all of them\n",
            count(left_out.len(), "process", "processes"),
            size(gross.fold(0, u64::saturating_add)),
        );
    }
    text
}

/// What became of every byte: by kind, the largest files below theirs.
fn kinds(tally: &Tally<'_>) -> String {
    let mut table = Table::new(&[
        ("KIND", Column::Path(PATH_CELLS)),
        ("GROSS", Column::Number),
        ("FREED", Column::Number),
        ("NET", Column::Number),
        ("PEAK", Column::Number),
        ("COW", Column::Number),
        ("BY PYTHON", Column::Number),
    ]);
    let cells = |name: String, amounts: &Amounts| {
        let bytes = [
            amounts.gross,
            amounts.freed,
            amounts.net,
            amounts.peak,
            amounts.cow,
        ];
        let mut cells = vec![name];
        cells.extend(bytes.map(size));
        cells
    };
    for KindRow {
        kind,
        amounts,
        python,
        ..
    } in tally.kinds.iter().filter(|row| !row.amounts.is_zero())
    {
        let mut row = cells(kind.name().to_owned(), amounts);
        row.push(size(*python));
        table.row(row);
        for FileRow { file, amounts, .. } in files_of(tally, *kind) {
            // Cut before it is indented: the column would cut the indent.
            let file = keep_end(&escape::terminal(file), PATH_CELLS - 2);
            table.row(cells(format!("  {file}"), amounts));
        }
    }
    let mut all = cells("all".to_owned(), &tally.amounts);
    all.push(size(tally.accounting.python));
    table.row(all);
    let [start, end] = tally.before_attach.map(|bytes| bytes.sum());
    if start > 0 {
        // It is no growth: what is left and what went are all there is to say.
        let left = [size(start.saturating_sub(end)), size(end)];
        let none = || "-".to_owned();
        let [freed, net] = left;
        let name = "before attach".to_owned();
        table.row(vec![name, none(), freed, net]);
    }
    table.render()
}

fn files_of<'t, 'a>(tally: &'t Tally<'a>, kind: Kind) -> impl Iterator<Item = &'t FileRow<'a>> {
    let files = tally.files.iter();
    files.filter(move |row| row.kind == kind).take(FILE_ROWS)
}

/// The views that a ranked table has columns for: its own first.
fn views(tally: &Tally<'_>, view: View) -> Vec<View> {
    let others = View::ALL.into_iter().filter(|&other| other != view);
    let shown = others.filter(|&other| other != View::Cow || tally.amounts.cow > 0);
    [view].into_iter().chain(shown).collect()
}

/// The head of a ranked table: what the frame on top made, then what was made below it.
fn ranked_table(tally: &Tally<'_>, views: &[View], names: [(&str, Column); 2]) -> Table {
    let titles: Vec<String> = views
        .iter()
        .enumerate()
        .flat_map(|(index, view)| {
            let name = view.name().to_uppercase();
            // Self only for what the table is ranked by, or it would not fit a screen.
            let own = (index == 0).then(|| format!("SELF {name}"));
            own.into_iter().chain([name])
        })
        .collect();
    let numbers = titles.iter().map(|title| (title.as_str(), Column::Number));
    let mapped = mapped::title(tally, views).map(|title| (title, Column::Number));
    let columns: Vec<(&str, Column)> = numbers.chain(mapped).chain(names).collect();
    Table::new(&columns)
}

fn ranked_cells<K>(tally: &Tally<'_>, views: &[View], place: &Place<K>) -> Vec<String> {
    let Place { own, total, .. } = place;
    let first = views.first().map(|&view| own.under(view));
    let totals = views.iter().map(|&view| total.under(view));
    let mapped = mapped::bytes(tally, views, &total.mapped);
    first
        .into_iter()
        .chain(totals)
        .chain(mapped)
        .map(size)
        .collect()
}

fn functions(tally: &Tally<'_>, view: View, rows: usize) -> String {
    let views = views(tally, view);
    let names = [
        ("FUNCTION", Column::Name(NAME_CELLS)),
        ("DEFINED AT", Column::Path(PATH_CELLS)),
    ];
    let mut table = ranked_table(tally, &views, names);
    for place in by_own(&tally.functions, view).iter().take(rows) {
        let FunctionKey {
            function,
            file,
            line,
        } = place.key;
        let mut cells = ranked_cells(tally, &views, place);
        cells.extend([function.to_owned(), format!("{file}:{line}")]);
        table.row(cells);
    }
    table.render()
}

fn lines(tally: &Tally<'_>, view: View, rows: usize) -> String {
    let views = views(tally, view);
    let names = [
        ("FUNCTION", Column::Name(NAME_CELLS)),
        ("LINE", Column::Path(PATH_CELLS)),
    ];
    let mut table = ranked_table(tally, &views, names);
    for place in by_own(&tally.lines, view).iter().take(rows) {
        let LineKey {
            file,
            line,
            function,
        } = place.key;
        let mut cells = ranked_cells(tally, &views, place);
        // Line 0: the line table could not be read.
        let line = match line {
            0 => "?".to_owned(),
            line => line.to_string(),
        };
        cells.extend([function.to_owned(), format!("{file}:{line}")]);
        table.row(cells);
    }
    table.render()
}

fn natives(tally: &Tally<'_>, view: View, rows: usize) -> String {
    let views = views(tally, view);
    let titles: Vec<String> = views
        .iter()
        .map(|view| view.name().to_uppercase())
        .collect();
    let numbers = titles.iter().map(|title| (title.as_str(), Column::Number));
    let names = [
        ("FUNCTION", Column::Name(NAME_CELLS)),
        ("LIBRARY", Column::Path(PATH_CELLS)),
    ];
    let columns: Vec<(&str, Column)> = numbers.chain(names).collect();
    let mut table = Table::new(&columns);
    for row in tally.natives.iter().take(rows) {
        let bytes = views.iter().map(|&view| size(row.amounts.under(view)));
        let names = [row.symbol.unwrap_or("-"), row.library].map(str::to_owned);
        table.row(bytes.chain(names).collect());
    }
    table.render()
}

fn marks(profile: &Profile, rows: usize) -> String {
    let mut table = Table::new(&[
        ("PID", Column::Number),
        ("CALLS", Column::Number),
        ("SECONDS", Column::Number),
        ("RSS CHANGE", Column::Number),
        ("RSS PEAK", Column::Number),
        ("MARKED FUNCTION", Column::Name(NAME_CELLS)),
    ]);
    let mut ranked: Vec<&MarkedFunction> = profile.marked.iter().collect();
    // Stable: equals keep the order of their first calls.
    ranked.sort_by_key(|marked| Reverse(marked.rss_delta.unsigned_abs()));
    for marked in ranked.into_iter().take(rows) {
        let Some(process) = profile.processes.get(marked.process as usize) else {
            continue;
        };
        let sign = if marked.rss_delta < 0 { "-" } else { "+" };
        let about = if marked.approximate { "~" } else { "" };
        table.row(vec![
            process.pid.to_string(),
            format!("{about}{}", marked.calls),
            format!("{:.3}", marked.running_s),
            format!("{sign}{}", size(marked.rss_delta.unsigned_abs())),
            size(marked.rss_peak),
            marked.function.to_owned(),
        ]);
    }
    table.render()
}
