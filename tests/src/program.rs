//! A started process: its output is kept, it is waited for with a limit, and it never outlives
//! the test.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{self, PATIENCE};

/// A running process; killed, with its descendants, when dropped.
pub struct Program {
    child: Child,
    name: String,
    stdout: Arc<Stream>,
    stderr: Arc<Stream>,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its command line, for messages.
    pub name: String,
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

/// What came out of one pipe so far.
#[derive(Default)]
struct Stream {
    state: Mutex<(String, bool)>,
    changed: Condvar,
}

impl Program {
    /// Starts a command with all three streams piped.
    #[track_caller]
    pub fn start(command: &mut Command) -> Program {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let name = words
            .map(OsStr::to_string_lossy)
            .collect::<Vec<_>>()
            .join(" ");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        let stdout = Stream::follow(child.stdout.take());
        let stderr = Stream::follow(child.stderr.take());
        Program {
            child,
            name,
            stdout,
            stderr,
        }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        assert!(
            process::signal(self.pid(), signal),
            "{} has gone",
            self.name
        );
    }

    /// Writes a line to its standard input.
    #[track_caller]
    pub fn say(&mut self, line: &str) {
        let name = &self.name;
        let stdin = self
            .child
            .stdin
            .as_mut()
            .unwrap_or_else(|| panic!("{name}: stdin is closed"));
        writeln!(stdin, "{line}").unwrap_or_else(|e| panic!("{name}: write to stdin: {e}"));
    }

    /// Closes its standard input.
    pub fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits for a line on stdout that begins so; the line.
    #[track_caller]
    pub fn wait_stdout(&mut self, beginning: &str) -> String {
        self.wait_stdout_lines(beginning, 1).remove(0)
    }

    /// Waits until stdout has so many lines that begin so; all of them.
    #[track_caller]
    pub fn wait_stdout_lines(&mut self, beginning: &str, count: usize) -> Vec<String> {
        let stream = Arc::clone(&self.stdout);
        self.wait_lines(&stream, beginning, count)
    }

    /// Waits for a line on stderr that begins so; the line.
    #[track_caller]
    pub fn wait_stderr(&mut self, beginning: &str) -> String {
        let stream = Arc::clone(&self.stderr);
        self.wait_lines(&stream, beginning, 1).remove(0)
    }

    #[track_caller]
    fn wait_lines(&mut self, stream: &Stream, beginning: &str, count: usize) -> Vec<String> {
        let found = stream.wait(PATIENCE, |text| {
            let lines = text
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'));
            let lines: Vec<String> = lines
                .filter(|line| line.starts_with(beginning))
                .map(|line| line.trim_end().to_string())
                .collect();
            (lines.len() >= count).then_some(lines)
        });
        found.unwrap_or_else(|| {
            let output = self.output();
            panic!(
                "{}: no {count} line(s) beginning {beginning:?}; so far:\n{output}",
                self.name
            )
        })
    }

    /// Waits for a piece of text anywhere on stderr.
    #[track_caller]
    pub fn wait_stderr_text(&mut self, matches: impl Fn(&str) -> bool, what: &str) {
        let stream = Arc::clone(&self.stderr);
        if stream
            .wait(PATIENCE, |text| matches(text).then_some(()))
            .is_none()
        {
            let output = self.output();
            panic!("{}: no {what} on stderr; so far:\n{output}", self.name)
        }
    }

    /// All of stderr so far.
    pub fn stderr_so_far(&self) -> String {
        self.stderr.text()
    }

    /// True when it has ended (and is reaped then).
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Waits for its end and leaves its pipes as they are, for a descendant that shares them.
    #[track_caller]
    pub fn wait_end(&mut self) {
        let what = format!("the end of {}", self.name);
        process::wait_until(&what, PATIENCE, || self.has_ended().then_some(()));
    }

    /// Waits for its end.
    #[track_caller]
    pub fn finish(self) -> Ended {
        self.finish_within(PATIENCE)
    }

    /// Waits for its end, at most so long.
    #[track_caller]
    pub fn finish_within(mut self, limit: Duration) -> Ended {
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "{} still runs after {} s; so far:\n{}",
                self.name,
                limit.as_secs(),
                self.output()
            );
            std::thread::sleep(Duration::from_millis(5));
        };
        // A descendant may hold the pipes open after it: what has come within a second is all.
        for stream in [&self.stdout, &self.stderr] {
            stream.wait_end(Duration::from_secs(1));
        }
        Ended {
            name: self.name.clone(),
            status,
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
        }
    }

    fn output(&self) -> String {
        format!(
            "--- stdout\n{}\n--- stderr\n{}",
            self.stdout.text(),
            self.stderr.text()
        )
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // An id is safe to signal only until its process is reaped.
        if matches!(self.child.try_wait(), Ok(None)) {
            let tree = process::descendants(self.pid());
            let _ = self.child.kill();
            for pid in tree {
                process::signal(pid, Signal::KILL);
            }
            let _ = self.child.wait();
        }
    }
}

impl Stream {
    fn follow(pipe: Option<impl Read + Send + 'static>) -> Arc<Stream> {
        let stream = Arc::new(Stream::default());
        let shared = Arc::clone(&stream);
        std::thread::spawn(move || {
            let mut chunk = [0; 1 << 16];
            let mut pipe = pipe;
            while let Some(n) = pipe.as_mut().and_then(|pipe| pipe.read(&mut chunk).ok()) {
                let mut state = shared.state.lock().expect("no holder panics");
                state.0.push_str(&String::from_utf8_lossy(&chunk[..n]));
                state.1 = n == 0;
                shared.changed.notify_all();
                if n == 0 {
                    break;
                }
            }
        });
        stream
    }

    fn text(&self) -> String {
        self.state.lock().expect("no holder panics").0.clone()
    }

    /// Waits for a condition on the text; None at the limit, or at the end of the stream.
    fn wait<T>(&self, limit: Duration, mut condition: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + limit;
        let mut state = self.state.lock().expect("no holder panics");
        loop {
            if let Some(value) = condition(&state.0) {
                return Some(value);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            if state.1 {
                return None;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .expect("no holder panics")
                .0;
        }
    }

    fn wait_end(&self, limit: Duration) {
        let state = self.state.lock().expect("no holder panics");
        let _ = self
            .changed
            .wait_timeout_while(state, limit, |state| !state.1);
    }
}

impl Ended {
    /// The exit code; None when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Panics unless it ended with this code; gives itself back.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Ended {
        assert!(
            self.code() == Some(code),
            "{}: {} instead of exit code {code}\n--- stdout\n{}\n--- stderr\n{}",
            self.name,
            self.status,
            self.stdout,
            self.stderr
        );
        self.expect_no_panic()
    }

    /// Panics when the program did.
    #[track_caller]
    pub fn expect_no_panic(self) -> Ended {
        for text in [&self.stdout, &self.stderr] {
            for trace in [
                "panicked at",
                "RUST_BACKTRACE",
                "stack backtrace",
                "Traceback (most",
            ] {
                assert!(
                    !text.contains(trace),
                    "{}: {trace:?} in its output:\n{text}",
                    self.name
                );
            }
        }
        self
    }
}
