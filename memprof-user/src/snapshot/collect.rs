//! Which processes there are, and what the kernel says of each.

use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::time::{SystemTime, UNIX_EPOCH};

use super::stacks::stacks;
use super::{Process, Snapshot};
use crate::error::{Error, Exit, Result};
use crate::python::{Detection, Detector};
use crate::session::existing;
use crate::target::{ProcessMemory, Rollup, Rss, Target, descendants};

/// Looks at these processes and their descendants. A descendant that ends meanwhile is left out.
pub fn take(pids: &[u32]) -> Result<Snapshot> {
    let mut wanted = Vec::new();
    for &pid in pids {
        let target = existing(pid)?;
        permitted(&target)?;
        if !wanted.contains(&target) {
            wanted.push(target);
        }
    }
    let mut detector = Detector::new();
    let mut processes = Vec::new();
    for (target, depth) in tree(&wanted) {
        match process(&mut detector, &target, depth) {
            Ok(process) => processes.push(process),
            Err(error) if wanted.contains(&target) => return Err(unreadable(&target, error)),
            Err(_) => {}
        }
    }
    Ok(Snapshot {
        taken_epoch_s: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64()),
        processes,
    })
}

/// The Python stacks of one process, as text.
pub fn stacks_of(target: &Target) -> Result<String> {
    permitted(target)?;
    let process = process(&mut Detector::new(), target, 0);
    let process = process.map_err(|error| unreadable(target, error))?;
    Ok(super::text::stacks(&process).unwrap_or_default())
}

/// Reading the memory of another process takes its user, or CAP_SYS_PTRACE: asked for before
/// anything else, because without it half of the answer would be missing.
fn permitted(target: &Target) -> Result<()> {
    // Nothing is ever mapped at address 8: a kernel that gets so far as to see that permits.
    let refusal = ProcessMemory::new(target.pid)
        .read_some(8, &mut [0])
        .err()
        .filter(|error| error.kind() == ErrorKind::PermissionDenied);
    match refusal {
        None => Ok(()),
        Some(error) => Err(refused(target, &error)),
    }
}

fn refused(target: &Target, error: &io::Error) -> Error {
    Error::failed(
        format!("cannot look into process {}", target.pid),
        format!(
            "reading its memory takes CAP_SYS_PTRACE, or its user where \
             kernel.yama.ptrace_scope is 0: {error}"
        ),
        format!("sudo {}", std::env::args().collect::<Vec<_>>().join(" ")),
    )
    .with_exit(Exit::Privilege)
}

fn unreadable(target: &Target, error: io::Error) -> Error {
    if error.kind() == ErrorKind::PermissionDenied {
        return refused(target, &error);
    }
    Error::failed(
        format!("cannot look at process {}", target.pid),
        format!("it has ended, or it is a kernel thread, which has no memory: {error}"),
        format!("check what it is: ps -p {}", target.pid),
    )
}

/// These processes and all their descendants, each once, parents before their children, with
/// how many forebears of each are among them.
fn tree(roots: &[Target]) -> Vec<(Target, usize)> {
    let mut all: Vec<Target> = roots.to_vec();
    for root in roots {
        all.extend(descendants(root.pid).into_iter().filter_map(|pid| {
            let target = Target::open(pid).ok()?;
            // Zombies have no memory. Ours goes when the answer comes.
            (target.is_alive() && pid != std::process::id()).then_some(target)
        }));
    }
    let mut seen = HashSet::new();
    all.retain(|target| seen.insert(target.pid));
    let mut children: HashMap<u32, Vec<Target>> = HashMap::new();
    let mut tops = Vec::new();
    for target in all {
        match target.ppid().ok().filter(|ppid| seen.contains(ppid)) {
            Some(ppid) => children.entry(ppid).or_default().push(target),
            None => tops.push(target),
        }
    }
    let mut ordered = Vec::new();
    let mut next: Vec<(Target, usize)> = tops.into_iter().rev().map(|top| (top, 0)).collect();
    while let Some((target, depth)) = next.pop() {
        ordered.push((target, depth));
        let mut below = children.remove(&target.pid).unwrap_or_default();
        below.sort_unstable_by_key(|child| std::cmp::Reverse(child.pid));
        next.extend(below.into_iter().map(|child| (child, depth + 1)));
    }
    ordered
}

/// An error: it has gone, or has no memory.
fn process(detector: &mut Detector, target: &Target, depth: usize) -> io::Result<Process> {
    let mut process = Process {
        pid: target.pid,
        ppid: target.ppid()?,
        depth,
        role: target.role(),
        rss: Rss::read(target.pid)?,
        rollup: Rollup::read(target.pid).ok(),
        ..Process::default()
    };
    match detector.detect(target) {
        Ok(Detection::Python(interpreter)) => {
            let (threads, native) = stacks(target, &interpreter);
            process.python = Some(interpreter.version);
            process.threads = Some(threads);
            process.native_threads = native;
        }
        Ok(Detection::Unsupported { version, why }) => {
            process.note = Some(format!("its stacks cannot be read: {why}"));
            process.python = Some(version);
        }
        Ok(Detection::NotPython | Detection::NotYet) => {}
        Err(error) => process.note = Some(format!("it cannot be looked into: {error}")),
    }
    match target.is_alive() {
        true => Ok(process),
        false => Err(ErrorKind::NotFound.into()),
    }
}
