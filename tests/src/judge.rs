//! The real mprof, memory-profiler from PyPI, as the judge of a .dat.

use std::path::Path;
use std::process::Command;

use crate::dat::{Dat, Func};
use crate::program::{Ended, Program};

/// `mprof list`, `plot` and `peak`; the answer of peak.
#[track_caller]
pub fn judge(mprof: &Path, dir: &Path, name: &str, dat: &Dat) -> Ended {
    let list = run(mprof, dir, &["list"]);
    assert!(list.stdout.contains(name), "mprof list: {}", list.stdout);
    judge_plot_and_peak(mprof, dir, name, dat)
}

/// `mprof plot` and `peak`; the answer of peak.
#[track_caller]
pub fn judge_plot_and_peak(mprof: &Path, dir: &Path, name: &str, dat: &Dat) -> Ended {
    run(mprof, dir, &["plot", "-o", "plot.png", name]);
    let png = std::fs::read(dir.join("plot.png")).expect("mprof plot writes its picture");
    assert!(png.starts_with(b"\x89PNG"), "mprof plot wrote no PNG");
    let peak = run(mprof, dir, &["peak", name]);
    let expected = format!("{:.3} MiB", dat.peak());
    assert!(
        peak.stdout.contains(&expected),
        "mprof peak, not {expected}: {}",
        peak.stdout
    );
    peak
}

/// `mprof plot --flame`, `plot --slope` and `peak --func` of every function that has a mark.
#[track_caller]
pub fn judge_functions(mprof: &Path, dir: &Path, name: &str, dat: &Dat) {
    for option in ["--flame", "--slope"] {
        run(mprof, dir, &["plot", option, "-o", "functions.png", name]);
        let png = std::fs::read(dir.join("functions.png")).expect("mprof plot writes its picture");
        assert!(png.starts_with(b"\x89PNG"), "plot {option} wrote no PNG");
    }
    let mut functions: Vec<String> = dat.funcs.iter().map(Func::token).collect();
    functions.sort_unstable();
    functions.dedup();
    assert!(!functions.is_empty(), "no function to judge");
    for function in functions {
        let peak = run(mprof, dir, &["peak", "--func", &function, name]);
        let mib = |line: &str| line.split_whitespace().rev().nth(1)?.parse::<f64>().ok();
        let peak = peak.stdout.lines().find_map(mib);
        assert!(peak.is_some(), "no peak of {function}");
    }
}

#[track_caller]
fn run(mprof: &Path, dir: &Path, args: &[&str]) -> Ended {
    Program::start(
        Command::new(mprof)
            .args(args)
            .current_dir(dir)
            .env("MPLBACKEND", "Agg")
            .env("MPLCONFIGDIR", dir.join("matplotlib")),
    )
    .finish()
    .expect_code(0)
}
