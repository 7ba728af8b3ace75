//! Fewer marks for drawing: short calls of one function on one level are joined with their
//! neighbours.

use std::collections::HashMap;

use crate::model::profile::Mark;

/// Resolution to begin with, in seconds: what is shorter is no wider than a pixel of any plot.
pub const FINEST_S: f64 = 0.001;

/// A resolution that joins everything, in seconds (34 years).
const COARSEST_S: f64 = FINEST_S * (1u64 << 40) as f64;

/// Joins marks until `limit` are left or each function has one a level and process. Two are
/// joined when they last less than `resolution_s` together; it is doubled as often as it takes.
/// Leaves them in order of their begin.
pub fn coarsen(marks: &mut Vec<Mark>, limit: usize, resolution_s: &mut f64) {
    marks.sort_by(|a, b| a.begin_epoch_s.total_cmp(&b.begin_epoch_s));
    if marks.len() <= limit {
        return;
    }
    let mut tracks = HashMap::new();
    let numbers: Vec<usize> = marks
        .iter()
        .map(|mark| {
            let next = tracks.len();
            let track = (mark.process, mark.level, mark.function.as_str());
            *tracks.entry(track).or_insert(next)
        })
        .collect();
    let count = tracks.len();
    let mut rows: Vec<(usize, Mark)> = numbers.into_iter().zip(std::mem::take(marks)).collect();
    loop {
        rows = join(rows, count, *resolution_s);
        if rows.len() <= limit.max(count) || *resolution_s >= COARSEST_S {
            break;
        }
        *resolution_s *= 2.0;
    }
    marks.extend(rows.into_iter().map(|(_, mark)| mark));
}

fn join(rows: Vec<(usize, Mark)>, tracks: usize, resolution_s: f64) -> Vec<(usize, Mark)> {
    let mut joined: Vec<(usize, Mark)> = Vec::with_capacity(rows.len());
    let mut last = vec![None; tracks];
    for (track, mark) in rows {
        match last[track].and_then(|at: usize| joined.get_mut(at)) {
            Some((_, before)) if are_one(before, &mark, resolution_s) => absorb(before, &mark),
            _ => {
                last[track] = Some(joined.len());
                joined.push((track, mark));
            }
        }
    }
    joined
}

fn are_one(before: &Mark, mark: &Mark, resolution_s: f64) -> bool {
    let end_epoch_s = mark.end_epoch_s.max(before.end_epoch_s);
    end_epoch_s - before.begin_epoch_s < resolution_s
}

fn absorb(before: &mut Mark, mark: &Mark) {
    if mark.end_epoch_s >= before.end_epoch_s {
        before.end_epoch_s = mark.end_epoch_s;
        before.rss_end = mark.rss_end;
    }
    before.calls = before.calls.saturating_add(mark.calls);
    before.cut |= mark.cut;
    before.approximate |= mark.approximate;
}
