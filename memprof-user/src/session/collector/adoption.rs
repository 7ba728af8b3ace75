//! Processes whose begin or end was lost with its record.

use std::collections::HashSet;

use memprof_common::records::{self, task_op};

use super::Collector;
use crate::session::clock;
use crate::target::{Rss, Target};

impl Collector {
    /// Takes in the processes whose fork was lost with its record: the kernel side traces them, and
    /// their record was not in what the ring held at the last call. True while one is left of
    /// which that is not known yet.
    pub fn adopt(&mut self) -> bool {
        let lost = self.tables.dropped();
        if lost == self.lost_before && self.unknown.is_empty() {
            return false;
        }
        self.lost_before = lost;
        let mut unknown: HashSet<u32> = self.tables.traced().into_iter().collect();
        unknown.retain(|&pid| self.model.process_index(pid).is_none());
        let before = std::mem::replace(&mut self.unknown, unknown.clone());
        for pid in unknown.intersection(&before).copied() {
            let ppid = Target::open(pid).and_then(|target| target.ppid());
            let (Ok(ppid), Ok(rss)) = (ppid, Rss::read(pid)) else {
                continue;
            };
            let pages = |bytes: u64| (bytes / memprof_common::PAGE_BYTES).cast_signed();
            self.adopted += 1;
            self.task(&records::Task {
                header: records::Header {
                    op: task_op::FORK,
                    pid,
                    tid: pid,
                    time_ns: clock::monotonic_ns(),
                    ..records::Header::default()
                },
                other: ppid,
                // By member: what it has is inherited, as far as anybody knows.
                rss_pages: [pages(rss.file), pages(rss.anon), 0, pages(rss.shmem)],
                ..records::Task::default()
            });
            self.refresh_role(pid);
            self.unknown.remove(&pid);
        }
        !self.unknown.is_empty()
    }

    /// Ends a process whose exit was lost with its record. Another one may have its pid.
    pub fn bury(&mut self, pid: u32) {
        self.lost_before = 0;
        self.task(&records::Task {
            header: records::Header {
                op: task_op::EXIT,
                pid,
                tid: pid,
                time_ns: clock::monotonic_ns(),
                ..records::Header::default()
            },
            ..records::Task::default()
        });
    }
}
