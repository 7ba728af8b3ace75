//! What the model was told that does not fit what it knows: one counter a kind.
//!
//! None of it changes amounts silently: each counter is part of the result, like the kernel
//! side's own.

/// Counters of what did not make sense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anomalies {
    /// Records that name a process which was not known.
    pub strays: u64,
    /// Bytes that became resident where the model believed them resident already: their release
    /// was not seen (reclaim, a lost record). They were credited to their old owners as freed.
    pub displaced_bytes: u64,
    /// Growth whose range contradicts its number of pages; counted without a place.
    pub misplaced: u64,
    /// Growth of what is not resident memory (swap entries).
    pub not_resident: u64,
    /// Records whose op is not known.
    pub unknown_ops: u64,
    /// Ends of marked calls that did not begin.
    pub marks_without_begin: u64,
    /// Marked calls that were not kept: too many were open.
    pub marks_too_deep: u64,
}

impl Anomalies {
    /// Those that are not zero, by the name that outputs show.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let rows = [
            ("records of unknown processes", self.strays),
            ("bytes released unseen", self.displaced_bytes),
            ("growth records misplaced", self.misplaced),
            ("growth records not resident", self.not_resident),
            ("records of unknown meaning", self.unknown_ops),
            ("marks without a begin", self.marks_without_begin),
            ("marks nested too deep", self.marks_too_deep),
        ];
        rows.into_iter().filter(|&(_, count)| count > 0)
    }
}
