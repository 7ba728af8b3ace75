//! How far the sums were from the kernel's own, and what was done about it.

use super::super::human::{count, size};
use crate::model::{Profile, Reconciled};

/// All processes together: a difference of the whole run is the largest of one process.
pub fn total(profile: &Profile) -> Reconciled {
    let each = profile.processes.iter().map(|process| process.reconciled);
    each.fold(Reconciled::default(), |sum, one| Reconciled {
        checks: sum.checks.saturating_add(one.checks),
        looks: sum.looks.saturating_add(one.looks),
        largest_drift: sum.largest_drift.max(one.largest_drift),
        corrected: sum.corrected.saturating_add(one.corrected),
        last_drift: sum.last_drift.saturating_add(one.last_drift),
    })
}

/// How often the sums were held against /proc, and by how much they differed.
pub fn sentence(profile: &Profile) -> Option<String> {
    let total = total(profile);
    let checks = usize::try_from(total.checks).unwrap_or(usize::MAX);
    let times = count(checks, "time", "times");
    Some(match (total.checks, total.largest_drift) {
        (0, _) => return None,
        (_, 0) => format!("Held against /proc {times} while a process stood still: no difference."),
        (_, largest) => format!(
            "Held against /proc {times} while a process stood still: the largest difference was \
             {}; {} in all was corrected by the page tables, and {} is left.",
            size(largest),
            size(total.corrected),
            size(total.last_drift),
        ),
    })
}
