//! Native code on top of stacks.

use memprof_common::records::{self, task_op};

use super::Collector;
use crate::model::{Caller, StackIndex};

impl Collector {
    /// Who made the pages of a record resident: its Python stack, if that came, with the native
    /// code on top that did it, if the user wants to know.
    pub(super) fn caller(&mut self, growth: &records::Growth) -> Caller {
        let python = self.stack_of(growth.header.pid, growth.stack);
        match self.native_of(growth) {
            None => python.into(),
            Some(native) => {
                let below = python.unwrap_or(StackIndex::EMPTY);
                let tables = self.symbols.tables_mut();
                let stack = StackIndex(tables.under_native(below.0, native));
                match python {
                    Some(_) => Caller::Python(stack),
                    None => Caller::Bare(stack),
                }
            }
        }
    }

    /// A process began, changed its program, or ended.
    pub(super) fn task_of_natives(&mut self, task: &records::Task) {
        let (Some(natives), pid) = (&mut self.natives, task.header.pid) else {
            return;
        };
        match task.header.op {
            task_op::FORK => natives.fork(task.other, pid),
            task_op::EXEC => natives.exec(pid),
            task_op::EXIT => natives.forget(pid),
            _ => {}
        }
    }

    fn native_of(&mut self, growth: &records::Growth) -> Option<u32> {
        let pid = growth.header.pid;
        if growth.ip == 0 || self.model.process_index(pid).is_none() {
            return None;
        }
        let natives = self.natives.as_mut()?;
        natives.at(pid, growth.ip, growth.header.time_ns)
    }
}
