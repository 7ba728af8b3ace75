//! Which functions hold what is live, and which grow and give back.

use std::cmp::Reverse;

use super::super::human::size;
use super::super::tally::{Amounts, FunctionKey, Place, Tally};
use super::{ROWS, WORTH_ADVICE_BYTES, function, part};

/// A function of churn has at most one part in so many of its gross left.
const CHURN_LEFT: u64 = 10;

/// A function of churn made at least one part in so many of all growth.
const CHURN_SHARE: u64 = 20;

type Function<'a> = Place<FunctionKey<'a>>;

/// The functions that `keep` keeps, by the most bytes of their own; of equals, the first in the
/// ranking of the tables.
fn most<'a>(
    tally: &Tally<'a>,
    keep: impl Fn(&Amounts) -> bool,
    bytes: impl Fn(&Amounts) -> u64,
) -> Vec<Function<'a>> {
    let functions = tally.functions.iter();
    let mut kept: Vec<Function<'a>> = functions
        .filter(|place| keep(&place.own))
        .copied()
        .collect();
    kept.sort_by_key(|place| Reverse(bytes(&place.own)));
    kept.truncate(ROWS);
    kept
}

/// Who touched what is still resident; `ended` says so of processes that have gone.
pub fn live(tally: &Tally<'_>, ended: &str) -> Vec<String> {
    let largest = most(tally, |own| own.net > 0, |own| own.net);
    let Some(first) = largest.first() else {
        return Vec::new();
    };
    let mut lines = vec![format!(
        "Of what is still resident{ended}, the largest parts were touched first by:"
    )];
    lines.extend(largest.iter().map(|place| {
        let bytes = part(place.own.net, tally.amounts.net);
        format!("  {bytes} {}", function(place.key))
    }));
    if first.own.net >= WORTH_ADVICE_BYTES {
        lines.push(
            "Touched is not held: such a function leaks, or its allocator kept or reused what it \
             freed. The callers that its stacks share are right in either case."
                .to_owned(),
        );
    }
    lines
}

/// Who grows and gives back: page faults, no leak.
pub fn churn(tally: &Tally<'_>) -> Vec<String> {
    let least = (tally.accounting.rss_growth / CHURN_SHARE).max(WORTH_ADVICE_BYTES);
    let churns = |own: &Amounts| own.gross >= least && own.net <= own.gross / CHURN_LEFT;
    let largest = most(tally, churns, |own| own.freed);
    if largest.is_empty() {
        return Vec::new();
    }
    let title = "Grown and given back, which costs page faults and holds little:";
    let mut lines = vec![title.to_owned()];
    lines.extend(largest.iter().map(|place| {
        let (freed, gross) = (size(place.own.freed), size(place.own.gross));
        format!("  {freed} of {gross} {}", function(place.key))
    }));
    lines
}
