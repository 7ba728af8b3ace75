//! The report for scripts. Its keys are a contract: more may be added, none renamed.

use serde_json::{Value, json};

use super::ReportOptions;
use super::kinds::{FileRow, KindRow};
use super::native::NativeRow;
use super::tally::{Accounting, Amounts, FunctionKey, LineKey, Mapped, Place, Tally};
use super::verdict::reconciliation;
use crate::model::{
    ByPageKind, LossTotals, MarkedFunction, MarkedLevel, Process, Profile, Reconciled, Share,
};

/// Version of the keys.
pub(super) const SCHEMA: u32 = 1;

/// The report of `profile` as JSON. Names are as the target gave them.
pub fn json(profile: &Profile, options: &ReportOptions) -> Value {
    let tally = Tally::new(profile, options.view);
    let rows = options.rows.unwrap_or(usize::MAX);
    let processes = profile.processes.iter().zip(&tally.processes);
    let processes: Vec<Value> = processes
        .map(|(process, (amounts, accounting))| self::process(process, amounts, accounting))
        .collect();
    let functions: Vec<Value> = tally.functions.iter().take(rows).map(function).collect();
    let lines: Vec<Value> = tally.lines.iter().take(rows).map(line).collect();
    json!({
        "schema": SCHEMA,
        "command": profile.command,
        "started": profile.started_epoch_s,
        "duration_s": profile.duration_s,
        "metric": "bytes",
        "view": options.view.name(),
        "processes": processes,
        "functions": functions,
        "lines": lines,
        "native": tally.natives.iter().take(rows).map(native).collect::<Vec<Value>>(),
        "accounting": accounting(&tally.accounting),
        "reconciled": reconciled(&reconciliation::total(profile)),
        "kinds": tally.kinds.iter().map(kind).collect::<Vec<Value>>(),
        "files": tally.files.iter().take(rows).map(file).collect::<Vec<Value>>(),
        "before_attach": before_attach(tally.before_attach),
        "shares": profile.shares.iter().map(|row| share(profile, row)).collect::<Vec<Value>>(),
        "marks": marks(profile),
        "loss": loss(&profile.loss),
    })
}

fn process(process: &Process, amounts: &Amounts, accounting: &Accounting) -> Value {
    let mut row = json!({
        "pid": process.pid,
        "ppid": process.ppid,
        "role": process.role,
        "python": process.python,
        "rss_start": process.rss_start,
        "rss_end": process.rss_end,
        "rss_peak": process.rss_peak,
        "pss_start": process.pss_start,
        "pss_end": process.pss_end,
        "pss_peak": process.pss_peak,
        "uss_start": process.uss_start,
        "uss_end": process.uss_end,
        "uss_peak": process.uss_peak,
        "gross": amounts.gross,
        "freed": amounts.freed,
        "net": amounts.net,
        "peak": amounts.peak,
        "cow": amounts.cow,
        "inherited": process.inherited,
        "before_attach": process.before_attach,
        "before_attach_end": process.before_attach_end,
        "before_attach_by_kind": by_page_kind(process.before_attach_by_kind),
        "before_attach_end_by_kind": by_page_kind(process.before_attach_end_by_kind),
        "unattributed": accounting.unattributed,
        "reconciled": reconciled(&process.reconciled),
        "exited": process.exited,
        "first_seen": process.first_epoch_s,
        "last_seen": process.last_epoch_s,
    });
    mapped(&mut row, "", &amounts.mapped);
    row
}

fn function(place: &Place<FunctionKey<'_>>) -> Value {
    let key = place.key;
    let mut row = json!({ "function": key.function, "file": key.file, "line": key.line });
    amounts(&mut row, place);
    row
}

fn line(place: &Place<LineKey<'_>>) -> Value {
    let key = place.key;
    let mut row = json!({ "file": key.file, "line": key.line, "function": key.function });
    amounts(&mut row, place);
    row
}

fn native(row: &NativeRow<'_>) -> Value {
    json!({
        "library": row.library,
        "symbol": row.symbol,
        "net": row.amounts.net,
        "gross": row.amounts.gross,
        "freed": row.amounts.freed,
        "peak": row.amounts.peak,
        "cow": row.amounts.cow,
    })
}

pub(super) fn amounts<K>(row: &mut Value, place: &Place<K>) {
    for (prefix, amounts) in [("", &place.total), ("self_", &place.own)] {
        for (name, bytes) in [
            ("net", amounts.net),
            ("gross", amounts.gross),
            ("freed", amounts.freed),
            ("peak", amounts.peak),
            ("cow", amounts.cow),
        ] {
            row[format!("{prefix}{name}")] = bytes.into();
        }
        mapped(row, prefix, &amounts.mapped);
    }
}

fn mapped(row: &mut Value, prefix: &str, mapped: &Mapped) {
    for (name, bytes) in [
        ("mapped", mapped.net),
        ("mapped_gross", mapped.gross),
        ("mapped_reserved", mapped.reserved),
        ("mapped_touched", mapped.touched),
    ] {
        row[format!("{prefix}{name}")] = bytes.into();
    }
}

fn accounting(accounting: &Accounting) -> Value {
    json!({
        "rss_growth": accounting.rss_growth,
        "python": accounting.python,
        "attributed": accounting.attributed,
        "unattributed": accounting.unattributed,
        "by_kind": {
            "anon": accounting.anon,
            "file": accounting.file,
            "shmem": accounting.shmem,
        },
    })
}

fn kind(row: &KindRow) -> Value {
    json!({
        "kind": row.kind.key(),
        "gross": row.amounts.gross,
        "freed": row.amounts.freed,
        "net": row.amounts.net,
        "peak": row.amounts.peak,
        "cow": row.amounts.cow,
        "events": row.events,
        "python": row.python,
    })
}

fn file(row: &FileRow<'_>) -> Value {
    json!({
        "file": row.file,
        "kind": row.kind.key(),
        "gross": row.amounts.gross,
        "freed": row.amounts.freed,
        "net": row.amounts.net,
        "peak": row.amounts.peak,
    })
}

/// Nobody's growth, and so no row of `kinds`.
fn before_attach([start, end]: [ByPageKind; 2]) -> Value {
    json!({
        "start": start.sum(),
        "end": end.sum(),
        "start_by_kind": by_page_kind(start),
        "end_by_kind": by_page_kind(end),
    })
}

fn by_page_kind(bytes: ByPageKind) -> Value {
    json!({ "anon": bytes.anon, "file": bytes.file, "shmem": bytes.shmem })
}

fn share(profile: &Profile, share: &Share) -> Value {
    let process = profile.processes.get(share.process as usize);
    json!({
        "pid": process.map_or(0, |process| process.pid),
        "time": share.epoch_s,
        "pss": share.pss,
        "uss": share.uss,
    })
}

fn reconciled(reconciled: &Reconciled) -> Value {
    json!({
        "checks": reconciled.checks,
        "looks": reconciled.looks,
        "largest_drift": reconciled.largest_drift,
        "corrected": reconciled.corrected,
        "last_drift": reconciled.last_drift,
    })
}

fn marks(profile: &Profile) -> Vec<Value> {
    let rows = profile.marked.iter().filter_map(|marked| {
        let process = profile.processes.get(marked.process as usize)?;
        Some(mark(process.pid, marked))
    });
    rows.collect()
}

fn mark(pid: u32, marked: &MarkedFunction) -> Value {
    let levels = marked.levels.iter().enumerate();
    let levels = levels.filter(|(_, on_level)| **on_level != MarkedLevel::default());
    json!({
        "pid": pid,
        "function": marked.function,
        "calls": marked.calls,
        "cut": marked.cut,
        "first_begin": marked.first_begin_epoch_s,
        "last_end": marked.last_end_epoch_s,
        "running_s": marked.running_s,
        "rss_delta": marked.rss_delta,
        "rss_peak": marked.rss_peak,
        "approximate": marked.approximate,
        "levels": levels
            .map(|(level, on_level)| json!({
                "level": level,
                "calls": on_level.calls,
                "total_s": on_level.total_s,
                "rss_delta": on_level.rss_delta,
            }))
            .collect::<Vec<Value>>(),
    })
}

pub(super) fn loss(loss: &LossTotals) -> Value {
    let mut other = serde_json::Map::new();
    for (name, count) in &loss.other {
        other.insert(name.clone(), (*count).into());
    }
    json!({
        "events_lost": loss.events_lost,
        "stacks_truncated": loss.stacks_truncated,
        "stacks_failed": loss.stacks_failed,
        "unknown_threads": loss.unknown_threads,
        "other": other,
    })
}
