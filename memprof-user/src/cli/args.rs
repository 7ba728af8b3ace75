//! What can be typed. Parsed here, resolved by each verb.

mod plot;
mod recordings;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::bpf::FrameReads;
use crate::python::Pattern;
use crate::session::{OnTrigger, SessionOptions, Trigger, bytes};
use crate::sink::{DatOptions, Metric, View};

pub use plot::{PictureBackend, PlotArgs};
pub use recordings::{CleanArgs, PeakArgs, RmArgs};

/// Which Python function, on which line, in which forked worker, made RSS grow.
#[derive(Parser, Debug)]
#[command(name = "memprof-ebpf", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Attach to running processes; until Ctrl-C, -d, or all targets have exited
    Trace(TraceArgs),
    /// Start a command and trace it
    Run(RunArgs),
    /// The same as trace, for a pid or a name
    Attach(AttachArgs),
    /// Who made memory grow, from a capture
    Report(ReportArgs),
    /// memory_profiler's table for any function of a capture, line by line
    Lines(LinesArgs),
    /// A flame graph from a capture
    Flamegraph(FlamegraphArgs),
    /// The recordings in this folder, with their numbers
    List,
    /// The highest memory of a recording, and of each child
    Peak(PeakArgs),
    /// Memory over time, with the marks of functions, from recordings
    Plot(PlotArgs),
    /// Remove recordings, with all files of the same run
    Rm(RmArgs),
    /// Remove all recordings of this folder that have default names
    Clean(CleanArgs),
    /// The memory and the Python stacks of running processes, once, without tracing
    Snapshot(SnapshotArgs),
    /// What this kernel, these privileges and this Python allow, and what mends it
    Doctor(DoctorArgs),
}

#[derive(Args, Debug)]
pub struct TraceArgs {
    /// Process to trace; repeatable, comma lists too
    #[arg(short, long = "pid", value_name = "PID", required = true, value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..))]
    pub pids: Vec<u32>,
    #[command(flatten)]
    pub common: CommonArgs,
}

#[derive(Args, Debug)]
pub struct AttachArgs {
    /// A pid, or a part of the name of a process
    #[arg(value_name = "PID|NAME")]
    pub target: String,
    #[command(flatten)]
    pub common: CommonArgs,
}

#[derive(Args, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    /// Exit with the program's exit code
    #[arg(short = 'E', long)]
    pub exit_code: bool,
    /// Interpreter for a FILE.py, `--python EXE` too [default: python3]; without EXE, as for mprof:
    /// run a script or a module with Python
    #[arg(long, value_name = "EXE", num_args = 0..=1, require_equals = true)]
    pub python: Option<Option<OsString>>,
    /// Run a FILE.py as any other program
    #[arg(long, conflicts_with = "python")]
    pub nopython: bool,
    /// mprof's way to say attach: CMD is a pid or a name
    #[arg(short, long, conflicts_with_all = ["exit_code", "as_user", "python", "nopython"])]
    pub attach: bool,
    /// Run the program as the user who called sudo
    #[arg(long)]
    pub as_user: bool,
    /// The command and its arguments, passed through untouched
    #[arg(
        value_name = "CMD",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<OsString>,
}

/// What trace, run and attach have in common.
#[derive(Args, Debug)]
pub struct CommonArgs {
    /// End the trace after so many seconds
    #[arg(short, long, value_name = "SEC", value_parser = seconds)]
    pub duration: Option<Duration>,
    /// mprof's name for --duration; a program that runs goes on
    #[arg(short, long, value_name = "SEC", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// Time between two samples of RSS
    #[arg(short = 'T', long, value_name = "SEC", default_value = "0.1", value_parser = seconds)]
    pub interval: Duration,
    /// A CHLD line for each descendant (the default)
    #[arg(short = 'M', long, overrides_with = "no_multiprocess")]
    pub multiprocess: bool,
    /// No CHLD lines
    #[arg(long)]
    pub no_multiprocess: bool,
    /// MEM is the total of the tree
    #[arg(short = 'C', long)]
    pub include_children: bool,
    /// What MEM and CHLD show
    #[arg(long, value_enum, default_value_t = MetricArg::Rss)]
    pub metric: MetricArg,
    /// mprof's name for --metric
    #[arg(long, value_enum, conflicts_with = "metric")]
    pub backend: Option<BackendArg>,
    /// Do not follow forked children
    #[arg(long)]
    pub no_follow: bool,
    /// Name the C code too: the library and function that touched the memory, on top of each stack
    #[arg(long)]
    pub native: bool,
    /// Mark begin and end of each call of this function (module.qualname, the end of it, or a
    /// glob); repeatable
    #[arg(short = 'f', long = "func", value_name = "NAME", value_parser = Pattern::parse)]
    pub functions: Vec<Pattern>,
    /// Files are BASE.dat, BASE.folded, BASE.memprof [default: mprofile_YYYYMMDDhhmmss]
    #[arg(short, long, value_name = "BASE")]
    pub output: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long)]
    pub force: bool,
    /// Write a flame graph too [default name: BASE.svg]
    #[arg(long, value_name = "FILE.svg", num_args = 0..=1, require_equals = false)]
    pub flamegraph: Option<Option<PathBuf>>,
    /// Folded stacks without lines
    #[arg(short = 'F', long)]
    pub function: bool,
    /// One root per role, not per process, in folded stacks
    #[arg(long)]
    pub merge_processes: bool,
    /// Save and show what is known when this is crossed: [total:]rss|pss|uss|growth>SIZE;
    /// repeatable ('rss>2G', 'total:pss>8G', 'growth>100M/min')
    #[arg(long, value_name = "THRESHOLD")]
    pub trigger: Vec<Trigger>,
    /// And then: continue, stop (SIGSTOP, for a debugger), or 'exec COMMAND'
    #[arg(
        long,
        value_name = "ACTION",
        default_value = "continue",
        requires = "trigger"
    )]
    pub on_trigger: OnTrigger,
    /// Memory between the kernel and the tracer, a power of two: larger when events are lost
    #[arg(long, value_name = "SIZE", default_value = "16M", value_parser = ring_size)]
    pub ring_size: u32,
    /// How Python frames are read, for cargo xtask bench --walk: window, single or none
    #[arg(long, hide = true, default_value = "window", value_parser = frame_reads)]
    pub frame_reads: FrameReads,
    /// Only errors
    #[arg(short, long)]
    pub quiet: bool,
    /// -v lists each process traced and the records taken; -vv shows the kernel side's own log too
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

impl CommonArgs {
    /// What the session needs of this.
    pub fn session(&self) -> SessionOptions {
        SessionOptions {
            duration: match (self.duration, self.timeout) {
                (Some(duration), Some(timeout)) => Some(duration.min(timeout)),
                (duration, timeout) => duration.or(timeout),
            },
            interval: self.interval,
            metric: self.metric(),
            follow: !self.no_follow,
            native: self.native,
            ring_bytes: self.ring_size,
            frame_reads: self.frame_reads,
            quiet: self.quiet,
            verbose: self.verbose,
        }
    }

    /// What the .dat is to show.
    pub fn dat(&self) -> DatOptions {
        DatOptions {
            include_children: self.include_children,
            multiprocess: !self.no_multiprocess,
            metric: self.metric(),
        }
    }

    fn metric(&self) -> Metric {
        match (self.backend, self.metric) {
            (Some(BackendArg::Psutil), _) | (None, MetricArg::Rss) => Metric::Rss,
            (Some(BackendArg::PsutilPss), _) | (None, MetricArg::Pss) => Metric::Pss,
            (Some(BackendArg::PsutilUss), _) | (None, MetricArg::Uss) => Metric::Uss,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum MetricArg {
    Rss,
    Pss,
    Uss,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum BackendArg {
    #[value(name = "psutil", alias = "posix")]
    Psutil,
    #[value(name = "psutil_pss")]
    PsutilPss,
    #[value(name = "psutil_uss")]
    PsutilUss,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ViewArg {
    Net,
    Gross,
    Peak,
    Freed,
    Cow,
}

impl From<ViewArg> for View {
    fn from(view: ViewArg) -> View {
        match view {
            ViewArg::Net => View::Net,
            ViewArg::Gross => View::Gross,
            ViewArg::Peak => View::Peak,
            ViewArg::Freed => View::Freed,
            ViewArg::Cow => View::Cow,
        }
    }
}

#[derive(Args, Debug)]
pub struct ReportArgs {
    /// The capture, BASE.memprof
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// For scripts: stable keys, bytes
    #[arg(long)]
    pub json: bool,
    /// By which bytes rows are ranked
    #[arg(long, value_enum, default_value_t = ViewArg::Net)]
    pub view: ViewArg,
    /// Rows of each ranked table [default: 20; with --json all]
    #[arg(short = 'n', value_name = "ROWS")]
    pub rows: Option<usize>,
    /// Only this process
    #[arg(long)]
    pub pid: Option<u32>,
}

#[derive(Args, Debug)]
pub struct LinesArgs {
    /// The capture, BASE.memprof [default: the last mprofile_*.memprof here]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Only this function: the end of module.qualname, or a glob ('views.*'); repeatable
    /// [default: those that still hold most]
    #[arg(long = "func", value_name = "NAME")]
    pub functions: Vec<String>,
    /// Tables, when no function is named
    #[arg(
        short = 'n',
        value_name = "TABLES",
        default_value_t = 5,
        conflicts_with = "functions",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    pub tables: u16,
    /// Folder that has the source files, wherever the target had them
    #[arg(long, value_name = "DIR")]
    pub source_root: Option<PathBuf>,
    /// Only this process
    #[arg(long)]
    pub pid: Option<u32>,
    /// Decimals of a MiB
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u8).range(..=9))]
    pub precision: u8,
    /// For scripts: stable keys, bytes
    #[arg(long)]
    pub json: bool,
    /// Write to this file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace a file that exists
    #[arg(long)]
    pub force: bool,
}

#[derive(Args, Debug)]
pub struct FlamegraphArgs {
    /// The capture, BASE.memprof [default: the last here]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The SVG to write
    #[arg(short, long, value_name = "OUT.svg")]
    pub output: PathBuf,
    /// Which bytes make a frame wide
    #[arg(long, value_enum, default_value_t = ViewArg::Net)]
    pub view: ViewArg,
    /// Leaves first: who allocates, whoever called
    #[arg(long)]
    pub reverse: bool,
    /// One root per role, not per process
    #[arg(long)]
    pub merge_processes: bool,
    /// Functions without lines
    #[arg(short = 'F', long)]
    pub function: bool,
    /// Title of the picture
    #[arg(short, long)]
    pub title: Option<String>,
    /// Replace a file that exists
    #[arg(long)]
    pub force: bool,
}

#[derive(Args, Debug)]
pub struct SnapshotArgs {
    /// Process to look at, with its descendants; repeatable, comma lists too
    #[arg(short, long = "pid", value_name = "PID", required = true, value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..))]
    pub pids: Vec<u32>,
    /// For scripts: stable keys, bytes
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Process to look into; repeatable, comma lists too
    #[arg(short, long = "pid", value_name = "PID", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..))]
    pub pids: Vec<u32>,
}

/// A size that the kernel takes for a ring buffer.
fn ring_size(text: &str) -> Result<u32, String> {
    // The kernel's own limit is a quarter of what an address of 32 bits can name.
    const MOST: u64 = 1 << 30;
    match bytes(text) {
        Some(size @ 4096..=MOST) if size.is_power_of_two() => Ok(size as u32),
        _ => Err("not a power of two from 4K to 1G".to_owned()),
    }
}

/// See [`CommonArgs::frame_reads`].
fn frame_reads(text: &str) -> Result<FrameReads, String> {
    match text {
        "window" => Ok(FrameReads::Window),
        "single" => Ok(FrameReads::Single),
        "none" => Ok(FrameReads::None),
        _ => Err("not window, single or none".to_owned()),
    }
}

/// A positive number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        // A millisecond: below it the tracer would do nothing but look.
        Ok(duration) if duration >= Duration::from_millis(1) => Ok(duration),
        _ => Err("must be at least 0.001 seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn pids_come_in_lists() {
        let cli = Cli::try_parse_from(["m", "trace", "-p", "1,2", "-p", "3"]).unwrap();
        let Verb::Trace(args) = cli.verb else {
            panic!("trace expected")
        };
        assert_eq!(args.pids, [1, 2, 3]);
    }

    #[test]
    fn backends_of_mprof_are_metrics() {
        for (backend, metric) in [
            ("psutil", Metric::Rss),
            ("posix", Metric::Rss),
            ("psutil_pss", Metric::Pss),
            ("psutil_uss", Metric::Uss),
        ] {
            let words = ["m", "run", "--backend", backend, "prog"];
            let Verb::Run(args) = Cli::try_parse_from(words).unwrap().verb else {
                panic!("run expected")
            };
            assert_eq!(args.common.metric(), metric, "{backend}");
        }
        assert!(Cli::try_parse_from(["m", "run", "--backend", "tracemalloc", "prog"]).is_err());
    }

    #[test]
    fn arguments_of_the_program_are_left_alone() {
        let words = ["m", "run", "-q", "prog", "-q", "--force", "--", "-1"];
        let Verb::Run(args) = Cli::try_parse_from(words).unwrap().verb else {
            panic!("run expected")
        };
        assert!(args.common.quiet && !args.common.force);
        assert_eq!(args.command, ["prog", "-q", "--force", "--", "-1"]);
    }
}
