//! RSS (or PSS, USS) of every traced process over time: what MEM and CHLD lines show; and, more
//! rarely, PSS and USS beside it.

use std::time::{Duration, Instant};

use super::clock;
use super::collector::Collector;
use super::shares::Shares;
use crate::sink::Metric;
use crate::target::resident_bytes;

/// Titles change rarely: gunicorn's workers set theirs once.
const ROLE_EVERY: Duration = Duration::from_secs(1);

/// Sweeps over PSS or USS until none of the processes ended meanwhile; then it is taken as it is.
const SWEEPS: usize = 3;

/// Takes samples.
pub struct Sampler {
    metric: Metric,
    main: Option<u32>,
    next_roles: Instant,
    shares: Shares,
}

impl Sampler {
    pub fn new(metric: Metric) -> Self {
        Sampler {
            metric,
            main: None,
            next_roles: Instant::now(),
            shares: Shares::new(),
        }
    }

    /// The process of the MEM lines.
    pub fn set_main(&mut self, pid: Option<u32>) {
        self.main = pid;
    }

    /// Samples every live process once, all at one time.
    pub fn sample(&mut self, collector: &mut Collector) {
        let epoch_s = clock::epoch_s();
        let mut pids: Vec<u32> = collector.model().live_pids().collect();
        // MEM first, then its CHLD lines.
        pids.sort_by_key(|pid| (Some(*pid) != self.main, *pid));
        let roles = Instant::now() >= self.next_roles;
        if roles {
            self.next_roles = Instant::now() + ROLE_EVERY;
        }
        let turn = self.shares.round(&pids);
        let mut readings = Vec::new();
        for pid in pids {
            if collector.model().borrows(pid) {
                continue;
            }
            let Ok(rss) = resident_bytes(pid) else {
                continue; // its end is on the way
            };
            if rss == 0 {
                continue; // a zombie, or a child between fork and exec
            }
            let ahead = collector.pending_bytes(pid);
            collector.look_at_pending(pid);
            collector.model_mut().set_rss(pid, rss, ahead);
            readings.push((pid, rss));
            if roles {
                collector.refresh_role(pid);
            }
        }
        if self.metric != Metric::Rss {
            let pids: Vec<u32> = readings.iter().map(|(pid, _)| *pid).collect();
            readings = self.read_shares(&pids, collector);
        }
        for (pid, bytes) in readings {
            let main = Some(pid) == self.main;
            collector.model_mut().sample(pid, epoch_s, bytes, main);
        }
        if self.metric == Metric::Rss {
            for pid in turn {
                self.shares.read(pid, collector.model_mut());
            }
        }
    }
    /// PSS or USS of these processes, of one moment: what a process that ends shared is the others'
    /// more, so that with its old reading it would count twice.
    fn read_shares(&mut self, pids: &[u32], collector: &mut Collector) -> Vec<(u32, u64)> {
        let mut readings = Vec::new();
        for _ in 0..SWEEPS {
            let model = collector.model_mut();
            let read = pids.iter().filter_map(|&pid| {
                let share = self.shares.read_now(pid, model)?;
                let bytes = match self.metric {
                    Metric::Uss => share.uss,
                    _ => share.pss,
                };
                Some((pid, bytes))
            });
            readings = read.collect();
            let lives = |pid: u32| resident_bytes(pid).is_ok_and(|rss| rss > 0);
            if readings.iter().all(|&(pid, _)| lives(pid)) {
                break;
            }
        }
        readings
    }
}
