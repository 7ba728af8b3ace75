//! The truth about copies after a fork: pages that were shared at one stop and are no more at the
//! next one, told by their frames.

use std::collections::{BTreeMap, BTreeSet};

use crate::pages::{Kind, PAGE, PageSet};

/// Bytes of pages that a process shared at the last stop and that have a frame of their own now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Copied {
    /// With one that is still there, and in a frame that nobody of them had.
    pub least: u64,
    /// With anybody. One that is about to end is said to have gone while it still has its pages
    /// (the tracepoint comes before exit_mm since Linux 6.16): whether a page that is written then
    /// was shared is both true and of no interest.
    pub most: u64,
}

impl Copied {
    /// What a process has copied between two looks at the pages of all that may share them. None
    /// when it was not there at the first.
    pub fn between(
        pid: u32,
        before: &BTreeMap<u32, PageSet>,
        after: &BTreeMap<u32, PageSet>,
    ) -> Option<Copied> {
        let was = before.get(&pid)?;
        let mut holders: BTreeMap<u64, Vec<(u32, u64)>> = BTreeMap::new();
        // Content that moved has an old frame. So may a copy: what the dead had is free for it, and
        // what the living gave back since.
        let mut taken: BTreeSet<u64> = BTreeSet::new();
        for (&holder, pages) in before {
            for (&number, page) in pages {
                holders
                    .entry(page.frame)
                    .or_default()
                    .push((holder, number));
            }
            if after.contains_key(&holder) {
                taken.extend(pages.values().map(|page| page.frame));
            }
        }
        let mut copied = Copied::default();
        for (number, now) in after.get(&pid)? {
            let was = was.get(number).filter(|was| was.kind == Kind::Anon);
            let Some(was) = was.filter(|was| now.kind == Kind::Anon && now.frame != was.frame)
            else {
                continue;
            };
            let shared = holders[&was.frame].iter();
            let others = shared.filter(|&&(holder, _)| holder != pid);
            let then = |&(other, number): &(u32, u64)| after.get(&other)?.get(&number);
            // Moved by the kernel (compaction), for all who share it.
            if others
                .clone()
                .filter_map(then)
                .any(|page| page.frame == now.frame)
            {
                continue;
            }
            if holders[&was.frame].len() > 1 {
                let mut others = others.map(|(other, _)| other);
                let sure =
                    !taken.contains(&now.frame) && others.any(|other| after.contains_key(other));
                copied.most += PAGE;
                copied.least += PAGE * u64::from(sure);
            }
        }
        Some(copied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::Page;

    fn pages(frames: &[u64]) -> PageSet {
        let page = |&frame: &u64| Page {
            kind: Kind::Anon,
            frame,
        };
        (0..).zip(frames.iter().map(page)).collect()
    }

    #[test]
    fn a_page_is_copied_when_its_frame_was_shared_and_is_new() {
        let before = BTreeMap::from([
            (1, pages(&[10, 11, 12, 13, 14, 15, 16])),
            (2, pages(&[10, 11, 22, 23, 14, 25, 16])),
            (3, pages(&[30, 31, 32, 13])),
        ]);
        // Page 0 is in a frame of the dead, page 1 was not written, page 2 was nobody else's, page
        // 3 was shared with the dead alone, and page 4 has the frame of page 5: a copy into what was
        // given back, or page 5 in another place. Page 6 was moved by the kernel.
        let after = BTreeMap::from([
            (1, pages(&[30, 11, 40, 41, 15, 42, 46])),
            (2, pages(&[10, 11, 22, 23, 14, 25, 46])),
        ]);
        let copied = Copied::between(1, &before, &after).expect("it was there");
        assert_eq!((copied.least, copied.most), (PAGE, 3 * PAGE));
        assert!(Copied::between(4, &before, &after).is_none());
    }
}
