//! The tables for scripts: bytes, keys as in the report's `lines`.

use serde_json::{Value, json};

use super::{LineTable, Lines, Row};
use crate::report::json::{SCHEMA, amounts, loss};
use crate::report::tally::Place;

/// The tables as JSON. Only lines with growth, names and text as the target gave them.
pub fn json(lines: &Lines<'_>, tables: &[LineTable<'_>]) -> Value {
    let profile = lines.profile();
    json!({
        "schema": SCHEMA,
        "command": profile.command,
        "started": profile.started_epoch_s,
        "duration_s": profile.duration_s,
        "metric": "bytes",
        "functions": tables.iter().map(table).collect::<Vec<Value>>(),
        "loss": loss(&profile.loss),
    })
}

fn table(table: &LineTable<'_>) -> Value {
    let key = table.function.key;
    let mut value = json!({
        "function": key.function,
        "file": key.file,
        "line": key.line,
        "source": table.source.as_ref().map(|path| path.to_string_lossy()),
        "notes": table.notes,
        "lines": table.rows.iter().filter_map(row).collect::<Vec<Value>>(),
    });
    figures(&mut value, &table.function);
    value
}

fn row(row: &Row) -> Option<Value> {
    let place = Place {
        key: (),
        total: row.figures?.total,
        own: row.figures?.own,
    };
    let mut value = json!({ "line": row.line.unwrap_or(0), "text": row.text });
    figures(&mut value, &place);
    Some(value)
}

fn figures<K>(value: &mut Value, place: &Place<K>) {
    amounts(value, place);
    value["events"] = place.total.events.into();
    value["self_events"] = place.own.events.into();
}
