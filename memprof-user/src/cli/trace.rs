//! `trace -p PID` and `attach PID|NAME`: running processes.

use std::process::ExitCode;

use super::args::{AttachArgs, CommonArgs, TraceArgs};
use super::{block_on, outputs::Outputs};
use crate::error::{Error, Exit, Result};
use crate::session::{Session, existing};
use crate::target::{Target, pids};

/// `trace`
pub fn main(args: TraceArgs) -> Result<ExitCode> {
    let mut pids = Vec::new();
    for pid in args.pids {
        if !pids.contains(&pid) {
            pids.push(pid);
        }
    }
    trace(&pids, &args.common)
}

/// `attach`: digits are a pid, anything else a part of a process's title.
pub fn attach(args: AttachArgs) -> Result<ExitCode> {
    let pid = match args.target.parse() {
        Ok(pid) => pid,
        Err(_) => by_name(&args.target)?,
    };
    trace(&[pid], &args.common)
}

fn by_name(name: &str) -> Result<u32> {
    let own = std::process::id();
    let mut found: Vec<(u32, String)> = pids()
        .into_iter()
        .filter(|pid| *pid != own)
        .filter_map(|pid| Some((pid, Target::open(pid).ok()?)))
        .filter_map(|(pid, target)| {
            let words = target.cmdline().ok()?.join(" ");
            // sudo's own process carries our command line.
            (words.contains(name) && !words.contains("memprof-ebpf")).then_some((pid, words))
        })
        .collect();
    match found.len() {
        1 => Ok(found.remove(0).0),
        0 => Err(Error::failed(
            format!("no process has {name:?} in its command line"),
            "nothing matched",
            "find the pid: pgrep -af python",
        )),
        many => {
            // A server's first process is the parent of the others that match.
            let all: Vec<u32> = found.iter().map(|(pid, _)| *pid).collect();
            let parents = |pid: &u32| Target::open(*pid).and_then(|target| target.ppid()).ok();
            let roots: Vec<u32> = all
                .iter()
                .copied()
                .filter(|pid| parents(pid).is_none_or(|parent| !all.contains(&parent)))
                .collect();
            match roots[..] {
                [root] => Ok(root),
                _ => Err(Error::failed(
                    format!("{many} processes have {name:?} in their command lines"),
                    format!("pids {all:?}"),
                    format!("memprof-ebpf trace -p {}", all[0]),
                )
                .with_exit(Exit::Usage)),
            }
        }
    }
}

fn trace(pids: &[u32], common: &CommonArgs) -> Result<ExitCode> {
    for &pid in pids {
        existing(pid)?;
    }
    let outputs = Outputs::prepare(common)?;
    let command = pids
        .iter()
        .map(|&pid| command_line(pid))
        .collect::<Vec<_>>()
        .join(" + ");
    let outcome = block_on(async {
        let mut session = Session::open(common.session())?;
        session.checkpoint_to(outputs.base())?;
        session.mark(common.functions.clone())?;
        session.watch(
            common.trigger.clone(),
            common.on_trigger.clone(),
            outputs.base(),
        );
        session.attach(pids)?;
        Ok(session.run(command, None).await)
    })??;
    outputs.write(&outcome)?;
    Ok(ExitCode::SUCCESS)
}

fn command_line(pid: u32) -> String {
    Target::open(pid)
        .and_then(|target| target.cmdline())
        .map_or_else(|_| pid.to_string(), |words| words.join(" "))
}
