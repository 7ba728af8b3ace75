//! Native code on top of stacks.

use memprof_common::records;

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

    fn native_of(&mut self, growth: &records::Growth) -> Option<u32> {
        let pid = growth.header.pid;
        if growth.ip == 0 || self.model.process_index(pid).is_none() {
            return None;
        }
        let natives = self.natives.as_mut()?;
        natives.at(pid, growth.ip, growth.header.time_ns)
    }
}
