//! One run of the tracer: attach, follow, collect, sample, and end with a [`Profile`].
//!
//! Everything that lives only while tracing is here; views and files know nothing of it.

mod allowance;
mod attach;
mod calls;
mod checkpoints;
mod clock;
mod collector;
mod detection;
mod files;
mod native;
mod reconcile;
mod sampler;
mod shares;
mod status;
mod trigger;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::bpf::{self, FrameReads, KernelOptions, Loaded, Ring, Tables, Watchpoints};
use crate::error::{Error, Result};
use crate::model::Profile;
use crate::python::Pattern;
use crate::python::known::on_path;
use crate::sink::Metric;
use crate::target::Launched;

use calls::Calls;
use checkpoints::Checkpoints;
use collector::Collector;
use reconcile::Reconciler;
use sampler::Sampler;
use status::StatusLine;
use trigger::Watch;

pub use attach::existing;
pub use trigger::{OnTrigger, Trigger, bytes};

/// Records taken from the ring before signals and clocks are looked at again.
const BATCH: usize = 4096;

/// Batches that are a full ring: 16 MiB of records of 64 bytes.
const CATCH_UP_BATCHES: usize = (16 << 20) / (64 * BATCH);

/// Longest time between two looks into the ring: growth does not wake us.
const LONGEST_TICK: Duration = Duration::from_millis(100);

/// What the user asked of a run.
#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    /// End after this time.
    pub duration: Option<Duration>,
    /// Time between two samples.
    pub interval: Duration,
    /// What samples show.
    pub metric: Metric,
    /// Follow forked children, and attach to those that exist.
    pub follow: bool,
    /// Name the native code that made memory resident.
    pub native: bool,
    /// Size of the ring buffer: a power of two, whole pages.
    pub ring_bytes: u32,
    /// How the kernel side reads Python frames.
    pub frame_reads: FrameReads,
    /// Nothing but errors on stderr.
    pub quiet: bool,
    /// Number of `-v`.
    pub verbose: u8,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every target has gone.
    TargetsGone,
    /// The time was over.
    Duration,
    /// Ctrl-C or SIGTERM.
    Signal,
    /// A second Ctrl-C: the ring was not drained.
    Interrupted,
}

/// What a run gave.
pub struct Outcome {
    /// The result.
    pub profile: Profile,
    /// Why it ended.
    pub ending: Ending,
    /// Whether the interpreter of at least one process was found.
    pub python_seen: bool,
    /// Sentences for the user: interpreters that could not be traced, and why.
    pub warnings: Vec<String>,
}

/// A run: hooks in the kernel, and everything collected so far.
pub struct Session {
    loaded: Loaded,
    ring: Ring,
    collector: Collector,
    sampler: Sampler,
    reconciler: Reconciler,
    options: SessionOptions,
    interrupts: Interrupts,
    checkpoints: Checkpoints,
    watch: Option<Watch>,
    started: Instant,
    roots: HashSet<u32>,
}

/// The signals that end a run.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    /// None: a program gets it, or it has come. The shell tells of a closed terminal too, so that
    /// it comes twice and is no second Ctrl-C.
    hangup: Option<Signal>,
}

impl Interrupts {
    fn listen() -> Result<Self> {
        Ok(Interrupts {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: None,
        })
    }

    async fn next(&mut self) -> i32 {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => libc::SIGINT,
            _ = self.terminate.recv() => libc::SIGTERM,
            _ = hangup => {
                self.hangup = None;
                libc::SIGHUP
            }
        }
    }
}

impl Session {
    /// Loads and attaches the hooks; nothing is traced yet. Signals are caught from here on.
    pub fn open(options: SessionOptions) -> Result<Self> {
        let interrupts = Interrupts::listen()?;
        bpf::check_privileges()?;
        let config = bpf::kernel_config(KernelOptions {
            follow_forks: options.follow,
            no_shortcut: false,
            native: options.native,
            ring_bytes: options.ring_bytes,
        })?;
        let kernel_log = options.verbose >= 2;
        let mut loaded = Loaded::load(&config, options.ring_bytes, kernel_log)?;
        let ring = Ring::open(&mut loaded)?;
        let tables = Tables::open(&mut loaded, options.frame_reads)?;
        if kernel_log {
            // The task ends with the runtime.
            drop(loaded.follow_log()?);
        }
        loaded.attach()?;
        Ok(Session {
            loaded,
            ring,
            collector: Collector::new(tables, options.native),
            sampler: Sampler::new(options.metric),
            reconciler: Reconciler::new(),
            options,
            interrupts,
            checkpoints: Checkpoints::default(),
            watch: None,
            started: Instant::now(),
            roots: HashSet::new(),
        })
    }

    /// Writes `BASE.checkpoint-N.json` at each SIGUSR1 from now on.
    pub fn checkpoint_to(&mut self, base: PathBuf) -> Result<()> {
        self.checkpoints = Checkpoints::listen(base)?;
        Ok(())
    }

    /// Ends with the terminal, as with Ctrl-C: what was gathered is not lost with a connection.
    pub fn end_at_hangup(&mut self) -> Result<()> {
        self.interrupts.hangup = Some(listen(SignalKind::hangup())?);
        Ok(())
    }

    /// Marks the calls of the functions that these names mean. `answers`: a folder to make, in
    /// which a program that tells of its functions looks for answers.
    pub fn mark(&mut self, patterns: Vec<Pattern>, answers: Option<PathBuf>) -> Result<()> {
        if !patterns.is_empty() {
            let points = Watchpoints::load(&mut self.loaded, self.options.follow)?;
            let calls = Calls::of(patterns, Some(points), answers);
            self.collector.mark_calls(calls);
        }
        Ok(())
    }

    /// Saves and shows what is known when one of these thresholds is crossed.
    pub fn watch(&mut self, triggers: Vec<Trigger>, action: OnTrigger, base: PathBuf) {
        if !triggers.is_empty() {
            let metric = self.options.metric;
            self.watch = Some(Watch::new(triggers, action, base, metric));
        }
    }

    /// Begins to trace running processes, and their descendants when they are followed.
    pub fn attach(&mut self, pids: &[u32]) -> Result<()> {
        let attached = attach::attach(&mut self.collector, pids, self.options.follow)?;
        self.roots.extend(pids);
        self.sampler.set_main(pids.first().copied());
        for line in self.collector.find_functions()? {
            self.say(&line);
        }
        self.say(&format!(
            "attached to {attached}; press Ctrl-C to stop and write the result"
        ));
        self.list_processes();
        Ok(())
    }

    /// Begins to trace a program that waits for its start, and starts it.
    pub fn start(&mut self, launched: &mut Launched, program: &OsStr) -> Result<()> {
        let pid = launched.pid();
        if let Some(program) = on_path(program) {
            self.collector.learn_program(&program);
        }
        self.collector.begin(pid, std::process::id())?;
        self.collector.model_mut().borrow(pid);
        self.roots.insert(pid);
        self.sampler.set_main(Some(pid));
        launched.release().map_err(|e| {
            Error::failed(
                "cannot start the program",
                e,
                "check that it can be executed",
            )
        })?;
        self.say(&format!("attached to pid {pid}, which starts now"));
        Ok(())
    }

    /// `-v`: each process that is traced now.
    fn list_processes(&self) {
        if self.options.verbose == 0 {
            return;
        }
        let model = self.collector.model();
        let mut pids: Vec<u32> = model.live_pids().collect();
        pids.sort_unstable();
        for process in pids.iter().filter_map(|pid| model.process(*pid)) {
            let python = process.python.as_deref().unwrap_or("not Python");
            let role = crate::sink::escape::terminal(&process.role);
            eprintln!("  pid {}: {role} ({python})", process.pid);
        }
    }

    /// Looks for functions to mark, and says what was found.
    fn look_for_functions(&mut self) {
        match self.collector.look_for_functions() {
            Ok(news) => news.iter().for_each(|line| self.say(line)),
            // Nobody is there to type another name: the run goes on without it.
            Err(e) => self.say(&e.to_string()),
        }
    }

    fn say(&self, line: &str) {
        if !self.options.quiet {
            eprintln!("{line}");
        }
    }

    /// Traces until the targets have gone, the time is over, or a signal comes. Signals for a
    /// launched program are handed on to it; it then ends the run by ending itself.
    pub async fn run(mut self, command: String, mut launched: Option<&mut Launched>) -> Outcome {
        self.sampler.sample(&mut self.collector);
        let mut status = StatusLine::new(self.options.quiet);
        let mut next_sample = Instant::now() + self.options.interval;
        let mut signalled = false;
        let ending = loop {
            let left = self
                .options
                .duration
                .map(|duration| duration.saturating_sub(self.started.elapsed()));
            if left == Some(Duration::ZERO) {
                break Ending::Duration;
            }
            let mut next_look = next_sample.min(Instant::now() + LONGEST_TICK);
            if let Some(next) = self.collector.next_look() {
                next_look = next_look.min(next);
            }
            tokio::select! {
                biased;
                () = self.checkpoints.asked() => self.write_checkpoint(),
                number = self.interrupts.next() => match &mut launched {
                    // From a terminal the program has got it too.
                    Some(launched) if !signalled => {
                        signalled = true;
                        launched.forward(number);
                    }
                    _ if signalled => break Ending::Interrupted,
                    _ => break Ending::Signal,
                },
                () = tokio::time::sleep(left.unwrap_or(Duration::MAX)), if left.is_some() => {}
                ready = self.ring.ready() => {
                    if ready.is_err() {
                        break Ending::Signal;
                    }
                }
                () = tokio::time::sleep_until(next_look.into()) => {}
            }
            while self.drain(BATCH) {
                // A storm must not keep a signal or the clock waiting.
                if status.is_due() || Instant::now() >= next_sample {
                    break;
                }
            }
            self.collector.settle();
            self.look_for_functions();
            let now = Instant::now();
            if now >= next_sample {
                // The grid is kept, and what was missed is not made up for: two samples of one
                // moment say nothing.
                while next_sample <= now {
                    next_sample += self.options.interval;
                }
                self.catch_up();
                self.reconcile(false);
                self.sampler.sample(&mut self.collector);
                if let Some(watch) = &mut self.watch {
                    watch.check(&mut self.collector, &command, self.started.elapsed());
                }
            }
            if status.is_due() {
                status.show(&self.collector, self.started.elapsed());
            }
            if self.targets_gone() {
                break Ending::TargetsGone;
            }
        };
        status.clear();
        let ending = self.end(ending).await;
        if self.options.verbose > 0 {
            eprintln!("{} records were taken", self.collector.records());
            self.list_processes();
        }
        self.finish(command, ending)
    }

    fn write_checkpoint(&mut self) {
        self.catch_up();
        // Whoever asks may let the program go on right after: what it runs by now has to be known.
        self.collector.detections().hurry();
        self.collector.settle();
        self.reconcile(true);
        self.checkpoints.write(&self.collector);
    }

    /// Holds the model against the kernel's word; `all`: until nothing is open.
    fn reconcile(&mut self, all: bool) {
        let ring = &mut self.ring;
        let mut take = |collector: &mut Collector| catch_up(ring, collector);
        match all {
            true => self.reconciler.settle_all(&mut self.collector, &mut take),
            false => self.reconciler.settle(&mut self.collector, &mut take),
        }
    }

    fn drain(&mut self, limit: usize) -> bool {
        let collector = &mut self.collector;
        self.ring.drain(limit, |event| collector.take(event))
    }

    /// Takes what the ring holds now, so that a reading of RSS and the ledger tell of the same
    /// moment; what a storm adds meanwhile is left for the next round.
    fn catch_up(&mut self) {
        catch_up(&mut self.ring, &mut self.collector);
    }

    fn targets_gone(&mut self) -> bool {
        let collector = &mut self.collector;
        self.roots.retain(|pid| collector.is_live(*pid));
        self.roots.is_empty()
    }

    /// Takes the hooks out and reads what is left, unless a second Ctrl-C comes.
    async fn end(&mut self, ending: Ending) -> Ending {
        if ending != Ending::Interrupted {
            self.catch_up();
            self.reconcile(true);
        }
        self.sampler.sample(&mut self.collector);
        self.loaded.detach();
        self.collector.stop_marking();
        if ending == Ending::Interrupted {
            return ending;
        }
        let mut ending = ending;
        while self.drain(BATCH) {
            let again = tokio::time::timeout(Duration::ZERO, self.interrupts.next());
            if again.await.is_ok() {
                ending = Ending::Interrupted;
                break;
            }
        }
        ending
    }

    fn finish(self, command: String, ending: Ending) -> Outcome {
        let Session {
            loaded,
            collector,
            started,
            options,
            ..
        } = self;
        let mut outcome = collector.finish(command, started.elapsed(), ending);
        outcome.profile.metric = Some(options.metric);
        drop(loaded);
        outcome
    }
}

/// Takes what the ring holds now, and no more than it can hold.
fn catch_up(ring: &mut Ring, collector: &mut Collector) {
    for _ in 0..CATCH_UP_BATCHES {
        if !ring.drain(BATCH, |event| collector.take(event)) {
            return;
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind)
        .map_err(|e| Error::failed("cannot wait for signals", e, "check the limit: ulimit -n"))
}

/// Hands signals that have no meaning for the tracer on to the program it runs, while the
/// runtime lives.
pub fn forward_signals(pid: u32) -> Result<()> {
    let kinds = [
        SignalKind::hangup(),
        SignalKind::quit(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ];
    for kind in kinds {
        let mut stream = listen(kind)?;
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                Launched::signal(pid, kind.as_raw_value());
            }
        });
    }
    Ok(())
}
