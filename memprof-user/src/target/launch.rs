//! Starting a program so that nothing of it is missed: it waits before its exec until the tracer
//! has attached.

use std::ffi::{CString, OsString};
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

/// Another user to run as.
#[derive(Clone, Debug)]
pub struct RunAs {
    /// Login name, for its groups.
    pub name: CString,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl RunAs {
    /// The user who called sudo, if there is one.
    pub fn sudo_caller() -> Option<Self> {
        let number = |name| std::env::var(name).ok()?.parse().ok();
        Some(RunAs {
            name: CString::new(std::env::var("SUDO_USER").ok()?).ok()?,
            uid: number("SUDO_UID")?,
            gid: number("SUDO_GID")?,
        })
    }
}

/// The signals that this process ignores, for a program to inherit: our own handlers for them
/// would leave it with the default (a shell starts background jobs so, and nohup).
#[derive(Clone, Copy, Debug, Default)]
pub struct IgnoredSignals(u64);

impl IgnoredSignals {
    /// Those ignored now; to be asked before any handler is set.
    pub fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigIgn:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
        IgnoredSignals(mask.unwrap_or(0))
    }

    /// Whether this one was.
    pub fn has(self, signal: libc::c_int) -> bool {
        self.0 >> (signal - 1) & 1 == 1
    }

    /// The signals that the tracer sets handlers for, and that were ignored.
    fn handled(self) -> impl Iterator<Item = libc::c_int> {
        [
            libc::SIGHUP,
            libc::SIGINT,
            libc::SIGQUIT,
            libc::SIGTERM,
            libc::SIGUSR1,
            libc::SIGUSR2,
        ]
        .into_iter()
        .filter(move |&signal| self.has(signal))
    }
}

/// A program that was forked and has not been executed yet, or runs.
pub struct Launched {
    pid: u32,
    release: Option<PipeWriter>,
    waiter: Option<JoinHandle<io::Result<ExitStatus>>>,
}

impl Launched {
    /// Forks; the child waits for [`Launched::release`]. It inherits our terminal, stdin, stdout,
    /// stderr, working directory, and environment but for `variables`, as if it had been typed
    /// itself.
    pub fn fork(
        program: &OsString,
        arguments: &[OsString],
        variables: &[(&str, OsString)],
        user: Option<RunAs>,
        ignored: IgnoredSignals,
    ) -> io::Result<Self> {
        let (mut pid_reader, pid_writer) = pipe()?;
        let (release_reader, release_writer) = pipe()?;
        let mut command = Command::new(program);
        command.args(arguments);
        for (name, value) in variables {
            command.env(name, value);
        }
        if let Some(user) = &user {
            let name = user.name.to_string_lossy().into_owned();
            command.env("USER", &name).env("LOGNAME", &name);
            if let Some(home) = home_of(user.uid) {
                command.env("HOME", home);
            }
        }
        before_exec(
            &mut command,
            pid_writer,
            release_reader,
            release_writer.as_raw_fd(),
            user,
            ignored,
        );
        // spawn() returns when the child has executed its program, and so after release: it
        // waits in a thread of its own.
        let waiter = std::thread::Builder::new()
            .name("waits for the program".into())
            .spawn(move || {
                let child = command.spawn();
                // Our copies of the child's ends: with them open, a failed fork would not be
                // noticed by who reads the pid.
                drop(command);
                child?.wait()
            })?;
        let mut pid = [0; 4];
        if let Err(e) = pid_reader.read_exact(&mut pid) {
            return Err(match waiter.join() {
                Ok(Err(cause)) => cause,
                _ => e,
            });
        }
        Ok(Launched {
            pid: u32::from_ne_bytes(pid),
            release: Some(release_writer),
            waiter: Some(waiter),
        })
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets it execute the program.
    pub fn release(&mut self) -> io::Result<()> {
        match self.release.take() {
            Some(mut release) => release.write_all(&[1]),
            None => Ok(()),
        }
    }

    /// Hands a signal on, unless the program has got it already: Ctrl-C on a terminal goes to
    /// every process of the foreground group.
    pub fn forward(&self, signal: i32) {
        if signal == libc::SIGINT && in_foreground() {
            return;
        }
        Self::signal(self.pid, signal);
    }

    /// Sends a signal to a launched program by its pid.
    pub fn signal(pid: u32, signal: i32) {
        if let (Some(pid), Some(signal)) =
            (Pid::from_raw(pid as i32), Signal::from_named_raw(signal))
        {
            // It may have gone meanwhile; then there is nobody to tell.
            let _ = kill_process(pid, signal);
        }
    }

    /// How it ended, if it has; None while it runs. An error: it could not be executed.
    pub fn ended(&mut self) -> Option<io::Result<ExitStatus>> {
        if !self.waiter.as_ref().is_some_and(JoinHandle::is_finished) {
            return None;
        }
        self.wait()
    }

    /// Waits for its end; None when that was told already.
    pub fn wait(&mut self) -> Option<io::Result<ExitStatus>> {
        let waited = self.waiter.take()?.join();
        Some(waited.unwrap_or_else(|_| Err(io::Error::other("the waiting thread died"))))
    }
}

/// Has the child tell its pid, wait, and become `user`, between fork and exec.
fn before_exec(
    command: &mut Command,
    mut pid_writer: PipeWriter,
    mut release_reader: PipeReader,
    release_writer: i32,
    user: Option<RunAs>,
    ignored: IgnoredSignals,
) {
    let wait = move || {
        // The child's copy of the other end: with it open it would wait for ever when we die.
        // SAFETY: closes a descriptor of the child that nothing else in it uses.
        unsafe { libc::close(release_writer) };
        pid_writer.write_all(&std::process::id().to_ne_bytes())?;
        let mut go = [0];
        release_reader.read_exact(&mut go)?;
        for signal in ignored.handled() {
            // SAFETY: sets a disposition; no handler of ours is involved.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        match &user {
            Some(user) => become_user(user),
            None => Ok(()),
        }
    };
    // SAFETY: between fork and exec the closure only closes, writes, reads, and sets
    // dispositions and ids: no allocation, no lock. (initgroups may allocate; glibc makes its allocator usable after
    // fork.)
    unsafe { command.pre_exec(wait) };
}

fn become_user(user: &RunAs) -> io::Result<()> {
    let check = |result: libc::c_int| match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: plain system calls; the name is a C string that lives until they return. Groups
    // first: without privilege they could not be set any more.
    unsafe {
        check(libc::initgroups(user.name.as_ptr(), user.gid))?;
        check(libc::setgid(user.gid))?;
        check(libc::setuid(user.uid))
    }
}

/// Home directory by /etc/passwd.
fn home_of(uid: u32) -> Option<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut users = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    // name:password:uid:gid:gecos:home:shell
    let user = users.find(|fields| fields.get(2).and_then(|id| id.parse().ok()) == Some(uid))?;
    user.get(5).map(|home| (*home).to_owned())
}

/// True when we are in the foreground of our terminal.
fn in_foreground() -> bool {
    let group = rustix::process::getpgrp();
    [
        rustix::termios::tcgetpgrp(io::stdin()),
        rustix::termios::tcgetpgrp(io::stderr()),
    ]
    .into_iter()
    .any(|foreground| foreground == Ok(group))
}
