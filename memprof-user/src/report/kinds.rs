//! Where the growth went: one row a kind, and which files and shared memory it was.

use std::collections::HashMap;

use super::tally::Amounts;
use crate::model::{ByPageKind, Cause, Owner, Profile};
use crate::sink::Kind;

/// Shown for pages whose file could not be told: unmapped before anybody looked, or placed nowhere.
pub const UNKNOWN_FILE: &str = "[file not known]";

/// The bytes of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindRow {
    /// Which.
    pub kind: Kind,
    /// All of it.
    pub amounts: Amounts,
    /// Of its gross, owned by a Python stack.
    pub python: u64,
    /// Growth events.
    pub events: u64,
}

/// The bytes of one file, or of one piece of shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRow<'a> {
    /// Path as in the target's mappings, or a name in brackets.
    pub file: &'a str,
    /// [`Kind::File`] or [`Kind::Shmem`]: the row that these bytes are part of.
    pub kind: Kind,
    /// All of it.
    pub amounts: Amounts,
}

/// One row a kind, also of those that have nothing: their gross adds up to the growth.
pub fn kinds(owners: &[Owner]) -> Vec<KindRow> {
    let mut rows = Kind::ALL.map(|kind| KindRow {
        kind,
        amounts: Amounts::default(),
        python: 0,
        events: 0,
    });
    for owner in owners {
        let kind = Kind::of(owner);
        if let Some(row) = rows.iter_mut().find(|row| row.kind == kind) {
            let amounts = Amounts::of(owner);
            row.amounts += amounts;
            row.events = row.events.saturating_add(owner.events);
            if owner.cause == Cause::Python {
                row.python = row.python.saturating_add(amounts.gross);
            }
        }
    }
    rows.to_vec()
}

/// The rows of [`Kind::File`] and [`Kind::Shmem`] by file, largest gross first.
pub fn files(profile: &Profile) -> Vec<FileRow<'_>> {
    let mut sums: HashMap<(Kind, &str), Amounts> = HashMap::new();
    for owner in &profile.owners {
        let kind = Kind::of(owner);
        if matches!(kind, Kind::File | Kind::Shmem) {
            let name = file_name(profile, owner);
            *sums.entry((kind, name)).or_default() += Amounts::of(owner);
        }
    }
    // A mapping that was asked for and not touched has no bytes here.
    let rows = sums.into_iter();
    let rows = rows.filter(|(_, amounts)| amounts.gross > 0 || amounts.cow > 0);
    let mut rows: Vec<FileRow<'_>> = rows
        .map(|((kind, file), amounts)| FileRow {
            file,
            kind,
            amounts,
        })
        .collect();
    rows.sort_by(|a, b| {
        let rank = |row: &FileRow<'_>| (row.amounts.gross, row.amounts.net);
        let name = |row: &FileRow<'_>| (row.kind, row.file.to_owned());
        rank(b).cmp(&rank(a)).then_with(|| name(a).cmp(&name(b)))
    });
    rows
}

fn file_name<'a>(profile: &'a Profile, owner: &Owner) -> &'a str {
    let file = owner.file.and_then(|file| profile.files.get(file as usize));
    file.map_or(UNKNOWN_FILE, |file| &file.path)
}

/// What all processes had resident before the attach: then, and what was left at the end.
pub fn before_attach(profile: &Profile) -> [ByPageKind; 2] {
    let mut sums = [ByPageKind::default(); 2];
    for process in &profile.processes {
        sums[0] += process.before_attach_by_kind;
        sums[1] += process.before_attach_end_by_kind;
    }
    sums
}
