//! The highest memory of a recording, or while a function ran.

use std::collections::BTreeSet;

use super::{Call, Recording, Series};

/// The highest values, in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peaks {
    /// Of the main series; None when it has no value, or its process did not run the function.
    pub main: Option<f64>,
    /// Of each child that has a value, and ran the function, with its label. Not escaped.
    pub children: Vec<(String, f64)>,
}

impl Recording {
    /// The highest value of each series.
    pub fn peaks(&self) -> Peaks {
        let peak = |series: &Series| series.peak().map(|point| point.bytes);
        let children = self.children.iter();
        let children = children.filter_map(|child| Some((child.label.clone(), peak(child)?)));
        Peaks {
            main: peak(&self.main),
            children: children.collect(),
        }
    }

    /// The highest value of each process while it ran a function: of its samples during the
    /// calls, and of what the calls themselves say of their begin and end. A short call has no
    /// sample, and mprof then no answer. The second part has the whole names of the functions
    /// that are meant by `name`, as [`Call::is_named`] says; an exact name means only itself.
    pub fn peaks_in(&self, name: &str) -> (Peaks, BTreeSet<String>) {
        let exactly = |call: &&Call| call.function == name;
        let by_end = |call: &&Call| call.is_named(name);
        let mut calls: Vec<&Call> = self.calls.iter().filter(exactly).collect();
        if calls.is_empty() {
            calls = self.calls.iter().filter(by_end).collect();
        }
        let mut peaks = Peaks::default();
        let mut children: Vec<(Option<u32>, f64)> = Vec::new();
        for call in &calls {
            let peak = self.peak_during(call);
            match children.iter_mut().find(|(pid, _)| *pid == call.pid) {
                _ if call.pid.is_none() => peaks.main = Some(peaks.main.unwrap_or(0.0).max(peak)),
                Some((_, highest)) => *highest = highest.max(peak),
                None => children.push((call.pid, peak)),
            }
        }
        let label = |pid: Option<u32>| match self.children.iter().find(|child| child.pid == pid) {
            Some(child) => child.label.clone(),
            None => pid.unwrap_or(0).to_string(),
        };
        let children = children.into_iter();
        peaks.children = children.map(|(pid, peak)| (label(pid), peak)).collect();
        let functions = calls.iter().map(|call| call.function.clone());
        (peaks, functions.collect())
    }

    fn peak_during(&self, call: &Call) -> f64 {
        let ends = match (call.pid, call.own_bytes) {
            // The main series may be the sum over all processes.
            (None, _) | (_, None) => [call.begin.bytes, call.end.bytes],
            (Some(_), Some(own)) => match self.series_of(call) {
                // These are RSS.
                Some(series) if self.metric.as_deref().is_some_and(|metric| metric != "rss") => {
                    [call.begin, call.end].map(|end| series.at(end.epoch_s))
                }
                _ => own,
            },
        };
        let samples = self.series_of(call);
        let samples = samples.map(|series| series.between(call.begin.epoch_s, call.end.epoch_s));
        let samples = samples.unwrap_or(&[]).iter().map(|point| point.bytes);
        samples.chain(ends).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::read_dat;

    const MIB: f64 = (1 << 20) as f64;

    fn recording() -> Recording {
        let text = "CMDLINE app\n\
            MEM 10.000000 100.0000\nCHLD 7 3.000000 100.0000\n\
            MEM 30.000000 101.0000\nCHLD 7 9.000000 101.0000\n\
            MEM 20.000000 102.0000\nCHLD 7 4.000000 102.0000\n\
            FUNC app.a.run 10.0000 100.5000 25.0000 101.5000 0\n\
            FUNC app.short 21.5000 101.7000 21.0000 101.8000 0\n\
            FUNC 7/app.b.run 29.0000 101.6000 20.0000 102.5000 1 pid=7 rss0=7340032 rss1=1048576\n";
        read_dat(text.as_bytes()).unwrap().unwrap()
    }

    fn children(of: &[(&str, f64)]) -> Vec<(String, f64)> {
        of.iter()
            .map(|(label, mib)| (label.to_string(), mib * MIB))
            .collect()
    }

    #[test]
    fn without_a_function_each_series_has_its_own() {
        let peaks = recording().peaks();
        assert_eq!(peaks.main, Some(30.0 * MIB));
        assert_eq!(peaks.children, children(&[("7", 9.0)]));
        assert_eq!(Recording::default().peaks(), Peaks::default());
    }

    #[test]
    fn in_a_function_only_what_was_while_it_ran() {
        let (peaks, functions) = recording().peaks_in("a.run");
        assert_eq!(peaks.main, Some(30.0 * MIB));
        assert!(peaks.children.is_empty());
        assert_eq!(functions, BTreeSet::from(["app.a.run".to_owned()]));
        let (peaks, _) = recording().peaks_in("short");
        assert_eq!(peaks.main, Some(21.5 * MIB), "no sample: its own ends");
    }

    #[test]
    fn a_child_is_measured_by_its_own_memory() {
        let (peaks, _) = recording().peaks_in("app.b.run");
        assert_eq!(peaks.main, None);
        assert_eq!(peaks.children, children(&[("7", 7.0)]));
        let mut pss = recording();
        pss.metric = Some("pss".to_owned());
        let (peaks, _) = pss.peaks_in("app.b.run");
        // Between 9 MiB at 101 s and 4 MiB at 102 s; its own values are of another kind.
        let [(_, bytes)] = &peaks.children[..] else {
            panic!("{peaks:?}")
        };
        assert!((bytes / MIB - 6.0).abs() < 1e-6, "{bytes}");
        let (peaks, functions) = recording().peaks_in("run");
        assert_eq!(functions.len(), 2, "both are meant");
        assert_eq!(peaks.main, Some(30.0 * MIB));
        assert_eq!(peaks.children.len(), 1);
        assert!(recording().peaks_in("none").1.is_empty());
    }
}
