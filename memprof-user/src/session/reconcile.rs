//! The model held against the kernel's own word: the page tables where no record tells the place,
//! and /proc's count of pages at every sample.
//!
//! A look at the page tables is compared with what is believed *after* the records that came
//! meanwhile were taken; what those records touched stays open until the next look. So a target
//! that runs is never judged by a picture older or newer than its records.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use super::collector::Collector;
use crate::bpf::Pulse;
use crate::model::{Look, PageKind, Ranges};
use crate::target::{Mapping, Mappings, Pagemap, Statm, Target, is_on_tmpfs, pagemap};

/// Time that all looks of one sample may take together. The rest is looked at next time.
const BUDGET: Duration = Duration::from_millis(20);

/// A look at a whole address space may take one part in so many of the tracer's time, for each
/// process: its page tables are locked against changes meanwhile.
const WHOLE_SHARE: u32 = 50;

/// Rounds until nothing is open, when nothing may stay open: the first one leaves out what records
/// touched since the last sample, the second one finds the rest, if the target stands still. If
/// the sums then differ from /proc's, the third one makes sure of it, the fourth one asks the page
/// tables, and the fifth one checks again.
const THOROUGH: usize = 5;

/// What is known of one process from one sample to the next.
struct Known {
    /// Its number in the run: a pid may be used again before the next sample.
    index: u32,
    target: Target,
    unexplained: u32,
    next_whole: Instant,
    /// Count of its events and the difference to /proc at the last sample, when there was one.
    suspect: Option<(u32, [i64; 2])>,
}

/// The memory of all looks.
pub struct Reconciler {
    known: HashMap<u32, Known>,
    /// Numbers of the processes that live as the model believes, and were not there in this round.
    missing: HashSet<u32>,
    /// Whether files of a device (major, minor) are shared memory.
    shared_devices: HashMap<(u32, u32), bool>,
}

/// A look that waits to be taken over.
struct Taken {
    pid: u32,
    look: Look,
}

impl Reconciler {
    pub fn new() -> Self {
        Reconciler {
            known: HashMap::new(),
            missing: HashSet::new(),
            shared_devices: HashMap::new(),
        }
    }

    /// Settles what is open, as far as the time allows; `take_records` empties the ring.
    pub fn settle(
        &mut self,
        collector: &mut Collector,
        take_records: &mut dyn FnMut(&mut Collector),
    ) {
        let until = Instant::now() + BUDGET;
        self.round(collector, take_records, Some(until));
    }

    /// Settles everything that is open. A target that runs may leave something open all the same.
    pub fn settle_all(
        &mut self,
        collector: &mut Collector,
        take_records: &mut dyn FnMut(&mut Collector),
    ) {
        for _ in 0..THOROUGH {
            if !self.round(collector, take_records, None) {
                return;
            }
        }
    }

    /// One look at every process that asks for it. True when something is left open, or was not
    /// held against /proc as the process did not stand still.
    fn round(
        &mut self,
        collector: &mut Collector,
        take_records: &mut dyn FnMut(&mut Collector),
        until: Option<Instant>,
    ) -> bool {
        let mut open = collector.adopt();
        let mut pids: Vec<u32> = collector.model().live_pids().collect();
        pids.sort_unstable();
        let model = collector.model();
        self.known
            .retain(|&pid, known| model.process_index(pid) == Some(known.index));
        let pulses: HashMap<u32, Pulse> = pids
            .iter()
            .filter_map(|&pid| Some((pid, collector.pulse(pid)?)))
            .collect();
        let live: HashSet<u32> = pids
            .iter()
            .filter_map(|&pid| model.process_index(pid))
            .collect();
        self.missing.retain(|index| live.contains(index));
        for &pid in pids.iter().filter(|pid| !pulses.contains_key(pid)) {
            open |= self.miss(pid, collector);
        }
        let mut looks = Vec::new();
        for &pid in &pids {
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
            if let Some(pulse) = pulses.get(&pid) {
                looks.extend(self.look(collector, pid, pulse, until.is_none()));
            }
        }
        take_records(collector);
        for Taken { pid, look } in looks {
            let pending = collector.pulse(pid).and_then(|pulse| pulse.pending_range());
            collector.model_mut().settle(pid, &look, pending);
        }
        for &pid in &pids {
            let checked = pulses
                .get(&pid)
                .is_none_or(|before| self.check(collector, pid, before));
            open |= !checked || collector.model().open_questions(pid).is_some();
            collector.model_mut().rest(pid);
        }
        open
    }

    /// A process has ended, as it seems: its record is on the way, or was lost if it has not come
    /// after a whole round. True until one of both is known.
    fn miss(&mut self, pid: u32, collector: &mut Collector) -> bool {
        let Some(index) = collector.model().process_index(pid) else {
            return false;
        };
        if self.missing.insert(index) {
            return true;
        }
        self.missing.remove(&index);
        collector.bury(pid);
        false
    }

    /// Asks the page tables what is open of one process.
    fn look(
        &mut self,
        collector: &mut Collector,
        pid: u32,
        pulse: &Pulse,
        thorough: bool,
    ) -> Option<Taken> {
        let asks = self.known.get(&pid).is_none_or(|known| {
            known.unexplained != pulse.unexplained
                || collector.model().open_questions(pid).is_some()
        });
        if !asks {
            return None;
        }
        let target = Target::open(pid).ok()?;
        let index = collector.model().process_index(pid)?;
        let known = self.known.entry(pid).or_insert_with(|| Known {
            index,
            target,
            unexplained: 0,
            next_whole: Instant::now(),
            suspect: None,
        });
        if known.target != target {
            self.miss(pid, collector); // another process by now
            return None;
        }
        if known.unexplained != pulse.unexplained {
            known.unexplained = pulse.unexplained;
            collector.model_mut().doubt_all(pid);
        }
        let ranges = collector.model().open_questions(pid)?.clone();
        let whole = ranges.is_all();
        let begin = Instant::now();
        if whole && !thorough && begin < known.next_whole {
            return None;
        }
        let look = self.page_tables(pid, ranges)?;
        // An exec between the opening of two files, or a new process: not what was asked for.
        if Target::open(pid).ok()? != target {
            return None;
        }
        if whole && let Some(known) = self.known.get_mut(&pid) {
            known.next_whole = begin + begin.elapsed() * WHOLE_SHARE;
        }
        Some(Taken { pid, look })
    }

    /// What the page tables show in these ranges; None when the process has gone.
    fn page_tables(&mut self, pid: u32, ranges: Ranges) -> Option<Look> {
        let whole = ranges.is_all();
        let ranges = match whole {
            true => vec![pagemap::EVERYWHERE],
            false => ranges.merged(),
        };
        let mappings = Mappings::read(pid).ok()?;
        let mut pages = Pagemap::open(pid).ok()?;
        let mut seen: Vec<(Range<u64>, PageKind)> = Vec::new();
        let shared_devices = &mut self.shared_devices;
        let each = |mapping: &Mapping, run: pagemap::Run| {
            if let Some(kind) = kind(pid, mapping, run.kind, shared_devices) {
                seen.push((run.start..run.end, kind));
            }
        };
        pages.address_space(&mappings, &ranges, each).ok()?;
        Some(Look {
            ranges,
            seen,
            whole,
        })
    }

    /// Holds the sums against /proc, if the process stands still and nothing of it is open. False
    /// when that has to be done again.
    fn check(&mut self, collector: &mut Collector, pid: u32, before: &Pulse) -> bool {
        let model = collector.model();
        if model.open_questions(pid).is_some() || model.is_touched(pid) {
            return false;
        }
        let Some(after) = collector.pulse(pid) else {
            return true; // its end is on the way
        };
        if after.events != before.events {
            return false;
        }
        let (Some(known), Some(believed), Ok(statm)) = (
            self.known.get_mut(&pid),
            model.believed(pid, after.growing_range()),
            Statm::read(pid),
        ) else {
            return true; // nothing to compare: it has gone, or its ledger is closed
        };
        let pending = |anon| after.pending_bytes(anon);
        let less = |believed: u64, counted: u64| believed.cast_signed() - counted.cast_signed();
        let off = [
            less(believed.anon + pending(true), statm.anon),
            less(believed.file + believed.shmem + pending(false), statm.other),
        ];
        let off_bytes = off.iter().map(|bytes| bytes.unsigned_abs()).sum();
        // A call may be in the middle of its work: what counts is a difference that stays.
        let last = known.suspect.replace((after.events, off));
        let sure = off_bytes == 0 || last == known.suspect;
        if sure {
            collector.model_mut().checked(pid, off_bytes);
        }
        sure
    }
}

/// What a run of pages counts as; None when it is not resident.
fn kind(
    pid: u32,
    mapping: &Mapping,
    shown: pagemap::PageKind,
    shared_devices: &mut HashMap<(u32, u32), bool>,
) -> Option<PageKind> {
    match shown {
        pagemap::PageKind::Anon => Some(PageKind::Anon),
        pagemap::PageKind::File => {
            let device = shared_devices.entry(mapping.device);
            let shared = device.or_insert_with(|| is_on_tmpfs(pid, mapping));
            Some(match *shared {
                true => PageKind::Shmem,
                false => PageKind::File,
            })
        }
        pagemap::PageKind::Zero | pagemap::PageKind::Swapped => None,
    }
}
