//! The result in sentences: how much grew, whose it is.

use super::human::{count, share, size};
use super::mapped;
use super::tally::{FunctionKey, Place, Tally};
use crate::model::Profile;
use crate::sink::escape;

/// The sentences on the result, one a line.
pub fn sentences(profile: &Profile, tally: &Tally<'_>) -> Vec<String> {
    let growth = tally.accounting.rss_growth;
    let cow = copy_on_write(tally);
    if growth == 0 {
        let mut sentences = vec!["Nothing became resident during the trace.".to_owned()];
        sentences.extend(cow);
        sentences.extend(mapped::sentence(tally));
        return sentences;
    }
    let part = |bytes: u64| format!("{} ({})", size(bytes), share(bytes, growth));
    let mut sentences = vec![
        format!(
            "In {:.1} s, {} made {} resident.",
            profile.duration_s,
            count(profile.processes.len(), "process", "processes"),
            size(growth)
        ),
        format!(
            "Of this, {} was given back and {} is still resident{}.",
            part(tally.amounts.freed),
            part(tally.amounts.net),
            // What a process had at its end is its net: the trace went on without it.
            if net_of_exited(profile, tally) > 0 {
                ", or was when its process ended"
            } else {
                ""
            }
        ),
    ];
    sentences.extend(largest(tally));
    sentences.push(format!(
        "Python stacks made {} of it resident.",
        part(tally.accounting.python)
    ));
    let kinds = [
        (
            tally.accounting.file,
            "is file-backed (shared with the page cache)",
        ),
        (tally.accounting.shmem, "is shared memory"),
    ];
    for (bytes, what) in kinds {
        if bytes > 0 {
            sentences.push(format!("{} {what}.", part(bytes)));
        }
    }
    sentences.push(match tally.accounting.unattributed {
        0 => "All of it is attributed.".to_owned(),
        bytes => format!("{} could not be attributed.", part(bytes)),
    });
    sentences.extend(cow);
    sentences.extend(mapped::sentence(tally));
    sentences
}

fn net_of_exited(profile: &Profile, tally: &Tally<'_>) -> u64 {
    let processes = profile.processes.iter().zip(&tally.processes);
    let exited = processes.filter(|(process, _)| process.exited);
    exited.map(|(_, (amounts, _))| amounts.net).sum()
}

/// The function on top of the stacks that most of the live bytes came from.
fn largest(tally: &Tally<'_>) -> Option<String> {
    let net = tally.amounts.net;
    // Of equals, the first in the ranking.
    let own = |place: &&Place<FunctionKey<'_>>| place.own.net;
    let largest = tally.functions.iter().rev().max_by_key(own)?;
    if largest.own.net == 0 {
        return None;
    }
    let FunctionKey {
        function,
        file,
        line,
    } = largest.key;
    Some(format!(
        "The largest part of what is still resident, {} ({}), was made resident by {} ({}:{line}).",
        size(largest.own.net),
        share(largest.own.net, net),
        escape::terminal(function),
        escape::terminal(file),
    ))
}

fn copy_on_write(tally: &Tally<'_>) -> Option<String> {
    let cow = tally.amounts.cow;
    (cow > 0).then(|| {
        format!(
            "{} stopped being shared after fork: it grows PSS and USS, not RSS.",
            size(cow)
        )
    })
}
