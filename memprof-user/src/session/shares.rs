//! When PSS and USS of which process are read: smaps_rollup walks the page tables, under a lock
//! that the process wants too.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::clock;
use crate::model::Model;
use crate::target::Rollup;

/// Shortest time between two readings of one process that are kept.
const EVERY: Duration = Duration::from_secs(1);

/// The time between two readings of one process is so many times what the last one took: it is
/// kept waiting for 1 % of the time at most.
const COST_FACTOR: u32 = 100;

/// Of the time between two rounds, one part in so many may go into readings: of hundreds of
/// processes each has its turn, later.
const ROUND_SHARE: u32 = 20;

/// Readings of all processes of a run.
pub struct Shares {
    /// When each is due next.
    due: HashMap<u32, Instant>,
    last_round: Instant,
    /// What is left of this round's time.
    left: Duration,
}

impl Shares {
    pub fn new() -> Self {
        Shares {
            due: HashMap::new(),
            last_round: Instant::now(),
            left: Duration::ZERO,
        }
    }

    /// Begins a round over `pids`, those that live; the one that waits longest comes first.
    pub fn round(&mut self, pids: &[u32]) -> Vec<u32> {
        let now = Instant::now();
        self.left = (now - self.last_round) / ROUND_SHARE;
        self.last_round = now;
        let mut due: HashMap<u32, Instant> = HashMap::with_capacity(pids.len());
        for &pid in pids {
            due.insert(pid, self.due.get(&pid).copied().unwrap_or(now));
        }
        self.due = due;
        let mut turn: Vec<u32> = pids.to_vec();
        turn.retain(|pid| self.is_due(*pid, now));
        turn.sort_by_key(|pid| self.due.get(pid).copied());
        turn
    }

    fn is_due(&self, pid: u32, now: Instant) -> bool {
        self.due.get(&pid).is_none_or(|due| *due <= now)
    }

    /// Reads a process whose turn it is, unless the round's time is over.
    pub fn read(&mut self, pid: u32, model: &mut Model) {
        if !self.left.is_zero() {
            self.read_now(pid, model);
        }
    }

    /// Reads a process; it becomes a point of its course only when it is due.
    pub fn read_now(&mut self, pid: u32, model: &mut Model) -> Option<Rollup> {
        let begin = Instant::now();
        let rollup = Rollup::read(pid).ok();
        let end = Instant::now();
        let cost = end - begin;
        self.left = self.left.saturating_sub(cost);
        let keep = self.is_due(pid, begin);
        if keep {
            let pause = cost.saturating_mul(COST_FACTOR).max(EVERY);
            self.due.insert(pid, end + pause);
        }
        let rollup = rollup?;
        model.set_share(pid, clock::epoch_s(), rollup.pss, rollup.uss, keep);
        Some(rollup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Attach;

    #[test]
    fn a_process_is_read_at_first_sight_and_then_when_it_is_due() {
        let own = std::process::id();
        let mut model = Model::new(0.0);
        model.attach(Attach {
            pid: own,
            ..Attach::default()
        });
        let mut shares = Shares::new();
        assert_eq!(shares.round(&[own]), [own]);
        let first = shares.read_now(own, &mut model).unwrap();
        assert!(shares.round(&[own]).is_empty(), "not due for a second");
        // As --metric pss reads it: told, and no point of the course.
        let second = shares.read_now(own, &mut model).unwrap();
        let process = model.process(own).unwrap();
        assert_eq!(process.pss_start, Some(first.pss));
        assert_eq!(process.pss_end, Some(second.pss));
        assert_eq!(process.uss_peak, Some(first.uss.max(second.uss)));
        let kept = model.take_shares();
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].pss, kept[0].uss), (first.pss, first.uss));
    }

    #[test]
    fn a_round_has_its_time_and_no_more() {
        let own = std::process::id();
        let mut model = Model::new(0.0);
        model.attach(Attach {
            pid: own,
            ..Attach::default()
        });
        let mut shares = Shares::new();
        shares.left = Duration::ZERO;
        shares.read(own, &mut model);
        assert_eq!(model.process(own).unwrap().pss_end, None);
        shares.left = Duration::from_nanos(1);
        shares.read(own, &mut model);
        assert!(model.process(own).unwrap().pss_end.is_some());
        assert!(shares.left.is_zero());
    }
}
