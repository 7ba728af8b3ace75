//! Corrections of what was told before: a function is called otherwise, or was not meant.

use std::sync::Arc;

use super::ProcessMarks;
use crate::model::profile::{MarkedFunction, MarkedLevel};

impl ProcessMarks {
    /// The function with this name is called otherwise; if there is one of that name, it is it.
    pub(super) fn rename(&mut self, name: &str, instead: &Arc<str>) {
        if name == &**instead {
            return;
        }
        let Some(slot) = self.slots.remove(name) else {
            return;
        };
        let marks = self.intervals.iter_mut();
        for mark in marks.filter(|mark| mark.function == name) {
            mark.function = instead.to_string();
        }
        let Some(&other) = self.slots.get(instead) else {
            self.slots.insert(Arc::clone(instead), slot);
            let function = &mut self.functions[slot];
            function.name = Arc::clone(instead);
            function.sums.function = instead.to_string();
            return;
        };
        for calls in self.lanes.values_mut() {
            for call in calls.open.iter_mut().filter(|call| call.slot == slot) {
                call.slot = other;
            }
        }
        let merged = std::mem::take(&mut self.functions[slot].sums);
        let (running, since) = (self.functions[slot].running, self.functions[slot].since);
        self.functions[slot].running = 0;
        self.running.retain(|&running| running != slot);
        let function = &mut self.functions[other];
        if function.running == 0 && running > 0 {
            function.since = since;
            self.running.push(other);
        }
        function.running += running;
        add(&mut function.sums, &merged);
    }

    /// The function with this name was not meant: it has had no calls.
    pub(super) fn forget(&mut self, name: &str) {
        let Some(&slot) = self.slots.get(name) else {
            return;
        };
        for calls in self.lanes.values_mut() {
            calls.open.retain(|call| call.slot != slot);
        }
        self.lanes.retain(|_, calls| !calls.open.is_empty());
        self.open = self.lanes.values().map(|calls| calls.open.len()).sum();
        self.running.retain(|&running| running != slot);
        self.intervals.retain(|mark| mark.function != name);
        let function = &mut self.functions[slot];
        function.running = 0;
        // Without levels it is not in the result.
        function.sums = MarkedFunction {
            process: self.process,
            function: function.name.to_string(),
            first_begin_epoch_s: f64::MAX,
            ..MarkedFunction::default()
        };
    }
}

/// The calls of both.
fn add(sums: &mut MarkedFunction, more: &MarkedFunction) {
    sums.calls += more.calls;
    sums.cut += more.cut;
    // A function without calls has no times.
    sums.first_begin_epoch_s = match more.levels.is_empty() {
        true => sums.first_begin_epoch_s,
        false => sums.first_begin_epoch_s.min(more.first_begin_epoch_s),
    };
    sums.last_end_epoch_s = sums.last_end_epoch_s.max(more.last_end_epoch_s);
    sums.running_s += more.running_s;
    sums.rss_delta += more.rss_delta;
    sums.rss_peak = sums.rss_peak.max(more.rss_peak);
    sums.approximate |= more.approximate;
    let levels = sums.levels.len().max(more.levels.len());
    sums.levels.resize(levels, MarkedLevel::default());
    for (level, more) in sums.levels.iter_mut().zip(&more.levels) {
        level.calls += more.calls;
        level.total_s += more.total_s;
        level.rss_delta += more.rss_delta;
    }
}
