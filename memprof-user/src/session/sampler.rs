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
        for pid in pids {
            let main = Some(pid) == self.main;
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
            let model = collector.model_mut();
            model.set_rss(pid, rss, ahead);
            let bytes = match self.metric {
                Metric::Rss => Some(rss),
                Metric::Pss => self.shares.read_now(pid, model).map(|read| read.pss),
                Metric::Uss => self.shares.read_now(pid, model).map(|read| read.uss),
            };
            if let Some(bytes) = bytes {
                model.sample(pid, epoch_s, bytes, main);
            }
            if roles {
                collector.refresh_role(pid);
            }
        }
        if self.metric == Metric::Rss {
            for pid in turn {
                self.shares.read(pid, collector.model_mut());
            }
        }
    }
}
