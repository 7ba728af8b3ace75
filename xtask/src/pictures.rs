//! `cargo xtask pictures`: remakes the plots in docs/ by the command itself, from the service of
//! the tests.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::build_ebpf;
use crate::command;
use crate::setup;
use crate::test;
use crate::venv;
use crate::workspace;

/// Pairs of requests that overlap.
const ROUNDS: usize = 3;

/// A service on a loaded machine takes its time to import.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the pictures are named after: the command without the paths of this machine.
const TITLE: &str = "gunicorn -w 2 -k gevent service:app";

/// Functions of the service whose calls are marked, outermost first.
const FUNCTIONS: [&str; 4] = [
    "service.handle",
    "service.first",
    "service.second",
    "service.build",
];

/// Traces the service while it is asked for something, and draws what was recorded.
pub fn run() -> Result<()> {
    build_ebpf::build_with(&setup::install()?)?;
    let memprof = test::build_command()?;
    let folder = workspace::target().join("pictures");
    std::fs::create_dir_all(&folder)?;
    record(&memprof, &folder)?;
    let plot = |output: &str, flags: &[&str]| {
        let mut plot = Command::new(&memprof);
        plot.arg("plot").arg(folder.join("service.memprof"));
        plot.args(["--force", "--title", TITLE]).args(flags);
        plot.arg("-o")
            .arg(workspace::root().join("docs").join(output));
        command::run(&mut plot)
    };
    plot("plot.png", &["--no-function-ts"])?;
    let window = calls(&folder.join("service.dat"))?;
    plot("plot-flame.png", &["--flame", "--window", &window])
}

/// From the first call of a marked function to the last, with a little around them, in seconds
/// from the first sample: names need room, and nothing is called while the service starts.
fn calls(dat: &Path) -> Result<String> {
    const AROUND_S: f64 = 0.3;
    let text = std::fs::read_to_string(dat)?;
    let column = |keyword: &str, column: usize| -> Vec<f64> {
        let lines = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let lines = lines.filter(|words| words[0] == keyword);
        let numbers = lines.filter_map(|words| words.get(column)?.parse().ok());
        numbers.collect()
    };
    let lowest = |numbers: Vec<f64>| numbers.into_iter().reduce(f64::min);
    let highest = |numbers: Vec<f64>| numbers.into_iter().reduce(f64::max);
    let start = lowest(column("MEM", 2)).context("a recording without a sample")?;
    let begin = lowest(column("FUNC", 3)).context("a recording without a call")?;
    let end = highest(column("FUNC", 5)).context("a recording without a call")?;
    let (begin, end) = (begin - start - AROUND_S, end - start + AROUND_S);
    Ok(format!("{:.1},{end:.1}", begin.max(0.0)))
}

fn record(memprof: &Path, folder: &Path) -> Result<()> {
    ensure!(
        command::is_root(),
        "tracing needs root: sudo -E cargo xtask pictures"
    );
    let programs = venv::install()?.join("bin");
    let address = free_address()?;
    let mut run = Command::new(memprof);
    run.args(["run", "--force", "-o"])
        .arg(folder.join("service"));
    for function in FUNCTIONS {
        run.args(["--func", function]);
    }
    run.arg("--")
        .arg(programs.join("python"))
        .arg(programs.join("gunicorn"));
    run.args(["-w", "2", "-k", "gevent", "--no-control-socket", "-b"]);
    run.arg(address.to_string()).arg("--chdir");
    run.arg(workspace::root().join("tests/workloads"))
        .arg("service:app");
    run.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    // A group of its own, for the signal at the end.
    run.process_group(0);
    eprintln!("+ {}", command::shown(&run));
    let mut run = run.spawn().context("cannot start memprof-ebpf")?;
    let asked = ask(address, &mut run);
    // Ctrl-C, as a terminal gives it: to the service and the tracer alike.
    let id = run.id().to_string();
    let interrupt = ["-c", "kill -s INT -- -$0", &id];
    if let Err(error) = command::run(Command::new("sh").args(interrupt)) {
        run.kill()?;
        return Err(error);
    }
    let ended = run.wait()?;
    asked?;
    ensure!(ended.success(), "memprof-ebpf run ended with {ended}");
    Ok(())
}

/// The requests: two at a time, each in two functions that hold memory while they wait, and one
/// that leaks.
fn ask(address: SocketAddr, run: &mut Child) -> Result<()> {
    let begin = Instant::now();
    while get(address, "/leak").is_err() {
        ensure!(run.try_wait()?.is_none(), "the service has ended");
        ensure!(begin.elapsed() < PATIENCE, "the service does not answer");
        thread::sleep(Duration::from_millis(100));
    }
    for _ in 0..ROUNDS {
        let other = thread::spawn(move || get(address, "/test"));
        // Half of the first function's wait: their boxes overlap.
        thread::sleep(Duration::from_millis(150));
        get(address, "/test")?;
        match other.join() {
            Ok(answered) => answered?,
            Err(_) => bail!("a request panicked"),
        }
        get(address, "/leak")?;
    }
    Ok(())
}

fn get(address: SocketAddr, path: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    Ok(())
}

/// An address that nobody uses at this moment.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
