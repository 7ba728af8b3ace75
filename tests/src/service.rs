//! service.py in gunicorn with two gevent workers, whose requests can be held where a test wants
//! them: memory held by a request in flight is then a known number and no matter of time.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::http::{self, Request};
use crate::machine;
use crate::process::{self, PATIENCE, wait_until};
use crate::program::Program;

/// One list of `service.SLOTS` slots, resident: 4,096,000 pointers.
pub const LIST_BYTES: u64 = 4_096_000 * 8;

/// A running service.
pub struct Service {
    gunicorn: Program,
    address: SocketAddr,
    gates: PathBuf,
    requests: Vec<Request>,
}

/// Where a request of `/test` waits; the names of the functions of service.py.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// In `first`, which holds one list.
    First,
    /// In `second`, which holds one list; that of `first` is let go after.
    Second,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Stage::First => "first",
            Stage::Second => "second",
        }
    }
}

impl Service {
    /// Starts it and waits until two workers serve.
    #[track_caller]
    pub fn start(gunicorn: &Path, scratch: &Path) -> Service {
        let gates = scratch.join("gates");
        std::fs::create_dir(&gates).unwrap_or_else(|e| panic!("mkdir {}: {e}", gates.display()));
        let workloads = machine::workload("service.py");
        let mut gunicorn = Program::start(
            Command::new(gunicorn)
                .args([
                    "-w",
                    "2",
                    "-k",
                    "gevent",
                    "-b",
                    "127.0.0.1:0",
                    "--no-control-socket",
                ])
                .arg("-c")
                .arg(machine::workload("hold_requests.py"))
                .arg("service:app")
                .env("HOLD_REQUESTS", &gates)
                .env("PYTHONDONTWRITEBYTECODE", "1")
                // Every list is a mapping of its own then, as the first one is anyhow: without
                // this glibc raises the threshold at the first free and serves the next list
                // from what it kept, and which function touches fresh pages is luck.
                .env("MALLOC_MMAP_THRESHOLD_", "1048576")
                .current_dir(workloads.parent().unwrap_or(Path::new("."))),
        );
        gunicorn.wait_stderr_text(|text| address(text).is_some(), "address");
        let address = address(&gunicorn.stderr_so_far()).expect("just seen");
        let mut service = Service {
            gunicorn,
            address,
            gates,
            requests: Vec::new(),
        };
        service.wait_workers();
        service
    }

    /// Pid of the master.
    pub fn master(&self) -> u32 {
        self.gunicorn.pid()
    }

    /// Waits until two workers serve; their pids.
    #[track_caller]
    pub fn wait_workers(&mut self) -> Vec<u32> {
        let (gates, master) = (&self.gates, self.gunicorn.pid());
        wait_until("two workers that serve", PATIENCE, || {
            let ready: Vec<u32> = process::children(master)
                .into_iter()
                .filter(|&pid| process::alive(pid) && gates.join(format!("ready.{pid}")).exists())
                .collect();
            (ready.len() == 2).then_some(ready)
        })
    }

    /// Has each of the workers answer `/leak` at least once: how often each did.
    #[track_caller]
    pub fn leak_in_each(&mut self, workers: &[u32]) -> Vec<(u32, u64)> {
        self.until_each(workers, "leak", |service| {
            let two = [
                http::get(service.address, "/leak"),
                http::get(service.address, "/leak"),
            ];
            for request in two {
                request.body().unwrap_or_else(|e| panic!("/leak: {e}"));
            }
        })
    }

    /// Has each of the workers hold at least one request in this stage: how many each holds.
    #[track_caller]
    pub fn hold_in_each(&mut self, workers: &[u32], stage: Stage) -> Vec<(u32, u64)> {
        let other = if stage == Stage::First {
            Stage::Second
        } else {
            Stage::First
        };
        self.set_hold(stage, true);
        self.set_hold(other, false);
        self.until_each(workers, stage.name(), |service| {
            let sent_before = service.held_by_any(stage);
            for _ in 0..2 {
                service.requests.push(http::get(service.address, "/test"));
            }
            wait_until(&format!("two requests in {stage:?}"), PATIENCE, || {
                (service.held_by_any(stage) >= sent_before + 2).then_some(())
            });
        })
    }

    /// How many requests a worker holds in a stage, or how often it answered `/leak`.
    pub fn count(&self, worker: u32, what: &str) -> u64 {
        let prefix = format!("{what}.{worker}.");
        let entries = std::fs::read_dir(&self.gates)
            .into_iter()
            .flatten()
            .flatten();
        entries
            .filter(|e| e.file_name().to_string_lossy().starts_with(&prefix))
            .count() as u64
    }

    /// Lets all held requests go and waits for the answers: how many came, how many were cut off
    /// (their worker had been killed).
    #[track_caller]
    pub fn release(&mut self) -> (usize, usize) {
        for entry in std::fs::read_dir(&self.gates)
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.file_name().to_string_lossy().starts_with("hold.") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        let answers = std::mem::take(&mut self.requests);
        let answers: Vec<_> = answers.into_iter().map(Request::body).collect();
        let good = answers
            .iter()
            .flatten()
            .filter(|body| *body == "4096000 4096000\n")
            .count();
        (good, answers.len() - good)
    }

    /// Kills one worker and waits for the one that gunicorn forks in its place; the new pid.
    #[track_caller]
    pub fn kill_worker(&mut self, worker: u32) -> u32 {
        let before = process::children(self.master());
        assert!(
            process::signal(worker, Signal::KILL),
            "worker {worker} has gone"
        );
        wait_until("the end of the worker", PATIENCE, || {
            (!process::alive(worker)).then_some(())
        });
        let now = self.wait_workers();
        let new: Vec<u32> = now
            .into_iter()
            .filter(|pid| !before.contains(pid))
            .collect();
        assert_eq!(new.len(), 1, "one new worker");
        new[0]
    }

    fn set_hold(&self, stage: Stage, held: bool) {
        let path = self.gates.join(format!("hold.{}", stage.name()));
        if held {
            std::fs::write(&path, "").unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        } else {
            // Requests that are held there stay, as the other stage's file is there.
            let _ = std::fs::remove_file(&path);
        }
    }

    fn held_by_any(&self, stage: Stage) -> usize {
        let prefix = format!("{}.", stage.name());
        let entries = std::fs::read_dir(&self.gates)
            .into_iter()
            .flatten()
            .flatten();
        entries
            .filter(|e| e.file_name().to_string_lossy().starts_with(&prefix))
            .count()
    }

    #[track_caller]
    fn until_each(
        &mut self,
        workers: &[u32],
        what: &str,
        mut step: impl FnMut(&mut Service),
    ) -> Vec<(u32, u64)> {
        // The kernel chooses who accepts; a worker that is busy building does not, so pairs of
        // requests spread. 30 lists of 31 MiB are what a small machine can take.
        for _ in 0..15 {
            let counts: Vec<(u32, u64)> = workers
                .iter()
                .map(|&pid| (pid, self.count(pid, what)))
                .collect();
            if counts.iter().all(|&(_, count)| count > 0) {
                return counts;
            }
            step(self);
        }
        panic!(
            "30 requests never reached all of {:?}",
            workers.iter().collect::<BTreeSet<_>>()
        );
    }
}

/// Where a gunicorn with this log listens, once it says so.
pub fn address(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once("Listening at: http://")?;
    rest.split_whitespace().next()?.parse().ok()
}
