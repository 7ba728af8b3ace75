//! `cargo xtask bench --walk`: what one walk of the Python frames costs, by depth.
//!
//! The same faults are traced without a walk, with frames read one by one, and with many at once,
//! in turns; a walk is what they cost more than those without.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Round, Tracer, Workload, python_version, quantile, sorted};

/// Frames on the stack.
const CASES: [&str; 4] = ["touch 5", "touch 15", "touch 50", "touch 200"];

/// Measures and prints a table.
pub fn measure(memprof: &Path, pythons: &[PathBuf], output: &Path, rounds: usize) -> Result<()> {
    println!(
        "| python | case | no walk ns | window: walk ns | quartiles | single reads: walk ns | quartiles |"
    );
    println!("|---|---|---|---|---|---|---|");
    for python in pythons {
        let mut workload = Workload::start(python, &CASES)?;
        let mut traced = |reads| -> Result<Round> {
            let how = ["--frame-reads", reads];
            let tracer = Tracer::attach(memprof, workload.child.id(), output, &how)?;
            let round = workload.round()?;
            tracer.stop()?;
            Ok(round)
        };
        let mut all = Vec::new();
        for _ in 0..rounds {
            all.push([traced("none")?, traced("window")?, traced("single")?]);
        }
        let version = python_version(python);
        for (case, name) in CASES.iter().enumerate() {
            let ns = |round: &[Round; 3], reads: usize| round[reads][case].1;
            let walks = |reads| {
                let more = all.iter().map(|round| ns(round, reads) - ns(round, 0));
                let more = sorted(more.collect());
                let [first, median, third] = [1, 2, 3].map(|quarter| quantile(&more, quarter));
                format!("{median:.0} | {first:.0}-{third:.0}")
            };
            let without = sorted(all.iter().map(|round| ns(round, 0)).collect());
            let without = quantile(&without, 2);
            println!(
                "| {version} | {name} | {without:.0} | {} | {} |",
                walks(1),
                walks(2)
            );
        }
    }
    Ok(())
}
