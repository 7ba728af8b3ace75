//! Attaching to running processes without a gap.
//!
//! The hooks are on already. A process is entered in the kernel side's table first: from then on
//! its new threads and children are followed there. What existed before is found by listing
//! threads and children after that, again and again until nothing new appears.

use super::collector::Collector;
use crate::error::{Error, Exit, Result};
use crate::python::{Detection, Interpreter, supported_versions};
use crate::target::{Target, children};

/// Rounds over the tree of processes at most; each round finds what was forked by a process
/// before its parent was entered.
const ROUNDS: usize = 16;

/// What was found in one target.
enum Finding {
    Python(Box<Interpreter>),
    NotPython,
    Unsupported(String, String),
}

/// A pid that exists, or the error for the user.
pub fn existing(pid: u32) -> Result<Target> {
    let hint = "find the pid: pgrep -af python";
    let target = Target::open(pid)
        .map_err(|e| Error::failed(format!("there is no process {pid}"), e, hint))?;
    if let Ok(process) = target.process()
        && process != pid
    {
        return Err(Error::failed(
            format!("{pid} is not a process"),
            format!("it is a thread of process {process}"),
            format!("the process and all its threads: -p {process}"),
        ));
    }
    match target.is_alive() {
        true => Ok(target),
        false => Err(Error::failed(
            format!("process {pid} has ended"),
            "it is a zombie: its parent has not asked for its exit code yet",
            hint,
        )),
    }
}

/// Attaches to `pids` and, with `follow`, to all their descendants. Returns a phrase for people.
pub fn attach(collector: &mut Collector, pids: &[u32], follow: bool) -> Result<String> {
    let mut targets = Vec::new();
    for &pid in pids {
        targets.push(existing(pid)?);
    }
    // Parents come before their children, which then are known as such: they share pages.
    targets.sort_by_key(|target| target.start_ticks);
    let mut findings = Vec::new();
    for Target { pid, .. } in targets {
        let finding = enter(collector, pid)?;
        findings.push((pid, finding));
    }
    let mut python = findings
        .iter()
        .filter(|(_, finding)| matches!(finding, Finding::Python(_)))
        .count();
    let mut entered = pids.to_vec();
    if follow {
        python += enter_descendants(collector, &mut entered);
    }
    if python == 0 {
        return Err(refusal(&findings));
    }
    Ok(match entered.len() {
        1 => format!("pid {}", entered[0]),
        many => format!("{many} processes ({python} Python)"),
    })
}

fn look(collector: &mut Collector, target: &Target) -> std::io::Result<Finding> {
    Ok(match collector.detections().detector().detect(target)? {
        Detection::Python(interpreter) => Finding::Python(interpreter),
        // Its interpreter is looked for when it maps one.
        Detection::NotPython | Detection::NotYet => Finding::NotPython,
        Detection::Unsupported { version, why } => Finding::Unsupported(version, why),
    })
}

fn enter(collector: &mut Collector, pid: u32) -> Result<Finding> {
    let gone = |e: std::io::Error| {
        Error::failed(
            format!("cannot attach to process {pid}"),
            format!("it went away, or cannot be read: {e}"),
            format!("check that it still runs: ps -p {pid}"),
        )
    };
    let target = Target::open(pid).map_err(gone)?;
    let finding = look(collector, &target).map_err(gone)?;
    let interpreter = match &finding {
        Finding::Python(interpreter) => Some(&**interpreter),
        _ => None,
    };
    let ppid = target.ppid().map_err(gone)?;
    if collector.enter(pid, ppid, interpreter)? {
        collector.add_threads(pid)?;
        collector.look_before_attach(pid);
    }
    if !target.is_alive() {
        collector.leave(pid);
        return Err(gone(std::io::ErrorKind::NotFound.into()));
    }
    if let Finding::Unsupported(version, why) = &finding {
        collector
            .detections()
            .warn(format!("pid {pid} runs CPython {version}: {why}"));
    }
    Ok(finding)
}

/// Enters all descendants; the number of Pythons among them. One that goes meanwhile is no error.
fn enter_descendants(collector: &mut Collector, entered: &mut Vec<u32>) -> usize {
    let mut python = 0;
    for _ in 0..ROUNDS {
        let mut fresh = Vec::new();
        for &pid in entered.iter() {
            for child in children(pid) {
                if !entered.contains(&child) && !fresh.contains(&child) {
                    fresh.push(child);
                }
            }
        }
        if fresh.is_empty() {
            break;
        }
        for pid in fresh {
            if let Ok(Finding::Python(_)) = enter(collector, pid) {
                python += 1;
            }
            entered.push(pid);
        }
    }
    python
}

fn refusal(findings: &[(u32, Finding)]) -> Error {
    for (pid, finding) in findings {
        if let Finding::Unsupported(version, why) = finding {
            return Error::failed(
                format!("cannot trace process {pid}: CPython {version} is not supported"),
                why,
                format!(
                    "use CPython {}; find another process: pgrep -af python",
                    supported_versions()
                ),
            )
            .with_exit(Exit::Unsupported);
        }
    }
    let pids: Vec<String> = findings.iter().map(|(pid, _)| pid.to_string()).collect();
    Error::failed(
        format!("process {} is not Python", pids.join(", ")),
        "neither it nor a descendant has a CPython interpreter mapped",
        "find the pid: pgrep -af python",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_is_told_as_what_it_is() {
        let mut child = std::process::Command::new("true")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // The pipe's end is the last that a process closes before it is a zombie, but for a moment.
        let mut out = child.stdout.take().unwrap();
        std::io::Read::read_to_end(&mut out, &mut Vec::new()).unwrap();
        while Target::open(child.id()).unwrap().is_alive() {
            std::thread::yield_now();
        }
        let error = existing(child.id()).unwrap_err().to_string();
        assert!(error.contains("has ended"), "{error}");
        child.wait().unwrap();
    }
}
