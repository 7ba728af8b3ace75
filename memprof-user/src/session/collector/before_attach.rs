//! What a process has resident when it is entered, and with whom it shares that.

use super::Collector;
use crate::model::PageKind;
use crate::session::clock;
use crate::target::pagemap::{self, Sole};
use crate::target::{Mappings, Pagemap, Target, children, is_on_tmpfs};

impl Collector {
    /// Notes what a process that was just entered has resident. What grows meanwhile has a record
    /// too, and the record wins. Without the page tables (no privilege, gone) nothing is noted.
    pub fn look_before_attach(&mut self, pid: u32) {
        let read_ns = clock::monotonic_ns();
        let Ok(mappings) = Mappings::read(pid) else {
            return;
        };
        self.files.attach(pid, &mappings, read_ns);
        if let Some(natives) = &mut self.natives {
            natives.attach(pid, &mappings, read_ns);
        }
        let Ok(mut pages) = Pagemap::open(pid) else {
            return;
        };
        let model = &mut self.model;
        let mut anon = Vec::new();
        // An error: the process has gone in the middle; its end is told by a record.
        let _ = pages.address_space(&mappings, &[pagemap::EVERYWHERE], |mapping, run| {
            let kind = match run.kind {
                pagemap::PageKind::Anon => PageKind::Anon,
                pagemap::PageKind::File if is_on_tmpfs(pid, mapping) => PageKind::Shmem,
                pagemap::PageKind::File => PageKind::File,
                _ => return,
            };
            if kind == PageKind::Anon {
                anon.push(run.start..run.end);
            }
            model.was_resident(pid, run.start..run.end, kind);
        });
        let parent = model.process(pid).map(|process| process.ppid);
        let parent_is_traced = parent.is_some_and(|parent| model.process(parent).is_some());
        let has_untraced_parent = !parent_is_traced
            && Target::open(pid)
                .and_then(|target| target.is_copy_of_parent())
                .unwrap_or(false);
        let has_relatives = parent_is_traced || has_untraced_parent || !children(pid).is_empty();
        if has_relatives && let Ok(mut sole) = Sole::open(pid) {
            for range in anon {
                let _ = sole.pages(range, |alone| model.was_alone(pid, alone));
            }
            if has_untraced_parent {
                model.shares_with_untraced_parent(pid);
            }
        }
    }
}
