//! `cargo xtask bench`: what tracing adds to a page fault, in pairs and as ratios.
//!
//! A machine's speed drifts and its neighbours are noisy, so a number of nanoseconds means
//! little. The same loop of the same process runs untraced and traced in turns, each pair gives
//! one ratio, and the median of the ratios is told with its quartiles. The clock is the thread's
//! own CPU time.

mod walk;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

mod marks;

use crate::build_ebpf;
use crate::command;
use crate::setup;
use crate::test;
use crate::workspace;

/// What to measure.
#[derive(Args)]
pub struct Options {
    /// Interpreters to measure [default: each of 3.10 to 3.13 that pyenv or the PATH has]
    #[arg(long, value_name = "PYTHON")]
    python: Vec<PathBuf>,
    /// Pairs of an untraced and a traced round
    #[arg(long, default_value_t = 9)]
    pairs: usize,
    /// Measure one walk by depth instead: frames read in bulk against one by one
    #[arg(long)]
    walk: bool,
    /// A memprof-ebpf to measure instead of this one, for before and after
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Measure calls of decorated functions, side by side with mprof
    #[arg(long)]
    marks: bool,
}

/// Minor versions measured by default.
const VERSIONS: [&str; 4] = ["3.10", "3.11", "3.12", "3.13"];

/// Cases of `bench/faults.py` in the table of whole faults.
const CASES: [&str; 5] = ["touch 5", "touch 15", "touch 50", "fill 15", "fill 50"];

/// Measures and prints a table.
pub fn run(options: &Options) -> Result<()> {
    ensure!(
        command::is_root(),
        "tracing needs root\nhint: sudo env PATH=\"$PATH\" cargo xtask bench"
    );
    let memprof = match &options.binary {
        Some(binary) => binary.clone(),
        None => {
            build_ebpf::build_with(&setup::find()?)?;
            test::build_command()?
        }
    };
    let folder = workspace::target().join("bench");
    fs::create_dir_all(&folder)?;
    if options.marks {
        return marks::run(&memprof, &folder, options.pairs);
    }
    let pythons = match options.python.is_empty() {
        true => VERSIONS.iter().filter_map(|v| interpreter(v)).collect(),
        false => options.python.clone(),
    };
    ensure!(
        !pythons.is_empty(),
        "no CPython 3.10 to 3.13\nhint: cargo xtask bench --python PATH"
    );
    let output = folder.join("out");
    if options.walk {
        return walk::measure(&memprof, &pythons, &output, options.pairs);
    }
    println!("| python | case | bare ns | added ns | ratio | quartiles |");
    println!("|---|---|---|---|---|---|");
    for python in pythons {
        measure(&memprof, &python, &output, options.pairs)?;
    }
    Ok(())
}

fn measure(memprof: &Path, python: &Path, output: &Path, pairs: usize) -> Result<()> {
    let mut traced = Workload::start(python, &CASES)?;
    let mut bystander = Workload::start(python, &CASES)?;
    let mut cases: Vec<Case> = Vec::new();
    for _ in 0..pairs {
        let bare = (traced.round()?, bystander.round()?);
        let tracer = Tracer::attach(memprof, traced.child.id(), output, &[])?;
        let with = (traced.round()?, bystander.round()?);
        tracer.stop()?;
        let (target, beside) = (
            pair(bare.0, with.0, ""),
            pair(bare.1, with.1, " (untraced)"),
        );
        for (name, bare_ns, with_ns) in target.chain(beside) {
            let at = cases.iter().position(|case| case.name == name);
            let at = at.unwrap_or_else(|| {
                cases.push(Case::new(name));
                cases.len() - 1
            });
            cases[at].pairs.push((bare_ns, with_ns));
        }
    }
    let version = python_version(python);
    for case in &cases {
        println!("| {version} {}", case.row());
    }
    Ok(())
}

/// The two measurements of each case of one pair.
fn pair(bare: Round, with: Round, suffix: &str) -> impl Iterator<Item = (String, f64, f64)> {
    bare.into_iter()
        .zip(with)
        .map(move |((name, bare), (_, with))| (format!("{name}{suffix}"), bare, with))
}

/// One case of the table.
struct Case {
    name: String,
    pairs: Vec<(f64, f64)>,
}

impl Case {
    fn new(name: String) -> Case {
        Case {
            name,
            pairs: Vec::new(),
        }
    }

    fn row(&self) -> String {
        let of = |f: fn(&(f64, f64)) -> f64| sorted(self.pairs.iter().map(f).collect());
        let ratios = of(|(bare, with)| with / bare);
        format!(
            "| {} | {:.0} | {:.0} | {:.3} | {:.3}-{:.3} |",
            self.name,
            quantile(&of(|(bare, _)| *bare), 2),
            quantile(&of(|(bare, with)| with - bare), 2),
            quantile(&ratios, 2),
            quantile(&ratios, 1),
            quantile(&ratios, 3),
        )
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// The value at `quarter` quarters of sorted values.
fn quantile(sorted: &[f64], quarter: usize) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((last * quarter + 2) / 4)
        .copied()
        .unwrap_or(f64::NAN)
}

/// A case's name and its median, in the order of the workload.
type Round = Vec<(String, f64)>;

/// `bench/faults.py`, waiting for rounds.
struct Workload {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Workload {
    fn start(python: &Path, cases: &[&str]) -> Result<Workload> {
        let mut child = Command::new(python)
            .arg(workspace::root().join("xtask/bench/faults.py"))
            .args(cases)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", python.display()))?;
        let input = child.stdin.take().context("no stdin")?;
        let output = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut workload = Workload {
            child,
            input,
            output,
        };
        // The first round is for the allocator and the caches.
        workload.round()?;
        Ok(workload)
    }

    fn round(&mut self) -> Result<Round> {
        self.input.write_all(b"round\n")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        parsed(&line).with_context(|| format!("the workload said {line:?}"))
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads `{"touch 5": [1.5, 2.5], …}`.
fn parsed(line: &str) -> Option<Round> {
    let inner = line.trim().strip_prefix('{')?.strip_suffix('}')?;
    let cases = inner.split_terminator(']');
    cases
        .map(|case| {
            let (name, values) = case.trim_start_matches([',', ' ']).split_once(": [")?;
            let values: Option<Vec<f64>> =
                values.split(", ").map(|value| value.parse().ok()).collect();
            let name = name.trim_matches('"').to_owned();
            Some((name, quantile(&sorted(values?), 2)))
        })
        .collect()
}

/// `memprof-ebpf trace`, attached.
struct Tracer {
    child: Child,
    messages: BufReader<ChildStderr>,
}

impl Tracer {
    fn attach(memprof: &Path, pid: u32, output: &Path, more: &[&str]) -> Result<Tracer> {
        let mut child = Command::new(memprof)
            .args(["trace", "--force", "-p", &pid.to_string(), "-o"])
            .arg(output)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", memprof.display()))?;
        let mut messages = BufReader::new(child.stderr.take().context("no stderr")?);
        let mut said = String::new();
        loop {
            let from = said.len();
            if messages.read_line(&mut said)? == 0 {
                bail!("the tracer ended: {said}");
            }
            if said[from..].contains("attached to") {
                return Ok(Tracer { child, messages });
            }
        }
    }

    fn stop(mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        command::answer(Command::new("kill").args(["-INT", &pid])).context("kill failed")?;
        let mut said = String::new();
        self.messages.read_to_string(&mut said)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the tracer failed ({status}): {said}");
        Ok(())
    }
}

/// pyenv's newest of this minor version, else the PATH's.
fn interpreter(version: &str) -> Option<PathBuf> {
    let root = env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".pyenv")))?;
    let named = format!("{version}.");
    let mut found: Vec<PathBuf> = fs::read_dir(root.join("versions"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&named))
        .map(|entry| entry.path().join("bin/python3"))
        .collect();
    found.sort();
    found.pop().or_else(|| {
        let folders = env::var_os("PATH")?;
        env::split_paths(&folders)
            .map(|folder| folder.join(format!("python{version}")))
            .find(|path| path.is_file())
    })
}

fn python_version(python: &Path) -> String {
    let code = "import platform; print(platform.python_version())";
    command::answer(Command::new(python).args(["-c", code])).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_rounds() {
        let round = parsed("{\"touch 5\": [3.5, 1.5, 2.5], \"fill 15\": [7.0]}\n");
        let expected = vec![("touch 5".to_owned(), 2.5), ("fill 15".to_owned(), 7.0)];
        assert_eq!(round, Some(expected));
        assert_eq!(parsed("Traceback"), None);
    }

    #[test]
    fn takes_quartiles() {
        let values = sorted(vec![5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!([1, 2, 3].map(|q| quantile(&values, q)), [2.0, 3.0, 4.0]);
        assert!(quantile(&[], 2).is_nan());
    }
}
