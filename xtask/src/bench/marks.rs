//! `cargo xtask bench --marks`: what a marked call costs, by `@profile` under memprof-ebpf and under
//! mprof, and by `--func`, in turns.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{parsed, quantile, sorted};
use crate::command;
use crate::venv;
use crate::workspace;

/// Calls a round. mprof keeps every call in memory and takes 1000 times as long.
const CALLS: [&str; 2] = ["20000", "1000"];

/// Measures with the interpreter of the venv, which has mprof, and prints a table.
pub fn run(memprof: &Path, folder: &Path, pairs: usize) -> Result<()> {
    let venv = venv::install()?;
    let python = venv.join("bin/python");
    let script = workspace::root().join("xtask/bench/marks.py");
    let out = folder.join("marks");
    let ours = |options: &[&str], words: &[&str]| {
        let mut ours = Command::new(memprof);
        ours.args(["run", "--quiet", "--force", "-o"]).arg(&out);
        ours.args(options).arg("--").arg(&python).arg(&script);
        ours.arg(CALLS[0]).args(words);
        ours
    };
    let decorated = ours(&[], &[]);
    let watched = ours(&["--func", "__main__.watched"], &["watched"]);
    let mut mprof = Command::new(&python);
    mprof
        .arg(venv.join("bin/mprof"))
        .args(["run", "--python", "-o"]);
    mprof
        .arg(out.with_extension("mprof"))
        .arg(&script)
        .arg(CALLS[1]);
    let mut rows = [
        ("`@profile` under memprof-ebpf run", decorated, Vec::new()),
        ("`@profile` under mprof run --python", mprof, Vec::new()),
        ("memprof-ebpf run --func", watched, Vec::new()),
    ];
    for _ in 0..pairs {
        for (_, command, rounds) in &mut rows {
            rounds.push(call_ns(command)?);
        }
    }
    println!("| a call marked by | ns | quartiles |");
    println!("|---|---|---|");
    for (name, _, rounds) in rows {
        let rounds = sorted(rounds);
        let [first, median, third] = [1, 2, 3].map(|quarter| quantile(&rounds, quarter));
        println!("| {name} | {median:.0} | {first:.0}-{third:.0} |");
    }
    Ok(())
}

/// The median of one run.
fn call_ns(command: &mut Command) -> Result<f64> {
    let name = command::shown(command);
    let output = command
        .output()
        .with_context(|| format!("cannot start `{name}`"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find(|line| line.starts_with("{\"call\""));
    let round = line
        .and_then(parsed)
        .and_then(|round| round.into_iter().next());
    let (_, median) = round.with_context(|| {
        format!(
            "`{name}` said {said}{}",
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    Ok(median)
}
