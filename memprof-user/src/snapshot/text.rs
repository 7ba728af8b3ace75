//! A snapshot for people: sentences, a table of the processes, and the stacks, leaf first.

use super::{Process, Snapshot, StackFrame, ThreadStack};
use crate::report::{Column, Table, count, share, size};
use crate::sink::escape;

/// Cells for a role with its indentation.
const ROLE_CELLS: usize = 60;

/// The whole text.
pub fn text(snapshot: &Snapshot) -> String {
    let mut sections = vec![sentences(snapshot).join("\n") + "\n", table(snapshot)];
    sections.extend(snapshot.processes.iter().filter_map(stacks));
    sections.join("\n")
}

fn sentences(snapshot: &Snapshot) -> Vec<String> {
    let processes = &snapshot.processes;
    let totals = snapshot.totals();
    let rss = size(totals.rss.total());
    let mut amounts = match processes.len() {
        1 => format!("The process has {rss} resident (RSS)"),
        many => format!("The RSS of {many} processes adds up to {rss}"),
    };
    if let (Some(pss), Some(uss)) = (totals.pss, totals.uss) {
        amounts += &format!(
            "; with shared pages divided among all who map them (PSS) it is {}, and {} is mapped \
             by nobody else (USS)",
            size(pss),
            size(uss)
        );
    }
    let mut sentences = vec![amounts + "."];
    sentences.extend(largest(snapshot));
    let missing = processes.iter().filter_map(|process| {
        let python = process.python.as_ref();
        let what = python.map_or_else(String::new, |version| format!(" (CPython {version})"));
        let note = process.note.as_ref()?;
        Some(format!("About pid {}{what}: {note}.", process.pid))
    });
    sentences.extend(missing.map(|sentence| escape::terminal(&sentence).into_owned()));
    if processes.iter().all(|process| process.python.is_none()) {
        sentences.push(match processes.len() {
            1 => "It does not run Python, so there are no stacks.".to_owned(),
            _ => "None of them runs Python, so there are no stacks.".to_owned(),
        });
    }
    sentences
}

/// Of several; by PSS where that is known of all, because RSS counts what is shared to each.
fn largest(snapshot: &Snapshot) -> Option<String> {
    let totals = snapshot.totals();
    let bytes = |process: &Process| match (totals.pss, process.rollup) {
        (Some(_), Some(rollup)) => rollup.pss,
        _ => process.rss.total(),
    };
    let (metric, total) = match totals.pss {
        Some(pss) => ("PSS", pss),
        None => ("RSS", totals.rss.total()),
    };
    let largest = snapshot.processes.iter().max_by_key(|p| bytes(p))?;
    (snapshot.processes.len() > 1).then(|| {
        format!(
            "The largest is pid {}, {}: {} {metric}, {} of all.",
            largest.pid,
            escape::terminal(&largest.role),
            size(bytes(largest)),
            share(bytes(largest), total),
        )
    })
}

fn table(snapshot: &Snapshot) -> String {
    let swap = snapshot.processes.iter().any(|p| p.rss.swap > 0);
    let mut columns = vec![
        ("PID", Column::Number),
        ("PPID", Column::Number),
        ("PYTHON", Column::Number),
        ("RSS", Column::Number),
        ("PSS", Column::Number),
        ("USS", Column::Number),
        ("ANON", Column::Number),
        ("FILE", Column::Number),
        ("SHMEM", Column::Number),
    ];
    if swap {
        columns.push(("SWAP", Column::Number));
    }
    columns.push(("ROLE", Column::Name(ROLE_CELLS)));
    let mut table = Table::new(&columns);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for process in &snapshot.processes {
        let mut cells = vec![
            process.pid.to_string(),
            process.ppid.to_string(),
            or_dash(process.python.clone()),
            size(process.rss.total()),
            or_dash(process.rollup.map(|rollup| size(rollup.pss))),
            or_dash(process.rollup.map(|rollup| size(rollup.uss))),
            size(process.rss.anon),
            size(process.rss.file),
            size(process.rss.shmem),
        ];
        if swap {
            cells.push(size(process.rss.swap));
        }
        // Deeper than a screen is wide, nobody counts.
        let indent = "  ".repeat(process.depth.min(ROLE_CELLS / 4));
        cells.push(format!("{indent}{}", process.role));
        table.row(cells);
    }
    table.render()
}

/// None for a process without Python.
pub(super) fn stacks(process: &Process) -> Option<String> {
    let threads = process.threads.as_ref()?;
    let mut lines = vec![format!(
        "Process {}: {}, CPython {}",
        process.pid,
        escape::terminal(&process.role),
        process.python.as_deref().unwrap_or("?"),
    )];
    for thread in threads {
        lines.extend(stack(thread));
    }
    if process.native_threads > 0 {
        lines.push(format!(
            "  {} without Python",
            count(process.native_threads, "thread", "threads")
        ));
    }
    Some(lines.join("\n") + "\n")
}

fn stack(thread: &ThreadStack) -> Vec<String> {
    let mark = match (thread.torn, thread.running) {
        (true, _) => " (running: it moved while it was read, frames may not belong together)",
        (false, true) => " (running)",
        (false, false) => "",
    };
    let tid = thread
        .tid
        .map_or_else(|| "?".to_owned(), |tid| tid.to_string());
    let mut lines = vec![format!(
        "  Thread {tid} {}{mark}",
        escape::terminal(&format!("{:?}", thread.name))
    )];
    lines.extend(
        thread
            .frames
            .iter()
            .map(|frame| format!("    {}", place(frame))),
    );
    if thread.truncated {
        lines.push("    … (the rest could not be read)".to_owned());
    } else if thread.greenlet {
        lines.push("    [greenlet]".to_owned());
    } else if thread.frames.is_empty() {
        lines.push("    (no Python frame)".to_owned());
    }
    lines
}

fn place(frame: &StackFrame) -> String {
    let line = match frame.line {
        0 => "?".to_owned(),
        line => line.to_string(),
    };
    format!(
        "{} ({}:{line})",
        escape::terminal(&frame.function),
        escape::terminal(&frame.file)
    )
}
