//! Which process and moment a mark is of, and what the life of a process means for its calls.

use std::sync::Arc;

use memprof_common::records::{self, task_op};

use super::accounting::Model;
use super::marks::Moment;
use super::profile::{Mark, MarkedFunction};
use super::reading::rss_bytes;

impl Model {
    /// A call of the marked function with this name begins or ends.
    pub fn mark(&mut self, mark: &records::Mark, name: &Arc<str>) {
        let (processes, marks, anomalies) = self.mark_parts();
        match processes.live(mark.header.pid) {
            Some(process) => marks.mark(process.index(), mark, name, anomalies),
            None => anomalies.strays += 1,
        }
    }

    /// A function of a process has another name. None: it was not meant, and has had no calls.
    pub fn correct_marks(&mut self, pid: u32, name: &str, instead: Option<&Arc<str>>) {
        let (processes, marks, _) = self.mark_parts();
        if let Some(process) = processes.live(pid) {
            marks.correct(process.index(), name, instead);
        }
    }

    /// To be told before the process itself hears of it: its program ends.
    pub(super) fn marks_before(&mut self, task: &records::Task) {
        let (processes, marks, _) = self.mark_parts();
        let Some(process) = processes.live(task.header.pid) else {
            return;
        };
        match task.header.op {
            // The RSS that the record tells is the new program's.
            task_op::EXEC => marks.exec(
                process.index(),
                Moment {
                    time_ns: task.header.time_ns,
                    rss: None,
                },
            ),
            task_op::EXIT => marks.close(process.index(), moment(task)),
            _ => {}
        }
    }

    /// To be told after: there is a child.
    pub(super) fn marks_after(&mut self, task: &records::Task) {
        // A child that borrows its parent's memory does nothing but execute a program.
        if task.header.op != task_op::FORK || task.shares_memory != 0 {
            return;
        }
        let (processes, marks, _) = self.mark_parts();
        let pid = task.header.pid;
        if let (Some(parent), Some(child)) = (processes.live(task.other), processes.live(pid)) {
            let thread = (parent.index(), task.header.tid);
            // The thread that it begins with has its pid.
            marks.fork(thread, (child.index(), pid), moment(task));
        }
    }

    /// The marks so far, to be taken once, at the end: at this Unix time, in seconds.
    pub fn take_marks(&mut self, epoch_s: f64) -> (Vec<Mark>, Vec<MarkedFunction>) {
        std::mem::take(self.mark_parts().1).finish(epoch_s)
    }
}

fn moment(task: &records::Task) -> Moment {
    Moment {
        time_ns: task.header.time_ns,
        rss: Some(rss_bytes(&task.rss_pages)).filter(|&rss| rss > 0),
    }
}
