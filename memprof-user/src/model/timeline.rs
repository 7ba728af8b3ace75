//! RSS, and PSS with USS, over time, at a bounded size.
//!
//! When the samples are more than the bound, their resolution is halved: of two neighbouring
//! samples of a process the higher one stays, so that peaks survive any number of halvings.

use std::collections::HashMap;

use super::profile::{Sample, Share};

/// Samples kept at most: at ten a second, the first halving comes after 55 minutes of five
/// processes, and a capture's time line stays below 3 MB.
pub const MAX_SAMPLES: usize = 1 << 17;

/// Readings of PSS and USS kept at most: at one a second, the first halving comes after 1.8 hours
/// of five processes.
pub const MAX_SHARES: usize = 1 << 15;

/// A value of a process at a time.
pub trait Timed: Copy {
    /// Unix time in seconds.
    fn epoch_s(&self) -> f64;
    /// Index of the process.
    fn process(&self) -> u32;
    /// By which of two neighbours the higher one is told.
    fn bytes(&self) -> u64;
}

impl Timed for Sample {
    fn epoch_s(&self) -> f64 {
        self.epoch_s
    }

    fn process(&self) -> u32 {
        self.process
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Timed for Share {
    fn epoch_s(&self) -> f64 {
        self.epoch_s
    }

    fn process(&self) -> u32 {
        self.process
    }

    fn bytes(&self) -> u64 {
        self.pss
    }
}

/// Samples of all processes in order of time.
#[derive(Clone, Debug)]
pub struct Timeline<T> {
    samples: Vec<T>,
    /// Samples of one process that are folded into one.
    stride: u32,
    /// For each process, what was folded since its last kept sample, and how many.
    folding: HashMap<u32, (T, u32)>,
    max_samples: usize,
    /// Length at which the resolution is halved next.
    limit: usize,
}

impl<T: Timed> Default for Timeline<T> {
    fn default() -> Self {
        Timeline::with_capacity_limit(MAX_SAMPLES)
    }
}

impl<T: Timed> Timeline<T> {
    /// A time line of at most `max_samples`.
    pub fn with_capacity_limit(max_samples: usize) -> Self {
        Timeline {
            samples: Vec::new(),
            stride: 1,
            folding: HashMap::new(),
            max_samples,
            limit: max_samples,
        }
    }

    /// Adds a sample.
    pub fn push(&mut self, sample: T) {
        if let Some(sample) = fold(&mut self.folding, self.stride, sample) {
            self.samples.push(sample);
        }
        if self.samples.len() > self.limit {
            self.halve();
        }
    }

    /// The samples, ordered by time.
    pub fn finish(mut self) -> Vec<T> {
        let rest = self.folding.drain().map(|(_, (sample, _))| sample);
        self.samples.extend(rest);
        self.samples.sort_by(|a, b| {
            let order = a.epoch_s().total_cmp(&b.epoch_s());
            order.then(a.process().cmp(&b.process()))
        });
        self.samples
    }

    fn halve(&mut self) {
        self.stride = self.stride.saturating_mul(2);
        let mut folding = HashMap::new();
        let old = std::mem::take(&mut self.samples);
        let kept = old
            .into_iter()
            .filter_map(|sample| fold(&mut folding, 2, sample));
        self.samples = kept.collect();
        // The odd one of each process stays as it is.
        self.samples
            .extend(folding.into_values().map(|(sample, _)| sample));
        // Each process keeps one sample, so a run of very many short-lived ones may need more.
        self.limit = self.max_samples.max(2 * self.samples.len());
    }
}

/// Folds `stride` samples of a process into the highest of them.
fn fold<T: Timed>(folding: &mut HashMap<u32, (T, u32)>, stride: u32, sample: T) -> Option<T> {
    let (highest, count) = folding.entry(sample.process()).or_insert((sample, 0));
    if sample.bytes() > highest.bytes() {
        *highest = sample;
    }
    *count += 1;
    if *count < stride {
        return None;
    }
    folding
        .remove(&sample.process())
        .map(|(highest, _)| highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(process: u32, tick: u32, bytes: u64) -> Sample {
        Sample {
            epoch_s: f64::from(tick),
            process,
            bytes,
            main: process == 0,
        }
    }

    #[test]
    fn a_short_run_keeps_every_sample() {
        let mut timeline = Timeline::default();
        let all: Vec<Sample> = (0..100).map(|tick| sample(tick % 3, tick, 7)).collect();
        all.iter().for_each(|&sample| timeline.push(sample));
        assert_eq!(timeline.finish(), all);
    }

    #[test]
    fn a_process_that_lived_shortly_keeps_a_sample() {
        let mut timeline = Timeline::with_capacity_limit(16);
        (0..1000).for_each(|process| timeline.push(sample(process, process, 5)));
        let processes: Vec<u32> = timeline.finish().iter().map(|s| s.process).collect();
        assert_eq!(processes, (0..1000).collect::<Vec<u32>>());
    }

    #[test]
    fn a_long_run_is_bounded_ordered_and_keeps_the_peak_of_each_process() {
        let mut timeline = Timeline::with_capacity_limit(64);
        for tick in 0..10_000 {
            for process in 0..3 {
                let bytes = if tick == 1234 + process {
                    1 << 30
                } else {
                    1000
                };
                timeline.push(sample(process, tick, bytes));
            }
        }
        let samples = timeline.finish();
        assert!(samples.len() <= 64 + 3, "{} samples", samples.len());
        assert!(samples.len() >= 16, "{} samples", samples.len());
        assert!(samples.is_sorted_by(|a, b| a.epoch_s <= b.epoch_s));
        for process in 0..3 {
            let own = || samples.iter().filter(|sample| sample.process == process);
            let highest = own().max_by_key(|sample| sample.bytes).unwrap();
            assert_eq!(*highest, sample(process, 1234 + process, 1 << 30));
            let last = own().next_back().unwrap();
            assert!(last.epoch_s > 9_000.0, "{last:?}");
        }
    }
}
