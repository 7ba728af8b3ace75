//! What was lost, in one line: it stands in every output that people read.

use super::escape;
use crate::model::LossTotals;

/// One line on what was lost. It stands in every output for people.
pub fn loss_line(loss: &LossTotals) -> String {
    let named = [
        (loss.events_lost, "events lost"),
        (loss.stacks_truncated, "stacks truncated"),
        (loss.stacks_failed, "stacks failed"),
        (loss.unknown_threads, "unknown threads"),
    ];
    let named = named
        .into_iter()
        .map(|(number, what)| (number, what.to_owned()));
    let other = loss
        .other
        .iter()
        .map(|(name, number)| (*number, escape::line(name)));
    let lost: Vec<String> = named
        .chain(other)
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    if lost.is_empty() {
        "nothing lost".to_owned()
    } else {
        format!("loss: {}", lost.join(", "))
    }
}
