//! One process: its identity, its relatives, and what people call it.
//!
//! A pid alone names nothing for long, so a [`Target`] carries the start time too: a reused pid
//! is noticed.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;

use super::{gone, read_bounded};

/// Longest name shown for a process, in characters.
const ROLE_CHARS: usize = 80;
/// Bytes of a command line that are read.
const CMDLINE_BYTES: u64 = 64 * 1024;
/// Bytes of /proc/PID/stat: 52 numbers and a name of 64 bytes at most.
const STAT_BYTES: u64 = 4096;
/// Bytes of /proc/PID/status: its groups, 65536 at most, come after what is read.
const STATUS_BYTES: u64 = 4096;
/// Readings of a family at most.
const READINGS: usize = 8;
/// Children listed in one file: pid_max (2^22) entries of 8 bytes.
const CHILDREN_BYTES: u64 = 32 << 20;

/// A process, told apart from a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its pid.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of /proc/PID/stat).
    pub start_ticks: u64,
}

/// The fields of /proc/PID/stat that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    state: u8,
    ppid: u32,
    start_ticks: u64,
    /// Where its program's first stack begins; 0 when that is not told.
    stack_start: u64,
}

impl Target {
    /// The process that has this pid now; an error when there is none.
    pub fn open(pid: u32) -> io::Result<Self> {
        let stat = stat(pid)?;
        Ok(Target {
            pid,
            start_ticks: stat.start_ticks,
        })
    }

    /// True while this very process exists and is not a zombie.
    pub fn is_alive(&self) -> bool {
        stat(self.pid).is_ok_and(|stat| {
            stat.start_ticks == self.start_ticks && !matches!(stat.state, b'Z' | b'X')
        })
    }

    /// Pid of its parent.
    pub fn ppid(&self) -> io::Result<u32> {
        Ok(stat(self.pid)?.ppid)
    }

    /// True when it was forked from its present parent and neither of both has executed a program
    /// since: each exec puts the stack at an address of its own.
    pub fn is_copy_of_parent(&self) -> io::Result<bool> {
        let own = stat(self.pid)?;
        let parent = stat(own.ppid)?;
        Ok(own.stack_start != 0 && own.stack_start == parent.stack_start)
    }

    /// Its pid; of what is only a thread, although it has a folder in /proc, its process's.
    pub fn process(&self) -> io::Result<u32> {
        let bytes = read_bounded(&format!("/proc/{}/status", self.pid), STATUS_BYTES)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut fields = text.lines().filter_map(|line| line.strip_prefix("Tgid:"));
        let group = fields.next().and_then(|tgid| tgid.trim().parse().ok());
        group.ok_or_else(|| gone(self.pid))
    }

    /// The file it executes. Fails for kernel threads and zombies.
    pub fn exe(&self) -> io::Result<PathBuf> {
        std::fs::read_link(format!("/proc/{}/exe", self.pid))
    }

    /// Its arguments, as they stand in its memory now: the program may have replaced them.
    pub fn cmdline(&self) -> io::Result<Vec<String>> {
        let bytes = read_bounded(&format!("/proc/{}/cmdline", self.pid), CMDLINE_BYTES)?;
        Ok(split_cmdline(&bytes))
    }

    /// What people call it: the title it gave itself, or its script, module or program.
    /// Bounded, one line, without control characters.
    pub fn role(&self) -> String {
        let arguments = self.cmdline().unwrap_or_default();
        let role = match role_of(&arguments) {
            Some(role) => role,
            None => self.comm().unwrap_or_else(|_| self.pid.to_string()),
        };
        printable(&role)
    }

    /// The kernel's name for it: 15 bytes at most.
    fn comm(&self) -> io::Result<String> {
        let bytes = read_bounded(&format!("/proc/{}/comm", self.pid), STAT_BYTES)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    /// Its threads' ids.
    pub fn threads(&self) -> io::Result<Vec<u32>> {
        threads(self.pid)
    }
}

fn stat(pid: u32) -> io::Result<Stat> {
    let bytes = read_bounded(&format!("/proc/{pid}/stat"), STAT_BYTES)?;
    parse_stat(&bytes).ok_or_else(|| gone(pid))
}

/// The name in parentheses may hold anything, parentheses too: fields count from the last one.
fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let end = bytes.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(bytes.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let ppid = fields.next()?.parse().ok()?;
    // Field 22 of proc_pid_stat(5); state is 3, ppid 4, so 17 lie between.
    let start_ticks = fields.nth(17)?.parse().ok()?;
    // Field 28, of which 5 lie before.
    let stack_start = fields.nth(5)?.parse().ok()?;
    Some(Stat {
        state,
        ppid,
        start_ticks,
        stack_start,
    })
}

fn threads(pid: u32) -> io::Result<Vec<u32>> {
    let mut ids: Vec<u32> = std::fs::read_dir(format!("/proc/{pid}/task"))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Pids of its direct children. A process that has gone has none.
pub fn children(pid: u32) -> Vec<u32> {
    children_listed(pid).unwrap_or_else(|| children_scanned(pid))
}

/// From /proc/PID/task/TID/children; None where the kernel has no such file
/// (CONFIG_PROC_CHILDREN).
fn children_listed(pid: u32) -> Option<Vec<u32>> {
    let mut children = Vec::new();
    for tid in threads(pid).unwrap_or_default() {
        match read_bounded(&format!("/proc/{pid}/task/{tid}/children"), CHILDREN_BYTES) {
            Ok(bytes) => children.extend(
                String::from_utf8_lossy(&bytes)
                    .split_ascii_whitespace()
                    .filter_map(|word| word.parse::<u32>().ok()),
            ),
            // The thread may have ended; only a live one without the file means no such file.
            Err(_) if std::fs::exists(format!("/proc/{pid}/task/{tid}")).unwrap_or(false) => {
                return None;
            }
            Err(_) => {}
        }
    }
    children.sort_unstable();
    Some(children)
}

/// Every process there is.
pub fn pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// By asking every process for its parent.
fn children_scanned(pid: u32) -> Vec<u32> {
    let mut children: Vec<u32> = pids()
        .into_iter()
        .filter(|&child| stat(child).is_ok_and(|stat| stat.ppid == pid))
        .collect();
    children.sort_unstable();
    children
}

/// Its children, their children, and so on, each once, parents before their children. The
/// kernel's list may skip one while its neighbour exits (proc_pid_children(5)), so it is read
/// until a reading finds nobody new. Whoever must not miss a fork listens to the kernel too.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut seen = HashSet::from([pid]);
    let mut family = vec![pid];
    // Bound: a program that forks without end is not waited for.
    for _ in 0..READINGS {
        let known = family.len();
        let mut next = 0;
        while let Some(&parent) = family.get(next) {
            family.extend(
                children(parent)
                    .into_iter()
                    .filter(|&child| seen.insert(child)),
            );
            next += 1;
        }
        if family.len() == known {
            break;
        }
    }
    family.split_off(1)
}

/// Arguments lie one after another, each ended by NUL; a title written over them leaves NULs or
/// blanks behind it.
fn split_cmdline(bytes: &[u8]) -> Vec<String> {
    let end = bytes
        .iter()
        .rposition(|&byte| byte != 0 && byte != b' ')
        .map_or(0, |last| last + 1);
    if end == 0 {
        return Vec::new();
    }
    bytes[..end]
        .split(|&byte| byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

/// The name for a command line; None for an empty one.
fn role_of(arguments: &[String]) -> Option<String> {
    let (program, rest) = arguments.split_first()?;
    // setproctitle leaves one string: `gunicorn: worker [app]`. A path with a blank is no title.
    if rest.is_empty() && program.contains(' ') && !program.starts_with(['/', '.']) {
        return Some(program.clone());
    }
    let program = basename(program);
    if is_python(program) {
        return Some(script(rest).unwrap_or_else(|| program.to_owned()));
    }
    Some(program.to_owned())
}

/// `python`, `python3`, `python3.11`, `python3.13t`, `pypy3`, …
fn is_python(program: &str) -> bool {
    ["python", "pypy"].iter().any(|name| {
        program.strip_prefix(name).is_some_and(|version| {
            version
                .bytes()
                .all(|b| b.is_ascii_digit() || b".dtm".contains(&b))
        })
    })
}

/// What an interpreter with these arguments runs (Modules/main.c: options end at `-c`, `-m`, `-`
/// or the first argument that is no option).
fn script(arguments: &[String]) -> Option<String> {
    if arguments.iter().any(|a| a == "--multiprocessing-fork") {
        return Some("multiprocessing".to_owned());
    }
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let Some(option) = argument.strip_prefix('-') else {
            return Some(basename(argument).to_owned());
        };
        if option.is_empty() || option == "-" || option == "-version" {
            return None;
        }
        if option.starts_with('-') {
            // --check-hash-based-pycs MODE
            arguments.next();
            continue;
        }
        // Letters may be joined (`-um mod`), and the last may have its value joined (`-mmod`).
        let Some(at) = option.find(['c', 'm', 'W', 'X']) else {
            continue;
        };
        let (letter, joined) = (option.as_bytes()[at], &option[at + 1..]);
        let value = match joined {
            "" => arguments.next().map(String::as_str),
            joined => Some(joined),
        };
        match letter {
            b'm' => return value.map(str::to_owned),
            b'c' => return Some("-c".to_owned()),
            _ => {}
        }
    }
    None
}

fn basename(path: &str) -> &str {
    match path.trim_end_matches('/').rsplit('/').next() {
        Some(name) if !name.is_empty() => name,
        _ => path,
    }
}

/// One bounded line: control characters become `?`.
fn printable(text: &str) -> String {
    let mut characters = text.chars().map(|c| if c.is_control() { '?' } else { c });
    let mut line: String = characters.by_ref().take(ROLE_CHARS).collect();
    if characters.next().is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(cmdline: &str) -> Option<String> {
        role_of(&split_cmdline(cmdline.as_bytes()))
    }

    #[test]
    fn role_is_the_title_or_the_script() {
        for (cmdline, want) in [
            ("gunicorn: worker [app]\0\0\0\0", "gunicorn: worker [app]"),
            ("gunicorn: master [app]      ", "gunicorn: master [app]"),
            ("/usr/bin/python3\0/srv/app.py\0--x\0", "app.py"),
            ("python3.13t\0-u\0-X\0dev\0app.py\0", "app.py"),
            ("python\0-Xdev\0-m\0http.server\08000\0", "http.server"),
            ("python\0-um\0mod\0", "mod"),
            ("python\0-mmod\0", "mod"),
            ("python\0-c\0import x\0", "-c"),
            ("python3\0", "python3"),
            ("python3\0-\0x\0", "python3"),
            ("python3\0--check-hash-based-pycs\0always\0a.py\0", "a.py"),
            (
                "/venv/bin/python\0/venv/bin/gunicorn\0-w\0two\0",
                "gunicorn",
            ),
            (
                "python\0-c\0from x import y\0--multiprocessing-fork\0",
                "multiprocessing",
            ),
            ("/opt/with blank/prog\0", "prog"),
            ("/usr/sbin/uwsgi\0--ini\0x\0", "uwsgi"),
            ("pythonista\0x.py\0", "pythonista"),
        ] {
            assert_eq!(role(cmdline).as_deref(), Some(want), "{cmdline:?}");
        }
        assert_eq!(role(""), None);
        assert_eq!(role("\0\0"), None);
    }

    #[test]
    fn names_are_one_bounded_line() {
        assert_eq!(printable("a\x1b[2J\nb"), "a?[2J?b");
        assert_eq!(printable(&"x".repeat(500)).chars().count(), ROLE_CHARS + 1);
    }

    #[test]
    fn stat_counts_from_the_last_parenthesis() {
        let line = b"7 (a) b ) S 3 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 0 0 0 0 0 9000";
        let stat = parse_stat(line).unwrap();
        assert_eq!(stat.stack_start, 9000);
        assert_eq!((stat.state, stat.ppid, stat.start_ticks), (b'S', 3, 4242));
        assert_eq!(parse_stat(b"7 (a"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn this_process_is_alive_and_another_start_is_another_process() {
        let me = Target::open(std::process::id()).unwrap();
        assert!(me.is_alive());
        assert!(me.threads().unwrap().contains(&me.pid));
        let earlier = Target {
            start_ticks: me.start_ticks - 1,
            ..me
        };
        assert!(!earlier.is_alive());
        assert_eq!(me.ppid().unwrap(), std::os::unix::process::parent_id());
    }

    #[test]
    fn descendants_are_found_both_ways() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "exec 3<&0; cat <&3 & echo; wait"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0];
        // The shell has started `cat` once it has written.
        io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        let me = std::process::id();
        assert!(children(me).contains(&child.id()));
        let shell = Target::open(child.id()).unwrap();
        assert!(!shell.is_copy_of_parent().unwrap());
        assert!(children_scanned(me).contains(&child.id()));
        let grandchildren = descendants(child.id());
        assert_eq!(grandchildren.len(), 1);
        let all = descendants(me);
        assert!(all.contains(&child.id()) && all.contains(&grandchildren[0]));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(children(child.id()).is_empty());
        assert!(!Target::open(child.id()).is_ok_and(|t| t.is_alive()));
    }
}
