//! Marks of the profile that the goldens show, and any marks.

use memprof_user::model::{Mark, MarkedFunction, MarkedLevel};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{MIB, START, text, time};

pub fn marks() -> Vec<Mark> {
    let mark = |process, function: &str, times: [f64; 2], mib: [u64; 2], level| Mark {
        process,
        function: function.to_owned(),
        begin_epoch_s: START + times[0],
        end_epoch_s: START + times[1],
        rss_begin: mib[0] * MIB,
        rss_end: mib[1] * MIB,
        level,
        calls: 1,
        ..Mark::default()
    };
    vec![
        mark(0, "gunicorn.arbiter.run", [0.0, 2.25], [30, 31], 0),
        mark(1, "service.first", [0.5, 1.5], [30, 50], 0),
        mark(1, "service.build", [0.75, 1.25], [31, 49], 1),
        mark(1, "service.first", [1.75, 2.0], [50, 51], 0),
        mark(2, "service.first", [1.5, 1.75], [30, 46], 0),
        mark(2, "service.<lambda> x", [1.5, 1.625], [30, 29], 1),
    ]
}

pub fn marked() -> Vec<MarkedFunction> {
    let row = |process, function: &str, calls, times: [f64; 3], rss_mib: [i64; 2], level: usize| {
        let mut levels = vec![MarkedLevel::default(); level + 1];
        levels[level] = MarkedLevel {
            calls,
            total_s: times[2],
            rss_delta: rss_mib[0] << 20,
        };
        MarkedFunction {
            process,
            function: function.to_owned(),
            calls,
            cut: 0,
            first_begin_epoch_s: START + times[0],
            last_end_epoch_s: START + times[1],
            running_s: times[2],
            rss_delta: rss_mib[0] << 20,
            rss_peak: (rss_mib[1] as u64) << 20,
            approximate: false,
            levels,
        }
    };
    vec![
        row(0, "gunicorn.arbiter.run", 1, [0.0, 2.25, 2.25], [1, 31], 0),
        row(1, "service.first", 2, [0.5, 2.0, 1.25], [21, 51], 0),
        row(1, "service.build", 1, [0.75, 1.25, 0.5], [18, 49], 1),
        row(2, "service.first", 1, [1.5, 1.75, 0.25], [16, 46], 0),
        row(2, "service.<lambda> x", 1, [1.5, 1.625, 0.125], [-1, 30], 1),
    ]
}

prop_compose! {
    pub fn mark(processes: u32)(
        process in 0..processes,
        function in text(),
        (begin_epoch_s, end_epoch_s) in (time(), time()),
        (rss_begin, rss_end, level) in any::<(u64, u64, u32)>(),
        (calls, cut, approximate) in any::<(u64, bool, bool)>(),
    ) -> Mark {
        Mark {
            process, function, begin_epoch_s, end_epoch_s, rss_begin, rss_end, level, calls, cut,
            approximate,
        }
    }
}

prop_compose! {
    pub fn marked_function(processes: u32)(
        process in 0..processes,
        function in text(),
        (calls, cut, rss_peak) in any::<(u64, u64, u64)>(),
        (first_begin_epoch_s, last_end_epoch_s, running_s) in (time(), time(), time()),
        (rss_delta, approximate) in any::<(i64, bool)>(),
        levels in vec((any::<u64>(), time(), any::<i64>()), 0..3),
    ) -> MarkedFunction {
        MarkedFunction {
            process, function, calls, cut, first_begin_epoch_s, last_end_epoch_s, running_s,
            rss_delta, rss_peak, approximate,
            levels: levels
                .into_iter()
                .map(|(calls, total_s, rss_delta)| MarkedLevel { calls, total_s, rss_delta })
                .collect(),
        }
    }
}
