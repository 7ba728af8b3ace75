//! `cargo xtask bench --walk`: what one walk of the Python frames costs, by depth.
//!
//! The same faults are traced without a walk, with frames read many at once, and one by one: three
//! processes with a tracer each, in turns. A walk is what they cost more than those without. The
//! hooks of the other two tracers are in all three, and so in no difference.

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
        let mut traced = Vec::new();
        for reads in ["none", "window", "single"] {
            let workload = Workload::start(python, &CASES)?;
            let (pid, output) = (workload.child.id(), output.with_extension(reads));
            let tracer = Tracer::attach(memprof, pid, &output, &["--frame-reads", reads])?;
            traced.push((workload, tracer));
        }
        let mut all = Vec::new();
        for _ in 0..rounds {
            let rounds = traced.iter_mut().map(|(workload, _)| workload.round());
            all.push(rounds.collect::<Result<Vec<Round>>>()?);
        }
        for (_, tracer) in traced {
            tracer.stop()?;
        }
        let version = python_version(python);
        for (case, name) in CASES.iter().enumerate() {
            let ns = |round: &Vec<Round>, reads: usize| round[reads][case].1;
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
