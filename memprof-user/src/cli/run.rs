//! `run CMD`: a program traced from its first instruction.

use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};

use super::args::{AttachArgs, RunArgs};
use super::program::program;
use super::{block_on, outputs::Outputs, trace};
use crate::error::{Error, Exit, Result};
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
    let (outcome, mut launched) = block_on(async {
        let mut session = Session::open(options)?;
        session.watch(
            args.common.trigger.clone(),
            args.common.on_trigger.clone(),
            outputs.base(),
        );
        let mut launched =
            Launched::fork(&program, &arguments, user, ignored).map_err(cannot_start)?;
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
    outputs.write(&outcome)?;
    match status {
        Some(Ok(status)) if args.exit_code => Ok(exit_code(status)),
        _ => Ok(ExitCode::SUCCESS),
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
