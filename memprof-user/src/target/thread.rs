//! One thread as the kernel sees it: its name, and whether it ran since it was last looked at.

use std::io;

use super::{gone, read_bounded};

/// /proc/PID/task/TID/status is a screen of text.
const STATUS_BYTES: u64 = 64 * 1024;

/// A thread at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its id.
    pub tid: u32,
    /// The id by which it knows itself: another one in a pid namespace.
    pub tid_inside: u32,
    /// The kernel's name for it, 15 bytes at most. Not escaped.
    pub name: String,
    /// R, S, D, T, … (proc_pid_status(5)).
    pub state: u8,
    /// How often it left its CPU so far.
    pub switches: u64,
}

impl Thread {
    /// A thread of a process; an error when it has ended.
    pub fn read(pid: u32, tid: u32) -> io::Result<Self> {
        let text = read_bounded(&format!("/proc/{pid}/task/{tid}/status"), STATUS_BYTES)?;
        Self::parse(tid, &String::from_utf8_lossy(&text)).ok_or_else(|| gone(tid))
    }

    /// True when it neither ran nor runs between `earlier` and this: what it alone writes, such
    /// as its stack, was the same all the time.
    ///
    /// Who falls asleep leaves the CPU, and that is counted: asleep at both times with the same
    /// count means asleep throughout.
    pub fn slept_since(&self, earlier: &Thread) -> bool {
        self.is_asleep() && earlier.is_asleep() && self.switches == earlier.switches
    }

    /// False when it runs or waits for a CPU.
    pub fn is_asleep(&self) -> bool {
        self.state != b'R'
    }

    fn parse(tid: u32, text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let switches = |name| field(name)?.trim().parse::<u64>().ok();
        // One id a namespace, the innermost last. Kernels without namespaces have no such line.
        let inside = field("NSpid:").and_then(|ids| ids.split_ascii_whitespace().next_back());
        Some(Thread {
            tid,
            tid_inside: inside.and_then(|id| id.parse().ok()).unwrap_or(tid),
            name: field("Name:")?.trim_start_matches('\t').to_owned(),
            state: *field("State:")?.trim_start().as_bytes().first()?,
            switches: switches("voluntary_ctxt_switches:")?
                .saturating_add(switches("nonvoluntary_ctxt_switches:")?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Name:\ta b\nState:\tS (sleeping)\nNSpid:\t70\t7\n\
        voluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t2\n";

    #[test]
    fn parses_what_the_kernel_says() {
        let thread = Thread::parse(70, TEXT).unwrap();
        assert_eq!((thread.tid, thread.tid_inside), (70, 7));
        assert_eq!((thread.name.as_str(), thread.switches), ("a b", 7));
        assert!(thread.is_asleep());
        assert_eq!(Thread::parse(70, "Name:\tx\n"), None);
    }

    #[test]
    fn who_slept_did_not_run() {
        let asleep = Thread::parse(70, TEXT).unwrap();
        assert!(asleep.slept_since(&asleep));
        let woke = Thread {
            switches: 8,
            ..asleep.clone()
        };
        assert!(!woke.slept_since(&asleep));
        let runs = Thread {
            state: b'R',
            ..asleep.clone()
        };
        assert!(!runs.slept_since(&asleep) && !asleep.slept_since(&runs));
    }

    #[test]
    fn this_thread_runs() {
        let pid = std::process::id();
        let me = std::fs::read_link("/proc/thread-self").unwrap();
        let me = me.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let thread = Thread::read(pid, me).unwrap();
        assert_eq!((thread.state, thread.tid_inside), (b'R', me));
        assert!(Thread::read(pid, 1 << 23).is_err());
    }
}
