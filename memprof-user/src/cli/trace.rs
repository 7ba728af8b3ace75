//! `trace -p PID` and `attach PID|NAME`: running processes.

use std::process::ExitCode;

use super::args::{AttachArgs, CommonArgs, TraceArgs};
use super::{block_on, outputs::Outputs};
use crate::error::{Error, Exit, Result};
use crate::python::{Detection, Detector};
use crate::session::{Session, existing};
use crate::target::{IgnoredSignals, Target, pids};

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

/// A shell, a supervisor or sudo may have the name in its command line too: the Python processes
/// are meant where there are any, and of these the one from which the others come.
fn by_name(name: &str) -> Result<u32> {
    let own = std::process::id();
    let named: Vec<Target> = pids()
        .into_iter()
        .filter(|pid| *pid != own)
        .filter_map(|pid| Target::open(pid).ok())
        .filter(|target| {
            let words = target.cmdline().unwrap_or_default();
            words.join(" ").contains(name)
        })
        .collect();
    let mut detector = Detector::new();
    let python = named
        .iter()
        .filter(|target| is_python(&mut detector, target));
    let mut found: Vec<u32> = python.map(|target| target.pid).collect();
    if found.is_empty() {
        // Who called us has the name in its command line because it is in ours.
        let callers = callers(own);
        let others = named.iter().map(|target| target.pid);
        found = others.filter(|pid| !callers.contains(pid)).collect();
    }
    let parent = |pid: u32| Target::open(pid).and_then(|target| target.ppid()).ok();
    let is_root = |pid: &u32| parent(*pid).is_none_or(|parent| !found.contains(&parent));
    let roots: Vec<u32> = found.iter().copied().filter(is_root).collect();
    match roots[..] {
        [root] => Ok(root),
        [] => Err(Error::failed(
            format!("no process has {name:?} in its command line"),
            "nothing matched",
            "find the pid: pgrep -af python",
        )),
        [first, ..] => Err(Error::failed(
            format!(
                "{} processes have {name:?} in their command lines",
                found.len()
            ),
            format!("pids {found:?}"),
            format!("memprof-ebpf trace -p {first}"),
        )
        .with_exit(Exit::Usage)),
    }
}

fn is_python(detector: &mut Detector, target: &Target) -> bool {
    match detector.detect(target) {
        Ok(Detection::Python(_) | Detection::Unsupported { .. }) => true,
        Ok(Detection::NotPython | Detection::NotYet) | Err(_) => false,
    }
}

/// The parent, its parent, and so on.
fn callers(pid: u32) -> Vec<u32> {
    let parent = |&pid: &u32| Target::open(pid).and_then(|target| target.ppid()).ok();
    let up = std::iter::successors(Some(pid), parent).skip(1);
    up.take_while(|pid| *pid > 0).collect()
}

fn trace(pids: &[u32], common: &CommonArgs) -> Result<ExitCode> {
    for &pid in pids {
        existing(pid)?;
    }
    // nohup(1)
    let stays = IgnoredSignals::now().has(libc::SIGHUP);
    let outputs = Outputs::prepare(common)?;
    let command = pids
        .iter()
        .map(|&pid| command_line(pid))
        .collect::<Vec<_>>()
        .join(" + ");
    let outcome = block_on(async {
        let mut session = Session::open(common.session())?;
        session.checkpoint_to(outputs.base())?;
        if !stays {
            session.end_at_hangup()?;
        }
        session.mark(common.functions.clone(), None)?;
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
