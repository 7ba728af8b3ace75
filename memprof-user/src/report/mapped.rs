//! Address space beside resident memory: the column of the ranked tables, and the sentence on who
//! asked for much more than is touched.

use super::human::size;
use super::tally::{Mapped, Tally};
use crate::sink::{View, escape};

/// Untouched address space that is worth a sentence. It costs next to nothing; less than this is
/// what any interpreter has in arenas and libraries.
pub const WORTH_TELLING_BYTES: u64 = 64 << 20;

/// The head of the column; None when the table has none: nothing was asked for, or the view tells
/// of another moment.
pub fn title(tally: &Tally<'_>, views: &[View]) -> Option<&'static str> {
    let shown = bytes(tally, views, &tally.amounts.mapped);
    shown.map(|_| match views.first() {
        Some(View::Gross) => "MAPPED GROSS",
        _ => "MAPPED",
    })
}

/// The column's bytes in the row of a place that asked for `mapped`.
pub fn bytes(tally: &Tally<'_>, views: &[View], mapped: &Mapped) -> Option<u64> {
    let any = tally.amounts.mapped.gross > 0;
    views
        .first()
        .filter(|_| any)
        .and_then(|&view| mapped.under(view))
}

/// The function on top of the stacks that asked for most of what nobody has touched, when that is
/// much, and more than what is touched. An allocator's reserve does not count: nobody can touch it
/// yet.
pub fn sentence(tally: &Tally<'_>) -> Option<String> {
    let usable = |mapped: &Mapped| mapped.net.saturating_sub(mapped.reserved);
    let untouched = |mapped: &Mapped| usable(mapped).saturating_sub(mapped.touched);
    let place = tally
        .functions
        .iter()
        .rev()
        .max_by_key(|place| untouched(&place.own.mapped))?;
    let mapped = &place.own.mapped;
    if untouched(mapped) < WORTH_TELLING_BYTES || untouched(mapped) <= mapped.touched {
        return None;
    }
    Some(format!(
        "{} ({}:{}) asked for {} of address space, of which {} are touched.",
        escape::terminal(place.key.function),
        escape::terminal(place.key.file),
        place.key.line,
        size(usable(mapped)),
        size(mapped.touched),
    ))
}
