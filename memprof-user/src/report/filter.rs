//! The part of a profile that belongs to one pid.

use crate::model::Profile;
use crate::{Error, Result};

/// `profile` with only the processes of `pid` (more than one when the pid was used again), their
/// owners, samples, shares and marks. Functions, stacks and files stay; views show only those that are owned.
pub fn only_pid(profile: &Profile, pid: u32) -> Result<Profile> {
    let mut processes = Vec::new();
    // The new index of each process that stays.
    let mut place = vec![None; profile.processes.len()];
    for (index, process) in profile.processes.iter().enumerate() {
        if process.pid == pid {
            place[index] = u32::try_from(processes.len()).ok();
            processes.push(process.clone());
        }
    }
    if processes.is_empty() {
        return Err(no_such(profile, pid));
    }
    let place = |process: u32| place.get(process as usize).copied().flatten();
    let mut only = Profile {
        processes,
        owners: Vec::new(),
        samples: Vec::new(),
        shares: Vec::new(),
        marks: Vec::new(),
        marked: Vec::new(),
        ..profile.clone()
    };
    for owner in &profile.owners {
        if let Some(process) = place(owner.process) {
            only.owners.push(crate::model::Owner { process, ..*owner });
        }
    }
    for sample in &profile.samples {
        if let Some(process) = place(sample.process) {
            // Alone, it is what MEM lines show.
            let main = true;
            only.samples.push(crate::model::Sample {
                process,
                main,
                ..*sample
            });
        }
    }
    for share in &profile.shares {
        if let Some(process) = place(share.process) {
            only.shares.push(crate::model::Share { process, ..*share });
        }
    }
    for mark in &profile.marks {
        if let Some(process) = place(mark.process) {
            only.marks.push(crate::model::Mark {
                process,
                ..mark.clone()
            });
        }
    }
    for marked in &profile.marked {
        if let Some(process) = place(marked.process) {
            only.marked.push(crate::model::MarkedFunction {
                process,
                ..marked.clone()
            });
        }
    }
    Ok(only)
}

fn no_such(profile: &Profile, pid: u32) -> Error {
    let mut pids: Vec<u32> = profile
        .processes
        .iter()
        .map(|process| process.pid)
        .collect();
    pids.sort_unstable();
    pids.dedup();
    let first = pids.first().copied();
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    Error::failed(
        format!("process {pid} is not in the capture"),
        match first {
            Some(_) => format!("it holds {}", pids.join(", ")),
            None => "it holds no process".to_owned(),
        },
        match first {
            Some(first) => format!("--pid {first}, or no --pid for all of them"),
            None => "trace again: memprof-ebpf trace -p PID".to_owned(),
        },
    )
}
