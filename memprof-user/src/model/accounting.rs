//! Records in, profile out: tells each record's process, cause and place, and hands it to the
//! process and the ledger.
//!
//! Stacks and code objects are symbolized elsewhere; here a stack is an index that the caller
//! hands out. What makes no sense is counted, never dropped silently.

use std::collections::BTreeMap;

use memprof_common::PAGE_BYTES;
use memprof_common::records::{self, flag, member, space_op, task_op};

use super::anomalies::Anomalies;
use super::cause;
use super::ledger::{Caller, FileIndex, Ledger, OwnerKey, Totals};
use super::marks::Marks;
use super::process::Place;
use super::processes::Processes;
use super::profile::{self, PageKind, Sample, Share};
use super::reading::{page_kind, pages, place, rss_bytes};
use super::requests::{MappedTotals, Requests};
use super::timeline::{MAX_SHARES, Timeline};

/// A process to attach to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attach {
    /// Its pid.
    pub pid: u32,
    /// Its parent's pid.
    pub ppid: u32,
    /// Process title or argv in short.
    pub role: String,
    /// CPython version, if it runs one already: its start-up is over then.
    pub python: Option<String>,
    /// RSS now.
    pub rss_bytes: u64,
    /// Unix time now, in seconds.
    pub epoch_s: f64,
}

/// Where a run stands, for the live status line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Bytes that became resident so far.
    pub gross: u64,
    /// Of these, resident now, in processes that live.
    pub net: u64,
    /// Processes that live.
    pub live: usize,
    /// Processes seen so far.
    pub processes: usize,
}

/// Who owns which resident page in all processes of a run, and what that adds up to.
#[derive(Clone, Debug)]
pub struct Model {
    processes: Processes,
    ledger: Ledger,
    requests: Requests,
    timeline: Timeline<Sample>,
    shares: Timeline<Share>,
    marks: Marks,
    anomalies: Anomalies,
    monotonic_epoch_s: f64,
}

impl Model {
    /// An empty model. `monotonic_epoch_s` is the Unix time at which `CLOCK_MONOTONIC`, which
    /// records are stamped with, was 0.
    pub fn new(monotonic_epoch_s: f64) -> Self {
        Model {
            processes: Processes::default(),
            ledger: Ledger::default(),
            requests: Requests::default(),
            timeline: Timeline::default(),
            shares: Timeline::with_capacity_limit(MAX_SHARES),
            marks: Marks::new(monotonic_epoch_s),
            anomalies: Anomalies::default(),
            monotonic_epoch_s,
        }
    }

    /// Begins to trace a running process. Returns its index in the profile. Records of it that
    /// come before are strays.
    pub fn attach(&mut self, attach: Attach) -> u32 {
        let info = profile::Process {
            pid: attach.pid,
            ppid: attach.ppid,
            role: attach.role,
            python: attach.python,
            first_epoch_s: attach.epoch_s,
            last_epoch_s: attach.epoch_s,
            rss_start: attach.rss_bytes,
            ..profile::Process::default()
        };
        self.processes.attach(info, &mut self.ledger)
    }

    /// Pages became resident. `by` is where the caller keeps the record's stack.
    pub fn growth(&mut self, growth: &records::Growth, by: impl Into<Caller>) {
        self.growth_of(growth, by, None);
    }

    /// The same for pages of a file or of shared memory, which the caller has looked up; None where
    /// it could not.
    pub fn growth_of(
        &mut self,
        growth: &records::Growth,
        by: impl Into<Caller>,
        file: Option<FileIndex>,
    ) {
        let by: Caller = by.into();
        let Some(kind) = page_kind(growth.member) else {
            self.anomalies.not_resident += 1;
            return;
        };
        let Some(process) = self.processes.live_mut(growth.header.pid) else {
            self.anomalies.strays += 1;
            return;
        };
        process.see();
        if growth.header.flags & flag::FINALIZING != 0 {
            process.finalize(&self.ledger);
        }
        let op = growth.header.op;
        let is_late = process.is_finalizing()
            && op == records::walk_result::STACK
            && growth.header.flags & flag::UNSHARED == 0;
        if !process.counts() && !is_late {
            return;
        }
        let cause = match growth.header.flags & flag::FOREIGN {
            0 => cause::from_walk(op, by.is_python(), process.started()),
            _ => profile::Cause::OtherProcess,
        };
        if op == records::walk_result::STACK {
            process.start();
        }
        let owner = self.ledger.owner(OwnerKey {
            process: process.index(),
            image: process.image(),
            stack: by.stack_under(cause),
            cause,
            kind,
            in_kernel: growth.header.flags & flag::IN_KERNEL != 0,
            file,
        });
        let bytes = u64::from(growth.pages) * PAGE_BYTES;
        let events = u64::from(growth.events);
        if is_late {
            // A function that runs during the shutdown (`__del__`): the ledger is closed, and this
            // goes with the process.
            self.ledger.pass(owner, bytes, events);
            return;
        }
        if growth.header.flags & flag::UNSHARED != 0 {
            let range = growth.start..growth.end;
            let pid = growth.header.pid;
            self.processes.unshare(pid, range, owner, &mut self.ledger);
            return;
        }
        let place = place(growth, bytes).unwrap_or_else(|| {
            self.anomalies.misplaced += 1;
            Place::Unplaced
        });
        let displaced = process.grow(place, bytes, owner, events, &mut self.ledger);
        self.anomalies.displaced_bytes += displaced;
    }

    /// A system call changed an address space.
    pub fn address_space(&mut self, change: &records::AddressSpace) {
        let Some(process) = self.processes.live_mut(change.header.pid) else {
            self.anomalies.strays += 1;
            return;
        };
        process.see();
        if let Ok(pages @ 1..) = u64::try_from(change.rss_pages) {
            // The pending range was sent just before: ledger and count are of one moment.
            let rss = pages.saturating_mul(PAGE_BYTES);
            process.set_rss(rss, 0, &self.ledger);
            self.marks.reading(process.index(), rss);
        }
        if change.header.flags & flag::FINALIZING != 0 {
            process.finalize(&self.ledger);
        }
        if !process.counts() {
            return;
        }
        process
            .mapped_mut()
            .address_space(change, &mut self.requests);
        match change.header.op {
            space_op::UNMAP | space_op::DISCARD => {
                let range = pages(change.start, change.len);
                process.release(range, change.header.tid, &mut self.ledger);
            }
            space_op::MOVE | space_op::MOVE_PAGES => process.move_range(
                pages(change.start, change.len),
                pages(change.new_start, change.new_len),
                &mut self.ledger,
            ),
            space_op::UNMAP_FAILED => {
                let range = pages(change.start, change.len);
                process.release_failed(range, change.header.tid, &mut self.ledger);
            }
            space_op::RESCAN => process.doubt(pages(change.start, change.len)),
            // Address space is not memory; a mapping over another one announces an UNMAP.
            space_op::MAP_EXECUTABLE => {}
            _ => self.anomalies.unknown_ops += 1,
        }
    }

    /// A process began, executed, or ended.
    pub fn task(&mut self, task: &records::Task) {
        let pid = task.header.pid;
        let epoch_s = self.epoch_s(task.header.time_ns);
        self.marks_before(task);
        let known = match task.header.op {
            task_op::FORK => self.fork(task, epoch_s),
            task_op::EXEC => match self.processes.alone(pid) {
                Some(process) => {
                    process.exec(&mut self.ledger);
                    process.mapped_mut().clear(&mut self.requests);
                    process.see();
                    self.first_pages(task);
                    true
                }
                None => false,
            },
            task_op::EXIT => {
                let rss = Some(rss_bytes(&task.rss_pages)).filter(|&rss| rss > 0);
                if let Some(process) = self.processes.live(pid) {
                    process.note_touched(&mut self.requests);
                }
                self.processes.exit(pid, epoch_s, rss, &self.ledger)
            }
            _ => {
                self.anomalies.unknown_ops += 1;
                true
            }
        };
        self.marks_after(task);
        if !known {
            self.anomalies.strays += 1;
        }
    }

    /// What the kernel gave a new program before its first instruction: its stack with the
    /// arguments. Nobody says where.
    fn first_pages(&mut self, task: &records::Task) {
        for member in [member::FILE, member::ANON, member::SHMEM] {
            let pages = task.rss_pages[member as usize];
            if let Ok(pages @ 1..) = u32::try_from(pages) {
                let growth = records::Growth {
                    header: records::Header {
                        op: records::walk_result::NO_LAYOUT,
                        flags: flag::UNPLACED | flag::IN_KERNEL,
                        ..task.header
                    },
                    pages,
                    events: 1,
                    member,
                    ..records::Growth::default()
                };
                self.growth(&growth, Caller::UNKNOWN);
            }
        }
    }

    fn fork(&mut self, task: &records::Task, epoch_s: f64) -> bool {
        let shares_memory = task.shares_memory != 0;
        // What is resident in a borrowed address space is the parent's, and stays so.
        let rss = if shares_memory {
            0
        } else {
            rss_bytes(&task.rss_pages)
        };
        let info = profile::Process {
            pid: task.header.pid,
            ppid: task.other,
            first_epoch_s: epoch_s,
            last_epoch_s: epoch_s,
            rss_start: rss,
            inherited: rss,
            ..profile::Process::default()
        };
        self.processes.fork(info, shares_memory, &mut self.ledger)
    }

    /// The present program of a process is CPython of this version.
    pub fn set_python(&mut self, pid: u32, version: &str) {
        if let Some(process) = self.processes.live_mut(pid) {
            process.set_python(version.to_owned());
        }
    }

    /// Process title, or argv in short.
    pub fn set_role(&mut self, pid: u32, role: &str) {
        if let Some(process) = self.processes.live_mut(pid) {
            process.set_role(role.to_owned());
        }
    }

    /// PSS and USS as read just now; `keep` when it is to be a point of their course.
    pub fn set_share(&mut self, pid: u32, epoch_s: f64, pss: u64, uss: u64, keep: bool) {
        let Some(process) = self.processes.live_mut(pid) else {
            return;
        };
        process.set_share(pss, uss);
        if keep {
            self.shares.push(Share {
                epoch_s,
                process: process.index(),
                pss,
                uss,
            });
        }
    }

    /// A range of a process was resident before the attach. To be told before any record of the
    /// process is.
    pub fn was_resident(&mut self, pid: u32, range: std::ops::Range<u64>, kind: PageKind) {
        if let Some(process) = self.processes.live_mut(pid) {
            process.was_resident(range, kind, &mut self.ledger);
        }
    }

    /// No other process maps the pages of this range, which was resident before the attach: a
    /// write to them copies nothing.
    pub fn was_alone(&mut self, pid: u32, range: std::ops::Range<u64>) {
        if let Some(process) = self.processes.live_mut(pid) {
            process.was_alone(range);
        }
    }

    /// The rest of what the process had before the attach, it shares with its parent, which is not
    /// traced: a write to it is taken for a copy.
    pub fn shares_with_untraced_parent(&mut self, pid: u32) {
        if let Some(process) = self.processes.live_mut(pid) {
            process.shares_with_untraced_parent();
        }
    }

    /// RSS as read just now. `ahead_bytes`: growth that is in the reading and whose record has not
    /// come yet (the pending range of the kernel side).
    pub fn set_rss(&mut self, pid: u32, rss_bytes: u64, ahead_bytes: u64) {
        if let Some(process) = self.processes.live_mut(pid) {
            process.set_rss(rss_bytes, ahead_bytes, &self.ledger);
            self.marks.reading(process.index(), rss_bytes);
        }
    }

    /// The course of PSS and USS so far, to be taken once, at the end.
    pub fn take_shares(&mut self) -> Vec<Share> {
        std::mem::take(&mut self.shares).finish()
    }

    /// A sample of what is not the RSS of the process: PSS, USS, the total of a tree.
    pub fn sample(&mut self, pid: u32, epoch_s: f64, bytes: u64, main: bool) {
        let Some(process) = self.process_index(pid) else {
            return;
        };
        self.timeline.push(Sample {
            epoch_s,
            process,
            bytes,
            main,
        });
    }

    /// The index in the profile of the process that lives under this pid.
    pub fn process_index(&self, pid: u32) -> Option<u32> {
        Some(self.processes.live(pid)?.index())
    }

    /// What is known of the process that lives under this pid.
    pub fn process(&self, pid: u32) -> Option<&profile::Process> {
        Some(self.processes.live(pid)?.info())
    }

    /// Pids of the processes that live, in no order.
    pub fn live_pids(&self) -> impl Iterator<Item = u32> + '_ {
        self.processes.live_pids()
    }

    /// Where the run stands.
    pub fn status(&self) -> Status {
        Status {
            gross: self.ledger.gross(),
            net: self
                .processes
                .live_indexes()
                .map(|index| self.ledger.resident(index))
                .sum(),
            live: self.processes.live_count(),
            processes: self.processes.all().len(),
        }
    }

    /// What did not make sense so far.
    pub fn anomalies(&self) -> &Anomalies {
        &self.anomalies
    }

    /// The Unix time of a record, in seconds.
    pub fn epoch_s(&self, time_ns: u64) -> f64 {
        self.monotonic_epoch_s + time_ns as f64 / 1e9
    }

    /// The run ends. Returns what the profile says of processes, owners and RSS over time.
    pub fn finish(
        mut self,
        epoch_s: f64,
    ) -> (Vec<profile::Process>, Vec<profile::Owner>, Vec<Sample>) {
        for process in self.processes.all_mut() {
            process.end(epoch_s, &self.ledger);
            process.note_touched(&mut self.requests);
        }
        let owners = owners(&self.processes, &self.ledger, &self.requests);
        let all = self.processes.all().iter();
        let processes = all.map(|process| process.info().clone()).collect();
        (processes, owners, self.timeline.finish())
    }

    pub(super) fn parts_mut(&mut self) -> (&mut Processes, &mut Ledger) {
        (&mut self.processes, &mut self.ledger)
    }

    pub(super) fn parts(&self) -> (&Processes, &Ledger) {
        (&self.processes, &self.ledger)
    }

    pub(super) fn mark_parts(&mut self) -> (&Processes, &mut Marks, &mut Anomalies) {
        (&self.processes, &mut self.marks, &mut self.anomalies)
    }

    pub(super) fn mapping_parts(&mut self) -> (&mut Processes, &mut Requests, &mut Anomalies) {
        (&mut self.processes, &mut self.requests, &mut self.anomalies)
    }
}

/// Rows of the profile: owners that differ only in the program that a process ran are one.
fn owners(processes: &Processes, ledger: &Ledger, requests: &Requests) -> Vec<profile::Owner> {
    let mut rows = BTreeMap::new();
    let row = |key: OwnerKey| {
        let process = processes.all().get(key.process as usize);
        let recognised = process.is_some_and(|process| process.is_python(key.image));
        let cause = cause::in_image(key.cause, recognised);
        let pages = (key.kind, key.in_kernel, key.file);
        (key.process, key.stack, cause, pages)
    };
    for (key, totals) in ledger.owners() {
        if key.is_before_attach() {
            continue;
        }
        let (sum, _): &mut (Totals, MappedTotals) = rows.entry(row(key)).or_default();
        sum.gross += totals.gross;
        sum.freed += totals.freed;
        sum.peak += totals.peak;
        sum.cow += totals.cow;
        sum.events += totals.events;
    }
    for (key, totals) in requests.owners() {
        rows.entry(row(key)).or_default().1 += totals;
    }
    // A record that only told a place made nothing resident.
    let rows = rows
        .into_iter()
        .filter(|(_, sums)| *sums != Default::default());
    rows.map(
        |((process, stack, cause, (kind, in_kernel, file)), (totals, mapped))| profile::Owner {
            process,
            stack: stack.0,
            cause,
            kind,
            in_kernel,
            file: file.map(|file| file.0),
            gross: totals.gross,
            freed: totals.freed,
            peak: totals.peak,
            cow: totals.cow,
            events: totals.events,
            mapped: mapped.mapped,
            mapped_gross: mapped.gross,
            mapped_reserved: mapped.reserved,
            mapped_touched: mapped.touched,
        },
    )
    .collect()
}
