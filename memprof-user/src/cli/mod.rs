//! The command line: a file a verb, one table of them here.

mod args;
mod doctor;
mod flamegraph;
mod lines;
mod list;
mod outputs;
mod peak;
mod plot;
mod program;
mod python_option;
mod report;
mod rm;
mod run;
mod snapshot;
mod trace;

use std::io::Write as _;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

use crate::error::{Error, Exit, Result};
use args::{Cli, Verb};

/// Parses the command line, runs the verb, and says how it went.
pub fn main() -> ExitCode {
    let mut definition = Cli::command();
    definition.build();
    let words = match definition.find_subcommand("run") {
        Some(run) => python_option::settle(std::env::args_os(), run),
        None => std::env::args_os().collect(),
    };
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = match cli.verb {
        Verb::Trace(args) => trace::main(args),
        Verb::Attach(args) => trace::attach(args),
        Verb::Run(args) => run::main(args),
        Verb::Report(args) => report::main(args),
        Verb::Lines(args) => lines::main(args),
        Verb::Flamegraph(args) => flamegraph::main(args),
        Verb::Snapshot(args) => snapshot::main(args),
        Verb::List => list::main(),
        Verb::Peak(args) => peak::main(args),
        Verb::Plot(args) => plot::main(args),
        Verb::Rm(args) => rm::main(args),
        Verb::Clean(args) => rm::clean(args),
        Verb::Doctor(args) => doctor::main(args),
    };
    result.unwrap_or_else(failed)
}

fn failed(error: Error) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(error.exit as u8)
}

/// clap's own messages: help and version go to stdout and are no error; the rest takes the form
/// of all our errors.
fn usage(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        return print(&error.render().to_string()).map_or_else(failed, |()| ExitCode::SUCCESS);
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let verbs = Cli::command();
        let verbs: Vec<&str> = verbs
            .get_subcommands()
            .map(|verb| verb.get_name())
            .collect();
        let cause = format!("it is one of {}", verbs.join(", "));
        let error = Error::failed("no verb is given", cause, "memprof-ebpf --help");
        return failed(error.with_exit(Exit::Usage));
    }
    let text = error.render().to_string();
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("Usage:"));
    let first = lines.next().unwrap_or("wrong command line");
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let rest: Vec<&str> = lines
        .filter(|line| !line.starts_with("For more information"))
        .collect();
    let cause = match rest.is_empty() {
        true => "the command line does not fit".to_owned(),
        false => rest.join("; "),
    };
    failed(Error::failed(first, cause, "memprof-ebpf --help").with_exit(Exit::Usage))
}

/// Prints to stdout. A closed pipe is success: the reader has seen enough.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::failed(
            "cannot write to stdout",
            error,
            "look for room: df -h",
        )),
        _ => Ok(()),
    }
}

/// Runs the tracer's asynchronous part on this thread: one core is what it may use.
fn block_on<F: Future>(future: F) -> Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::failed("cannot start the runtime", e, "check the limit: ulimit -n"))?;
    let output = runtime.block_on(future);
    // Tasks that only print the kernel's log must not keep us.
    runtime.shutdown_background();
    Ok(output)
}
