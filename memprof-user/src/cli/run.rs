//! `run CMD`: a program traced from its first instruction.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};

use super::args::{AttachArgs, CommonArgs, RunArgs};
use super::program::program;
use super::{block_on, outputs::Outputs, trace};
use crate::error::{Error, Exit, Result};
use crate::python::Decorator;
use crate::session::{Ending, Session, forward_signals};
use crate::target::{IgnoredSignals, Launched, RunAs};

/// `run`
pub fn main(args: RunArgs) -> Result<ExitCode> {
    if args.attach {
        return attach(args);
    }
    let ignored = IgnoredSignals::now();
    let (program, arguments) = program(&args)?;
    let user = match args.as_user {
        true => Some(RunAs::sudo_caller().ok_or_else(|| {
            Error::failed(
                "--as-user: there is no user to become",
                "the command was not started by sudo",
                "sudo memprof-ebpf run --as-user -- CMD",
            )
            .with_exit(Exit::Usage)
        })?),
        false => None,
    };
    let outputs = Outputs::prepare(&args.common)?;
    let options = args.common.session();
    let command = std::iter::once(&program)
        .chain(&arguments)
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ");
    let cannot_start = |e: std::io::Error| {
        let hint = match e.kind() {
            ErrorKind::NotFound => format!("check the name: command -v {}", program.display()),
            ErrorKind::PermissionDenied => format!("ls -l {}", program.display()),
            _ => "check the command".to_owned(),
        };
        Error::failed(format!("cannot start {}", program.display()), e, hint)
    };
    let decorator = decorator(&args.common);
    let variables = decorator
        .iter()
        .map(|own| ("PYTHONPATH", own.python_path()));
    let variables: Vec<(&str, OsString)> = variables.collect();
    let (outcome, mut launched) = block_on(async {
        let mut session = Session::open(options)?;
        let answers = decorator.as_ref().map(Decorator::answers);
        session.mark(args.common.functions.clone(), answers)?;
        session.watch(
            args.common.trigger.clone(),
            args.common.on_trigger.clone(),
            outputs.base(),
        );
        let mut launched = Launched::fork(&program, &arguments, &variables, user, ignored)
            .map_err(cannot_start)?;
        forward_signals(launched.pid())?;
        session.start(&mut launched, &program)?;
        let outcome = session.run(command, Some(&mut launched)).await;
        Ok::<_, Error>((outcome, launched))
    })??;
    // Only a program that has ended has a status; after -t it goes on running.
    let status = match outcome.ending {
        Ending::TargetsGone => launched.wait(),
        _ => launched.ended(),
    };
    if let Some(Err(e)) = status {
        return Err(cannot_start(e));
    }
    if status.is_none()
        && let Some(decorator) = decorator
    {
        // It may start other ones yet, to which a bare `@profile` would be an error.
        decorator.leave();
    }
    outputs.write(&outcome)?;
    match status {
        Some(Ok(status)) if args.exit_code => Ok(exit_code(status)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// What provides `@profile`. A program need not use it, so that without it the run goes on.
fn decorator(common: &CommonArgs) -> Option<Decorator> {
    match Decorator::provide(&common.functions, !common.no_follow) {
        Ok(decorator) => Some(decorator),
        Err(e) => {
            if !common.quiet {
                let folder = std::env::temp_dir();
                eprintln!("@profile is not there: {}: {e}", folder.display());
            }
            None
        }
    }
}

/// `run --attach PID|NAME`
fn attach(args: RunArgs) -> Result<ExitCode> {
    let [target] = &args.command[..] else {
        return Err(Error::failed(
            "--attach takes one pid or name",
            format!("there are {}", args.command.len()),
            "memprof-ebpf attach PID",
        )
        .with_exit(Exit::Usage));
    };
    trace::attach(AttachArgs {
        target: target.to_string_lossy().into_owned(),
        common: args.common,
    })
}

/// The shell's convention: 128 + the signal's number.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    ExitCode::from(code as u8)
}
