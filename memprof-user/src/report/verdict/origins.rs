//! Growth that is not a Python function's heap: files, shared memory, the kernel's, and what nobody
//! could tell.

use std::collections::BTreeSet;

use super::super::human::size;
use super::super::kinds::UNKNOWN_FILE;
use super::super::tally::Tally;
use super::part;
use crate::model::Profile;
use crate::sink::{Kind, escape};

fn gross(tally: &Tally<'_>, kind: Kind) -> u64 {
    let row = tally.kinds.iter().find(|row| row.kind == kind);
    row.map_or(0, |row| row.amounts.gross)
}

/// `12.0 MiB (3.8 %)` of all growth; None when there is nothing.
fn of_growth(tally: &Tally<'_>, kind: Kind) -> Option<String> {
    match gross(tally, kind) {
        0 => None,
        bytes => Some(part(bytes, tally.accounting.rss_growth)),
    }
}

/// `; the largest, 3.0 MiB, is /usr/lib/libssl.so.3`: of those that are known.
fn largest(tally: &Tally<'_>, kind: Kind) -> String {
    let mut known = tally.files.iter().filter(|row| row.file != UNKNOWN_FILE);
    let largest = known.find(|row| row.kind == kind);
    largest.map_or_else(String::new, |row| {
        let bytes = size(row.amounts.gross);
        format!("; the largest, {bytes}, is {}", escape::terminal(row.file))
    })
}

/// Pages of files.
pub fn files(profile: &Profile, tally: &Tally<'_>) -> Option<String> {
    let bytes = of_growth(tally, Kind::File)?;
    let largest = largest(tally, Kind::File);
    let each = each(profile, Kind::File);
    Some(format!(
        "{bytes} is file-backed (shared with the page cache){largest}.{each}"
    ))
}

/// Shared memory.
pub fn shared_memory(profile: &Profile, tally: &Tally<'_>) -> Option<String> {
    let bytes = of_growth(tally, Kind::Shmem)?;
    let largest = largest(tally, Kind::Shmem);
    let each = each(profile, Kind::Shmem);
    Some(format!("{bytes} is shared memory{largest}.{each}"))
}

/// Whether several processes count pages that may be the same.
fn each(profile: &Profile, kind: Kind) -> String {
    let owners = profile.owners.iter();
    let owners = owners.filter(|owner| owner.gross > 0 && Kind::of(owner) == kind);
    let sharers: BTreeSet<u32> = owners.map(|owner| owner.process).collect();
    match sharers.len() {
        0 | 1 => String::new(),
        many => format!(" Of the {many} processes that touched it, each counts it."),
    }
}

/// What system calls filled.
pub fn kernel(tally: &Tally<'_>) -> Option<String> {
    let bytes = of_growth(tally, Kind::Kernel)?;
    Some(format!(
        "{bytes} was filled by the kernel for the program, in system calls such as read()."
    ))
}

/// Whoever is neither a Python function nor the kernel for one.
pub fn outside(tally: &Tally<'_>) -> Option<String> {
    let rows = [
        (
            Kind::Interpreter,
            "by the interpreter itself (start-up, threads that begin or end)",
        ),
        (Kind::NotPython, "by programs that are not Python"),
        (
            Kind::OtherProcess,
            "by another process, or by the kernel unasked (huge pages)",
        ),
    ];
    let rows = rows.into_iter();
    let rows = rows.filter_map(|(kind, who)| Some(format!("{} {who}", of_growth(tally, kind)?)));
    let rows: Vec<String> = rows.collect();
    (!rows.is_empty()).then(|| format!("Outside of Python code: {}.", rows.join(", ")))
}

/// What nobody could tell, and in which way.
pub fn unattributed(tally: &Tally<'_>) -> Option<String> {
    let growth = tally.accounting.rss_growth;
    match tally.accounting.unattributed {
        _ if growth == 0 => None,
        0 => Some("All of the growth is attributed.".to_owned()),
        bytes => {
            let rows = [
                (Kind::NoPythonFrame, "in threads without a Python frame"),
                (Kind::Found, "found in the page tables, not announced"),
                (Kind::Unknown, "with a stack that could not be read"),
            ];
            let rows = rows
                .map(|(kind, how)| (gross(tally, kind), how))
                .into_iter();
            let rows = rows.filter(|(bytes, _)| *bytes > 0);
            let rows: Vec<String> = rows
                .map(|(bytes, how)| format!("{} {how}", size(bytes)))
                .collect();
            let bytes = part(bytes, growth);
            Some(format!(
                "{bytes} of the growth could not be attributed: {}.",
                rows.join(", ")
            ))
        }
    }
}
