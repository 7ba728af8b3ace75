//! The functions whose calls are marked by `--func`.

use std::time::Instant;

use memprof_common::records;

use super::Collector;
use crate::error::Result;
use crate::model::StackIndex;
use crate::session::calls::Calls;

impl Collector {
    /// Marks calls from now on.
    pub fn mark_calls(&mut self, calls: Calls) {
        self.calls = calls;
    }

    /// A process runs this interpreter now.
    pub(super) fn python_found(&mut self, pid: u32) {
        self.python_seen = true;
        self.calls.found(pid);
    }

    /// Looks for the functions to mark, and returns what is to be told.
    pub fn find_functions(&mut self) -> Result<Vec<String>> {
        let detector = self.detections.detector();
        self.calls.look_now(&mut self.tables, detector)?;
        Ok(self.calls.news())
    }

    /// Does what is due to find the functions to mark; returns what is to be told.
    pub fn look_for_functions(&mut self) -> Result<Vec<String>> {
        let detections = &self.detections;
        self.calls.give_up(|pid| detections.looks_for(pid));
        let detector = self.detections.detector();
        let result = self.calls.look(&mut self.tables, detector);
        for wrong in self.calls.take_corrections() {
            let instead = wrong.instead.as_ref();
            self.model.correct_marks(wrong.pid, &wrong.name, instead);
        }
        result.map(|()| self.calls.news())
    }

    /// No call is marked any more.
    pub fn stop_marking(&mut self) {
        self.calls.stop();
    }

    /// When a process is to be looked at next, for its interpreter or its functions.
    pub fn next_look(&self) -> Option<Instant> {
        let looks = [self.detections.next_look(), self.calls.next_look()];
        looks.into_iter().flatten().min()
    }

    /// A child has its parent's marked functions, and the calls of the thread that forked it.
    pub(super) fn fork_marks(&mut self, thread: (u32, u32), child: u32) {
        self.mark_names.fork(thread.0, child);
        self.calls.fork(&mut self.tables, thread, child);
    }

    /// The process has executed another program.
    pub(super) fn marks_executed(&mut self, pid: u32) {
        self.calls.executed(&mut self.tables, pid);
        self.forget_marks(pid);
    }

    /// The process has gone, or executed another program. Before its calls are closed.
    pub(super) fn forget_marks(&mut self, pid: u32) {
        self.last_seen(Some(pid));
        self.mark_names.forget(pid);
        self.calls.forget(pid);
    }

    /// A thread grew with this stack: marks for functions that cannot be watched.
    pub(super) fn seen(&mut self, growth: &records::Growth) {
        let header = &growth.header;
        let stack = self.stack_of(header.pid, growth.stack);
        let Some(StackIndex(index)) = stack.filter(|_| self.calls.samples()) else {
            return;
        };
        let (thread, time_ns) = ((header.pid, header.tid), header.time_ns);
        let tables = self.symbols.tables();
        let frames = tables.stacks().get(index as usize);
        let frames = frames.map_or(&[][..], |stack| &stack.frames);
        let functions = frames.iter().filter_map(|&frame| {
            let frame = tables.frames().get(frame as usize)?;
            let function = tables.functions().get(frame.function as usize)?;
            Some((&*function.name, &*function.file, function.first_line))
        });
        let model = &mut self.model;
        self.calls
            .seen(thread, time_ns, index, functions, |mark, name| {
                model.mark(mark, name)
            });
    }

    /// Ends what was marked so, in one process or in all.
    pub(super) fn last_seen(&mut self, pid: Option<u32>) {
        let model = &mut self.model;
        self.calls
            .last_seen(pid, |mark, name| model.mark(mark, name));
    }
}
