//! The result in sentences that a person can act on: one topic a function, silent where there is
//! nothing to say.

mod copies;
mod functions;
mod origins;
mod processes;
pub(super) mod reconciliation;

use super::human::{count, share, size};
use super::mapped;
use super::tally::{FunctionKey, Tally};
use crate::model::Profile;
use crate::sink::escape;

/// Rows below a sentence that names functions or files.
const ROWS: usize = 3;

/// What is less than this is not worth a person's time: no advice is given for it.
const WORTH_ADVICE_BYTES: u64 = 1 << 20;

/// The sentences on the result, one a line; some have rows below them, indented.
pub fn sentences(profile: &Profile, tally: &Tally<'_>) -> Vec<String> {
    let mut lines = growth(profile, tally);
    lines.extend(functions::live(tally, ended(profile, tally)));
    lines.extend(functions::churn(tally));
    lines.extend(mapped::sentence(tally));
    lines.extend(copies::after_fork(profile, tally));
    lines.extend(processes::outliers(profile, tally));
    lines.extend(processes::together(profile));
    lines.extend(origins::files(profile, tally));
    lines.extend(origins::shared_memory(profile, tally));
    lines.extend(origins::kernel(tally));
    lines.extend(origins::outside(tally));
    lines.extend(processes::before_attach(tally));
    lines.extend(origins::unattributed(tally));
    lines.extend(reconciliation::sentence(profile));
    lines
}

fn growth(profile: &Profile, tally: &Tally<'_>) -> Vec<String> {
    let growth = tally.accounting.rss_growth;
    if growth == 0 {
        return vec!["Nothing became resident during the trace.".to_owned()];
    }
    vec![
        format!(
            "In {:.1} s, {} made {} resident.",
            profile.duration_s,
            count(profile.processes.len(), "process", "processes"),
            size(growth)
        ),
        format!(
            "Of this, {} was given back and {} is still resident{}.",
            part(tally.amounts.freed, growth),
            part(tally.amounts.net, growth),
            ended(profile, tally)
        ),
        format!(
            "Python stacks made {} of it resident.",
            part(tally.accounting.python, growth)
        ),
    ]
}

/// What a process had at its end is its net: the trace went on without it.
fn ended(profile: &Profile, tally: &Tally<'_>) -> &'static str {
    match net_of_exited(profile, tally) {
        0 => "",
        _ => ", or was when its process ended",
    }
}

fn net_of_exited(profile: &Profile, tally: &Tally<'_>) -> u64 {
    let processes = profile.processes.iter().zip(&tally.processes);
    let exited = processes.filter(|(process, _)| process.exited);
    exited.map(|(_, (amounts, _))| amounts.net).sum()
}

/// `36.0 MiB (67.9 %)`
fn part(bytes: u64, whole: u64) -> String {
    format!("{} ({})", size(bytes), share(bytes, whole))
}

/// `build (/srv/app/service.py:50)`, safe to show.
fn function(key: FunctionKey<'_>) -> String {
    let FunctionKey {
        function,
        file,
        line,
    } = key;
    let (function, file) = (escape::terminal(function), escape::terminal(file));
    format!("{function} ({file}:{line})")
}
