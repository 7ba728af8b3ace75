//! The native code that ran when memory became resident: one row a function of a library.

use std::collections::HashMap;

use super::tally::Amounts;
use crate::model::Profile;
use crate::sink::View;

/// The bytes of one piece of native code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NativeRow<'a> {
    /// Path of the library or program, or a name in brackets.
    pub library: &'a str,
    /// Its function, where it is known.
    pub symbol: Option<&'a str>,
    /// All that it made resident, whoever called it.
    pub amounts: Amounts,
}

/// Every row that has something, largest under `view` first. `stacks` are the bytes of each stack.
pub fn natives<'a>(profile: &'a Profile, stacks: &[Amounts], view: View) -> Vec<NativeRow<'a>> {
    let mut sums: HashMap<(&str, Option<&str>), Amounts> = HashMap::new();
    for (stack, amounts) in profile.stacks.iter().zip(stacks) {
        let native = stack
            .native
            .and_then(|native| profile.natives.get(native as usize));
        if let Some(native) = native.filter(|_| !amounts.is_zero()) {
            let key = (native.library.as_str(), native.symbol.as_deref());
            *sums.entry(key).or_default() += *amounts;
        }
    }
    let mut rows: Vec<NativeRow<'_>> = sums
        .into_iter()
        .map(|((library, symbol), amounts)| NativeRow {
            library,
            symbol,
            amounts,
        })
        .collect();
    rows.sort_by(|a, b| {
        let rank = |row: &NativeRow<'_>| (row.amounts.under(view), row.amounts.gross);
        let name = |row: &NativeRow<'a>| (row.library, row.symbol);
        rank(b).cmp(&rank(a)).then_with(|| name(a).cmp(&name(b)))
    });
    rows
}
