//! What sets one process apart from its siblings, what all have together, and what they had before.

use std::collections::BTreeMap;

use super::super::human::{count, size};
use super::super::tally::Tally;
use super::{ROWS, part};
use crate::model::{Process, Profile};
use crate::sink::escape;

/// An outlier holds at least so many times what its siblings hold.
const OUTLIER_TIMES: u64 = 2;

/// And at least so much more: below this, workers differ by what each happens to have imported.
const OUTLIER_MORE_BYTES: u64 = 4 << 20;

/// Workers among which one can stand out: of two, either might be the odd one.
const SIBLINGS: usize = 3;

/// Parent, role, gone or not: one that has gone had less time than one that lives.
type Group<'a> = (u32, &'a str, bool);

/// Workers of one role and parent, one of which holds much more than the others.
pub fn outliers(profile: &Profile, tally: &Tally<'_>) -> Vec<String> {
    let mut groups: BTreeMap<Group<'_>, Vec<(&Process, u64)>> = BTreeMap::new();
    for (process, (amounts, _)) in profile.processes.iter().zip(&tally.processes) {
        if process.python.is_some() {
            let group = (process.ppid, process.role.as_str(), process.exited);
            groups
                .entry(group)
                .or_default()
                .push((process, amounts.net));
        }
    }
    let mut found: Vec<(&Process, u64, u64, usize)> = Vec::new();
    for group in groups.values().filter(|group| group.len() >= SIBLINGS) {
        let mut nets: Vec<u64> = group.iter().map(|(_, net)| *net).collect();
        nets.sort_unstable();
        // The lower one of two in the middle.
        let median = nets[(nets.len() - 1) / 2];
        let least = median.saturating_mul(OUTLIER_TIMES);
        let least = least.max(median.saturating_add(OUTLIER_MORE_BYTES));
        let outliers = group.iter().filter(|(_, net)| *net >= least);
        found.extend(outliers.map(|(process, net)| (*process, *net, median, group.len())));
    }
    found.sort_by_key(|(process, net, ..)| (std::cmp::Reverse(*net), process.pid));
    let lines = found.into_iter().take(ROWS);
    let lines = lines.map(|(process, net, median, like)| {
        format!(
            "Process {pid} ({role}) {holds} {net} of its growth; the median of the {like} processes \
             of this role is {median}. Look at it alone: --pid {pid}.",
            pid = process.pid,
            holds = if process.exited { "ended with" } else { "holds" },
            role = escape::terminal(&process.role),
            net = size(net),
            median = size(median),
        )
    });
    lines.collect()
}

/// RSS of several counts what they share once for each; PSS does not.
pub fn together(profile: &Profile) -> Option<String> {
    let live = profile.processes.iter().filter(|process| !process.exited);
    let read: Vec<(u64, u64, u64)> = live
        .filter_map(|process| Some((process.rss_end, process.pss_end?, process.uss_end?)))
        .collect();
    if read.len() < 2 {
        return None;
    }
    let sum =
        |of: fn(&(u64, u64, u64)) -> u64| size(read.iter().map(of).fold(0, u64::saturating_add));
    Some(format!(
        "At the end {} had {} of RSS together, and {} of PSS, which counts what they share once; \
         {} was each one's alone (USS).",
        count(read.len(), "process", "processes"),
        sum(|row| row.0),
        sum(|row| row.1),
        sum(|row| row.2),
    ))
}

/// What is left of what was there when the trace began.
pub fn before_attach(tally: &Tally<'_>) -> Option<String> {
    let [start, end] = tally.before_attach;
    let (was, left) = (start.sum(), end.sum());
    if was == 0 {
        return None;
    }
    let kinds = [
        (end.anon, "anonymous"),
        (end.file, "of files"),
        (end.shmem, "shared memory"),
    ];
    let kinds = kinds.into_iter().filter(|(bytes, _)| *bytes > 0);
    let kinds: Vec<String> = kinds
        .map(|(bytes, what)| format!("{} {what}", size(bytes)))
        .collect();
    Some(match left {
        0 => format!(
            "{} was resident before the attach; nothing of it is left.",
            size(was)
        ),
        left => format!(
            "{} was resident before the attach; {} of it is left: {}.",
            size(was),
            part(left, was),
            kinds.join(", ")
        ),
    })
}
