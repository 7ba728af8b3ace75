//! How much of the time may go into work that helps and that nobody waits for.

/// How much time may go into something.
pub struct Allowance {
    /// Of the time that passes, one part in so many.
    pub share: u64,
    /// So much of it is saved up at most.
    pub saved_ns: u64,
}

/// Until when an allowance is used up; 0: it is whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct UsedTo(pub u64);

impl UsedTo {
    /// True when something may be done now.
    pub fn allows(self, now_ns: u64) -> bool {
        self.0 <= now_ns
    }

    /// Something took this time.
    pub fn charge(&mut self, allowance: &Allowance, begin_ns: u64, end_ns: u64) {
        let time = end_ns
            .saturating_sub(begin_ns)
            .saturating_mul(allowance.share);
        let saved = begin_ns.saturating_sub(allowance.saved_ns * allowance.share);
        self.0 = self.0.max(saved).saturating_add(time);
    }
}
