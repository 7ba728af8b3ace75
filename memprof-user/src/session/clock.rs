//! The kernel's monotonic clock against the calendar.

use rustix::time::{ClockId, clock_gettime};

/// Seconds of a clock.
fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Unix time now, in seconds.
pub fn epoch_s() -> f64 {
    seconds(ClockId::Realtime)
}

/// Unix time at which the monotonic clock (of the kernel's records) stood at zero.
pub fn monotonic_epoch_s() -> f64 {
    epoch_s() - seconds(ClockId::Monotonic)
}

/// The monotonic clock now, in nanoseconds: the time base of the kernel side's records.
pub fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
