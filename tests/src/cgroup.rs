//! A memory cgroup of the test's own: a limit under which the kernel reclaims, and kills.

use std::path::PathBuf;

use crate::process::{PATIENCE, wait_until, within};

/// A group of the memory controller, version 1 or 2; removed at the end.
pub struct Cgroup {
    dir: PathBuf,
    limit_file: &'static str,
}

impl Cgroup {
    /// Makes one; Err where this machine hands out none.
    pub fn new() -> Result<Cgroup, String> {
        let roots = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ];
        let (thread, pid) = (std::thread::current(), std::process::id());
        let test = thread.name().unwrap_or("test").replace("::", "-");
        for (root, limit_file) in roots {
            let dir = PathBuf::from(root).join(format!("memprof-{test}-{pid}"));
            if std::fs::create_dir(&dir).is_err() {
                continue;
            }
            let group = Cgroup { dir, limit_file };
            // Without the controller the folder is there and has no such file.
            if group.dir.join(limit_file).is_file() {
                return Ok(group);
            }
        }
        Err("no memory cgroup can be made: mount the memory controller".into())
    }

    /// Sets the limit.
    #[track_caller]
    pub fn limit(&self, bytes: u64) {
        self.write(self.limit_file, &bytes.to_string());
    }

    /// Moves a process into it, with what it takes from now on.
    #[track_caller]
    pub fn add(&self, pid: u32) {
        self.write("cgroup.procs", &pid.to_string());
    }

    /// How often the kernel killed a process of it.
    pub fn kills(&self) -> u64 {
        let files = ["memory.oom_control", "memory.events"];
        let texts = files
            .iter()
            .map(|file| std::fs::read_to_string(self.dir.join(file)));
        texts
            .flatten()
            .flat_map(|text| {
                let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
                count.and_then(|count| count.trim().parse::<u64>().ok())
            })
            .sum()
    }

    /// Waits until the kernel has killed one.
    #[track_caller]
    pub fn wait_kill(&self) {
        wait_until("an OOM kill in the cgroup", PATIENCE, || {
            (self.kills() > 0).then_some(())
        });
    }

    #[track_caller]
    fn write(&self, file: &str, text: &str) {
        let path = self.dir.join(file);
        std::fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its last process may still be on its way out.
        let _ = within(PATIENCE, || std::fs::remove_dir(&self.dir).ok());
    }
}
