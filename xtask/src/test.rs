//! `cargo xtask test`: everything that must hold before a change goes in, in one command.
//!
//! Checks first (format, tidy, clippy), then the tests of the host crates as whoever calls, then
//! the end-to-end tests as root. It installs what they need. A step that fails does not hide the
//! next ones; the closing line counts them all, and under `CI=true` a skip is a failure.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::build_ebpf;
use crate::command;
use crate::greenlets;
use crate::interpreters;
use crate::outcome::Outcome;
use crate::packages;
use crate::setup::{self, Tools};
use crate::tidy;
use crate::venv;
use crate::workspace;

/// What to run.
#[derive(Args)]
pub struct Options {
    /// Only what needs neither root nor the BPF toolchain: checks, unit and golden tests
    #[arg(long)]
    unit: bool,
    /// Only tests whose name holds this; leaves the checks out
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
}

/// Packages of the end-to-end tests: the browser that opens the flame graph, Debian's static
/// CPython, with its library and what uWSGI is built with, the judges of what stays attached.
const TEST_PACKAGES: [&str; 6] = [
    "chromium",
    "python3.11",
    "python3.11-dev",
    "python3-venv",
    "bpftool",
    "linux-perf",
];

/// The crate of the end-to-end tests.
const END_TO_END: &str = "memprof-tests";

/// Environment of the caller that the end-to-end tests need, and that sudo would drop.
const KEPT: [&str; 5] = ["PATH", "HOME", "CI", "PYENV_ROOT", "CARGO_TARGET_DIR"];

/// Runs everything that `options` ask for; an error when something failed.
pub fn run(options: &Options) -> Result<()> {
    let mut outcome = Outcome::default();
    let mut machine = None;
    if !options.unit {
        outcome += step("setup", || {
            machine = Some(Machine::prepare()?);
            Ok(Outcome::default())
        });
    }
    // A filter is for working on one test: the checks would only be in the way.
    if options.filter.is_none() {
        outcome += checks();
    }
    outcome += step("host tests", || host_tests(options.filter.as_deref()));
    if let Some(machine) = machine {
        outcome += step("end-to-end tests", || {
            end_to_end(&machine, options.filter.as_deref())
        });
    }
    println!("{outcome}");
    let strict = env::var("CI").as_deref() == Ok("true");
    if outcome.failed > 0 {
        bail!("something failed; each is named above");
    }
    if !outcome.is_success(strict) {
        bail!("something was skipped, and under CI=true that is a failure");
    }
    Ok(())
}

/// Runs one part; that it could not run counts as one failure and is told at once.
fn step(name: &str, part: impl FnOnce() -> Result<Outcome>) -> Outcome {
    eprintln!("== {name}");
    part().unwrap_or_else(|error| {
        eprintln!("error: {name}: {error:#}");
        Outcome::FAILED
    })
}

fn checks() -> Outcome {
    let passed = |()| Outcome::PASSED;
    let mut outcome = step("lint tools", || lint_tools().map(|()| Outcome::default()));
    outcome += step("format", || format().map(passed));
    outcome += step("tidy", || tidy::check().map(passed));
    outcome += step("clippy", || clippy().map(passed));
    // Without root and toolchain there is nothing to say about the kernel crate.
    if let Ok(tools) = setup::find() {
        outcome += step("clippy of the kernel crate", || kernel_clippy(&tools));
    }
    outcome
}

/// rustfmt and clippy, which rustup's minimal profile leaves out.
fn lint_tools() -> Result<()> {
    let there = ["fmt", "clippy"].iter().all(|tool| {
        command::answer(Command::new(workspace::cargo()).args([tool, "--version"])).is_some()
    });
    if there {
        return Ok(());
    }
    command::run(Command::new("rustup").args(["component", "add", "rustfmt", "clippy"]))
}

fn format() -> Result<()> {
    let fmt = || {
        let mut cargo = Command::new(workspace::cargo());
        cargo.args(["fmt", "--all", "--check", "--manifest-path"]);
        cargo
    };
    command::run(fmt().arg(workspace::root().join("Cargo.toml")))?;
    command::run(fmt().arg(workspace::kernel_crate().join("Cargo.toml")))
}

fn clippy() -> Result<()> {
    command::run(
        Command::new(workspace::cargo())
            .args(["clippy", "--workspace", "--all-targets"])
            .args(["--locked", "--quiet", "--", "-D", "warnings"])
            .current_dir(workspace::root()),
    )
}

/// clippy with the compiler that builds the object: another one cannot read its `core`.
fn kernel_clippy(tools: &Tools) -> Result<Outcome> {
    let Some(mut clippy) = build_ebpf::kernel_clippy(tools) else {
        eprintln!(
            "skipped: no clippy beside {}",
            tools.toolchain.rustc.display()
        );
        return Ok(Outcome::SKIPPED);
    };
    command::run(clippy.args(["--quiet", "--", "-D", "warnings"]))?;
    Ok(Outcome::PASSED)
}

fn host_tests(filter: Option<&str>) -> Result<Outcome> {
    let mut cargo = cargo_test();
    cargo.args(["--workspace", "--exclude", END_TO_END]);
    counted(cargo.args(filter))
}

fn cargo_test() -> Command {
    let mut cargo = Command::new(workspace::cargo());
    cargo
        .args(["test", "--locked", "--no-fail-fast"])
        .current_dir(workspace::root());
    cargo
}

/// What the end-to-end tests run and judge with.
struct Machine {
    binary: PathBuf,
    venv: PathBuf,
    browser: Option<PathBuf>,
}

impl Machine {
    /// Installs and builds it.
    fn prepare() -> Result<Machine> {
        let tools = setup::install()?;
        if packages::available() {
            let names = match setup::is_packaged(&tools) {
                true => [&TEST_PACKAGES[..], &[setup::CLIPPY_PACKAGE]].concat(),
                false => TEST_PACKAGES.to_vec(),
            };
            // A test that lacks one of them says so, and is counted.
            packages::install(&names).unwrap_or_else(|error| eprintln!("warning: {error:#}"));
        }
        // The same holds for an interpreter.
        interpreters::install().unwrap_or_else(|error| eprintln!("warning: {error:#}"));
        let venv = venv::install()?;
        for installed in [venv::install_built(&venv), greenlets::install(&venv)] {
            installed.unwrap_or_else(|error| eprintln!("warning: {error:#}"));
        }
        build_ebpf::build_with(&tools)?;
        Ok(Machine {
            binary: build_command()?,
            venv,
            browser: browser(),
        })
    }

    /// The environment that describes it to the tests; what the caller has set goes before.
    fn environment(&self) -> Vec<(&'static str, OsString)> {
        let browser = self.browser.as_ref().map(|path| ("CHROMIUM", path));
        [("MEMPROF_BIN", &self.binary), ("MEMPROF_VENV", &self.venv)]
            .into_iter()
            .chain(browser)
            .map(|(name, path)| (name, env::var_os(name).unwrap_or_else(|| path.into())))
            .collect()
    }
}

/// Builds the command as users run it, and with the object inside; its path.
pub fn build_command() -> Result<PathBuf> {
    command::run(
        Command::new(workspace::cargo())
            .args(["build", "--release", "--locked", "-p", "memprof-user"])
            .current_dir(workspace::root()),
    )?;
    Ok(workspace::cargo_target().join("release/memprof-ebpf"))
}

fn browser() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    ["chromium", "chromium-browser", "google-chrome"]
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| path.is_file())
}

/// As root: tracing needs it. cargo itself stays with whoever calls, so that nothing in target/
/// comes to belong to root; only the test programs go through sudo.
fn end_to_end(machine: &Machine, filter: Option<&str>) -> Result<Outcome> {
    let environment = machine.environment();
    let mut cargo = cargo_test();
    cargo.args(["-p", END_TO_END]);
    if !command::is_root() {
        cargo.arg("--config").arg(through_sudo(&environment)?);
    }
    counted(cargo.args(filter).envs(environment))
}

/// The cargo setting that runs test programs by sudo, with the environment that it would drop.
fn through_sudo(environment: &[(&str, OsString)]) -> Result<String> {
    let kept = KEPT
        .iter()
        .filter_map(|&name| Some((name, env::var_os(name)?)));
    let mut words = vec!["\"sudo\"".to_owned(), "\"env\"".to_owned()];
    for (name, value) in kept.chain(environment.iter().cloned()) {
        let value = value.into_string().ok();
        let value = value.with_context(|| format!("${name} is not UTF-8"))?;
        // A Rust string is a TOML string as far as paths go.
        words.push(format!("{:?}", format!("{name}={value}")));
    }
    Ok(format!(
        "target.\"cfg(all())\".runner=[{}]",
        words.join(",")
    ))
}

/// Runs a test command, shows its output as it comes, and counts its results.
fn counted(command: &mut Command) -> Result<Outcome> {
    eprintln!("+ {}", command::shown(command));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", command::shown(command)))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut outcome = thread::scope(|scope| {
        let errors = scope.spawn(|| pass_on(stderr, io::stderr()));
        let mut outcome = pass_on(stdout, io::stdout());
        outcome += errors.join().unwrap_or(Outcome::FAILED);
        outcome
    });
    // Did not compile, or a test program died without a closing line.
    if !child.wait()?.success() && outcome.failed == 0 {
        outcome += Outcome::FAILED;
    }
    Ok(outcome)
}

fn pass_on(from: Option<impl Read>, mut to: impl Write) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(from) = from else {
        return outcome;
    };
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        // Whoever reads our output may have gone; the tests go on.
        let _ = to.write_all(&line);
        outcome.read_line(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    outcome
}
