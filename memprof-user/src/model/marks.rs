//! Calls of marked functions: begins and ends in, calls with their levels out.
//!
//! Calls nest on a lane: a thread, or a greenlet of it. What is kept does not grow with the
//! number of calls: sums a function and level, and for drawing, intervals that are joined when
//! they become many.

use std::collections::HashMap;
use std::sync::Arc;

use memprof_common::PAGE_BYTES;
use memprof_common::records::{self, flag, mark_op, mark_source};

use super::anomalies::Anomalies;
use super::profile::{Mark, MarkedFunction, MarkedLevel};

mod coarsen;
mod correct;

pub use coarsen::{FINEST_S, coarsen};

/// Intervals of one process at most; then they are joined to half as many.
const MAX_INTERVALS: usize = 1024;

/// Calls that are open at one time in one process at most: the interpreter's own limit is 1000 a
/// thread or greenlet. Deeper ones are counted as anomalies.
const MAX_OPEN: usize = 1 << 16;

/// Levels that are told apart in the sums.
const MAX_LEVELS: usize = 256;

/// Functions of one process at most: the others are one.
const MAX_FUNCTIONS: usize = 4096;
const OTHERS: &str = "[other functions]";

/// A moment of a process.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Its RSS, if it is known.
    pub rss: Option<u64>,
}

/// The marks of all processes.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// By index of the process.
    processes: HashMap<u32, ProcessMarks>,
    monotonic_epoch_s: f64,
}

impl Marks {
    /// See [`super::Model::new`].
    pub fn new(monotonic_epoch_s: f64) -> Self {
        Marks {
            processes: HashMap::new(),
            monotonic_epoch_s,
        }
    }

    /// A call of the function with this name begins or ends.
    pub fn mark(
        &mut self,
        process: u32,
        mark: &records::Mark,
        name: &Arc<str>,
        anomalies: &mut Anomalies,
    ) {
        let epoch_s = self.monotonic_epoch_s;
        let own = self.processes.entry(process).or_default();
        own.process = process;
        own.monotonic_epoch_s = epoch_s;
        let rss = u64::try_from(mark.rss_pages).unwrap_or(0);
        let moment = own.moment(Moment {
            time_ns: mark.header.time_ns,
            rss: Some(rss.saturating_mul(PAGE_BYTES)).filter(|&rss| rss > 0),
        });
        let lane = (mark.header.tid, mark.lane);
        let slot = own.slot(name);
        own.end_beyond(lane, mark.depth, moment);
        match mark.header.op {
            mark_op::BEGIN => {
                let call = Call {
                    slot,
                    key: mark.key,
                    begin: moment,
                    resumed: mark.header.flags & flag::RESUMED != 0,
                    inherited: false,
                    approximate: mark.source == mark_source::SAMPLED,
                };
                if !own.begin(lane, call) {
                    anomalies.marks_too_deep += 1;
                }
            }
            mark_op::END => {
                // A call that was running when its function began to be watched only ends.
                if !own.end(lane, slot, mark.key, moment) && mark.source == mark_source::DECORATED {
                    anomalies.marks_without_begin += 1;
                }
            }
            _ => anomalies.unknown_ops += 1,
        }
    }

    /// The RSS of a process is known at some moment between its marks.
    pub fn reading(&mut self, process: u32, rss: u64) {
        if let Some(own) = self.processes.get_mut(&process) {
            own.reading(rss);
        }
    }

    /// A thread of a process forked a child with one thread, each given as (process, thread): what
    /// the thread was calling, the child's copy of its stack is calling too.
    pub fn fork(&mut self, (parent, tid): (u32, u32), (child, child_tid): (u32, u32), at: Moment) {
        let Some(parent) = self.processes.get(&parent) else {
            return;
        };
        let inherited = parent.lanes.iter().filter(|((of, _), _)| *of == tid);
        let mut own = ProcessMarks {
            process: child,
            monotonic_epoch_s: self.monotonic_epoch_s,
            ..ProcessMarks::default()
        };
        let begin = own.moment(at);
        for (&(_, lane), calls) in inherited {
            for call in &calls.open {
                let name = Arc::clone(&parent.functions[call.slot].name);
                let call = Call {
                    slot: own.slot(&name),
                    begin,
                    inherited: true,
                    ..*call
                };
                own.begin((child_tid, lane), call);
            }
        }
        if own.open > 0 {
            self.processes.insert(child, own);
        }
    }

    /// A function of a process has another name. None: it was not meant, and has had no calls.
    pub fn correct(&mut self, process: u32, name: &str, instead: Option<&Arc<str>>) {
        let Some(own) = self.processes.get_mut(&process) else {
            return;
        };
        match instead {
            Some(instead) => own.rename(name, instead),
            None => own.forget(name),
        }
    }

    /// A process executed another program: its calls are over. What it had only from its parent
    /// was on the way to the new program all the time.
    pub fn exec(&mut self, process: u32, at: Moment) {
        if let Some(own) = self.processes.get_mut(&process) {
            own.close_all(at, |call| !call.inherited);
        }
    }

    /// A process has gone, or the trace is over: what is open ends here.
    pub fn close(&mut self, process: u32, at: Moment) {
        if let Some(own) = self.processes.get_mut(&process) {
            own.close_all(at, |_| true);
        }
    }

    /// The run ends at this Unix time, in seconds. Returns what the profile says of marks, in
    /// order of their begin.
    pub fn finish(mut self, epoch_s: f64) -> (Vec<Mark>, Vec<MarkedFunction>) {
        let at = Moment {
            time_ns: ((epoch_s - self.monotonic_epoch_s) * 1e9) as u64,
            rss: None,
        };
        let (mut marks, mut marked) = (Vec::new(), Vec::new());
        for own in self.processes.values_mut() {
            own.close_all(at, |_| true);
            marks.append(&mut own.intervals);
            // A call that was open is counted when it is closed, unless it was dropped.
            let rows = own.functions.drain(..).map(|function| function.sums);
            marked.extend(rows.filter(|row| !row.levels.is_empty()));
        }
        marks.sort_by(|a, b| a.begin_epoch_s.total_cmp(&b.begin_epoch_s));
        marked.sort_by(|a, b| {
            let begin = a.first_begin_epoch_s.total_cmp(&b.first_begin_epoch_s);
            begin.then_with(|| (a.process, &a.function).cmp(&(b.process, &b.function)))
        });
        (marks, marked)
    }
}

/// A call that has begun.
#[derive(Clone, Copy, Debug)]
struct Call {
    /// Index into `ProcessMarks::functions`.
    slot: usize,
    key: u64,
    begin: At,
    resumed: bool,
    /// It began in the parent.
    inherited: bool,
    approximate: bool,
}

/// A [`Moment`] with the RSS as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
struct At {
    time_ns: u64,
    rss: u64,
}

#[derive(Clone, Debug, Default)]
struct Lane {
    /// Outermost first.
    open: Vec<Call>,
    /// Calls within the last of them that were too many.
    beyond: u64,
}

#[derive(Clone, Debug)]
struct Function {
    name: Arc<str>,
    sums: MarkedFunction,
    /// Calls that run, and since when at least one does.
    running: usize,
    since: At,
}

#[derive(Clone, Debug)]
struct ProcessMarks {
    process: u32,
    monotonic_epoch_s: f64,
    /// By thread and greenlet; only those with open calls.
    lanes: HashMap<(u32, u64), Lane>,
    /// Open calls of all lanes.
    open: usize,
    functions: Vec<Function>,
    slots: HashMap<Arc<str>, usize>,
    /// Slots of functions that run.
    running: Vec<usize>,
    intervals: Vec<Mark>,
    resolution_s: f64,
    /// RSS as last known.
    rss: u64,
}

impl Default for ProcessMarks {
    fn default() -> Self {
        ProcessMarks {
            process: 0,
            monotonic_epoch_s: 0.0,
            lanes: HashMap::new(),
            open: 0,
            functions: Vec::new(),
            slots: HashMap::new(),
            running: Vec::new(),
            intervals: Vec::new(),
            resolution_s: FINEST_S,
            rss: 0,
        }
    }
}

impl ProcessMarks {
    fn epoch_s(&self, time_ns: u64) -> f64 {
        self.monotonic_epoch_s + time_ns as f64 / 1e9
    }

    /// Takes what a moment tells.
    fn moment(&mut self, moment: Moment) -> At {
        if let Some(rss) = moment.rss {
            self.reading(rss);
        }
        At {
            time_ns: moment.time_ns,
            rss: self.rss,
        }
    }

    fn reading(&mut self, rss: u64) {
        self.rss = rss;
        for &slot in &self.running {
            let sums = &mut self.functions[slot].sums;
            sums.rss_peak = sums.rss_peak.max(rss);
        }
    }

    fn slot(&mut self, name: &Arc<str>) -> usize {
        if let Some(&slot) = self.slots.get(name) {
            return slot;
        }
        let name = match self.functions.len() {
            0..MAX_FUNCTIONS => Arc::clone(name),
            _ => Arc::from(OTHERS),
        };
        let next = self.functions.len();
        let slot = *self.slots.entry(Arc::clone(&name)).or_insert(next);
        if slot == next {
            self.functions.push(Function {
                sums: MarkedFunction {
                    process: self.process,
                    function: name.to_string(),
                    first_begin_epoch_s: f64::MAX,
                    ..MarkedFunction::default()
                },
                name,
                running: 0,
                since: At::default(),
            });
        }
        slot
    }

    /// False when there are too many open calls for one more.
    fn begin(&mut self, lane: (u32, u64), call: Call) -> bool {
        if self.open >= MAX_OPEN {
            if let Some(lane) = self.lanes.get_mut(&lane) {
                lane.beyond += 1;
            }
            return false;
        }
        self.open += 1;
        self.lanes.entry(lane).or_default().open.push(call);
        let function = &mut self.functions[call.slot];
        function.running += 1;
        if function.running == 1 {
            function.since = call.begin;
            function.sums.rss_peak = function.sums.rss_peak.max(call.begin.rss);
            self.running.push(call.slot);
        }
        true
    }

    /// The innermost call of a function ends, and with it all within it whose ends nobody told.
    /// False when there is none.
    fn end(&mut self, lane: (u32, u64), slot: usize, key: u64, at: At) -> bool {
        let Some(calls) = self.lanes.get_mut(&lane) else {
            return false;
        };
        if calls.beyond > 0 {
            calls.beyond -= 1;
            return true;
        }
        let same = |call: &Call| call.key == key || call.key == 0 || key == 0;
        let is_it = |call: &Call| call.slot == slot && same(call);
        let Some(level) = calls.open.iter().rposition(is_it) else {
            return false;
        };
        let ended: Vec<Call> = calls.open.drain(level..).collect();
        if level == 0 {
            self.lanes.remove(&lane);
        }
        for (depth, call) in ended.into_iter().enumerate().rev() {
            self.close(call, level + depth, at, false);
        }
        true
    }

    /// What is open on a lane beyond this depth has ended some time before.
    fn end_beyond(&mut self, lane: (u32, u64), depth: u32, at: At) {
        let Some(calls) = self.lanes.get_mut(&lane) else {
            return;
        };
        let depth = depth as usize;
        if calls.open.len() <= depth {
            return;
        }
        calls.beyond = 0;
        let ended: Vec<Call> = calls.open.drain(depth..).collect();
        if depth == 0 {
            self.lanes.remove(&lane);
        }
        for (above, call) in ended.into_iter().enumerate().rev() {
            self.close(call, depth + above, at, true);
        }
    }

    /// Ends all open calls here; those that are not `wanted` never were.
    fn close_all(&mut self, at: Moment, wanted: impl Fn(&Call) -> bool) {
        let at = self.moment(at);
        for (_, calls) in std::mem::take(&mut self.lanes) {
            for (level, call) in calls.open.into_iter().enumerate().rev() {
                if wanted(&call) {
                    self.close(call, level, at, true);
                }
            }
        }
        self.open = 0;
        for slot in self.running.drain(..) {
            self.functions[slot].running = 0;
        }
    }

    fn close(&mut self, call: Call, level: usize, at: At, cut: bool) {
        self.open -= 1;
        let begin_epoch_s = self.epoch_s(call.begin.time_ns);
        let end_epoch_s = self.epoch_s(at.time_ns).max(begin_epoch_s);
        let function = &mut self.functions[call.slot];
        function.running -= 1;
        let sums = &mut function.sums;
        if function.running == 0 {
            sums.running_s += seconds(function.since, at);
            sums.rss_delta += difference(function.since, at);
            self.running.retain(|&slot| slot != call.slot);
        }
        let calls = u64::from(!call.resumed);
        sums.calls += calls;
        sums.cut += u64::from(cut);
        sums.first_begin_epoch_s = sums.first_begin_epoch_s.min(begin_epoch_s);
        sums.last_end_epoch_s = sums.last_end_epoch_s.max(end_epoch_s);
        sums.approximate |= call.approximate;
        let row = level.min(MAX_LEVELS - 1);
        if sums.levels.len() <= row {
            sums.levels.resize(row + 1, MarkedLevel::default());
        }
        let on_level = &mut sums.levels[row];
        on_level.calls += calls;
        on_level.total_s += seconds(call.begin, at);
        on_level.rss_delta += difference(call.begin, at);
        let mark = Mark {
            process: self.process,
            function: sums.function.clone(),
            begin_epoch_s,
            end_epoch_s,
            rss_begin: call.begin.rss,
            rss_end: at.rss,
            level: u32::try_from(level).unwrap_or(u32::MAX),
            calls,
            cut,
            approximate: call.approximate,
        };
        self.draw(mark);
    }

    fn draw(&mut self, mark: Mark) {
        self.intervals.push(mark);
        if self.intervals.len() < MAX_INTERVALS {
            return;
        }
        coarsen(
            &mut self.intervals,
            MAX_INTERVALS / 2,
            &mut self.resolution_s,
        );
        if self.intervals.len() > MAX_INTERVALS * 3 / 4 {
            // More functions and levels than there is room for: the outermost stay.
            self.intervals.sort_by_key(|mark| mark.level);
            self.intervals.truncate(MAX_INTERVALS / 2);
        }
    }
}

fn seconds(begin: At, end: At) -> f64 {
    end.time_ns.saturating_sub(begin.time_ns) as f64 / 1e9
}

fn difference(begin: At, end: At) -> i64 {
    end.rss.wrapping_sub(begin.rss) as i64
}

#[cfg(test)]
#[path = "marks_tests.rs"]
mod tests;
