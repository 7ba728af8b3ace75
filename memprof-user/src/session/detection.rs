//! Which processes must be looked at for an interpreter, and when.
//!
//! A program is looked at when it is executed and whenever it maps a file executable, until an
//! interpreter is found: the library comes some milliseconds after the exec, and milliseconds
//! before the first Python frame.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::bpf::Standing;
use crate::python::{Detection, Detector, Interpreter};
use crate::target::Target;

/// How long a process that is just setting up its interpreter is looked at. On a busy machine it
/// may be kept waiting itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a look that failed or found something unsupported is not believed.
const DOUBT: Duration = Duration::from_millis(300);

/// For so long retries come fast: every frame before the recognition is lost.
const EAGER: Duration = Duration::from_millis(50);

/// Time between two of the first retries, and between two later ones.
const AT_ONCE: Duration = Duration::from_millis(1);
const LATER: Duration = Duration::from_millis(5);

/// A process that is to be looked at.
#[derive(Clone, Copy)]
struct Wanted {
    since: Instant,
    next: Instant,
}

/// An interpreter found in a process that is already traced.
pub struct Found {
    pub pid: u32,
    pub generation: u32,
    pub interpreter: Interpreter,
}

/// Open questions about processes.
#[derive(Default)]
pub struct Detections {
    detector: Detector,
    wanted: HashMap<u32, Wanted>,
    /// What is not believed yet: interpreters that cannot be traced, and why.
    doubted: HashMap<u32, String>,
    generations: HashMap<u32, u32>,
    /// Seen to be gone once without a record; the second time it counts.
    gone: HashSet<u32>,
    /// Interpreters that already ran when they were recognised: what they grew until then stands
    /// under interpreter start-up.
    late: u64,
    warned: HashSet<String>,
    warnings: Vec<String>,
}

impl Detections {
    pub fn detector(&mut self) -> &mut Detector {
        &mut self.detector
    }

    pub fn set_generation(&mut self, pid: u32, generation: u32) {
        self.generations.insert(pid, generation);
    }

    /// The child has its parent's layout, if there is one; if there is none yet, it is looked at
    /// like its parent.
    pub fn fork(&mut self, parent: u32, child: u32) {
        if self.wanted.contains_key(&parent) {
            self.look(child);
        }
    }

    /// This process has changed: look at it at the next opportunity.
    pub fn look(&mut self, pid: u32) {
        let now = Instant::now();
        self.wanted.insert(
            pid,
            Wanted {
                since: now,
                next: now,
            },
        );
    }

    pub fn forget(&mut self, pid: u32) {
        if let Some(sentence) = self.doubted.remove(&pid) {
            self.warn(sentence);
        }
        self.wanted.remove(&pid);
        self.generations.remove(&pid);
        self.gone.remove(&pid);
    }

    /// True at the first call for a process that has no record of its end.
    pub fn gone_unannounced(&mut self, pid: u32) -> bool {
        self.gone.insert(pid)
    }

    /// How many interpreters were recognised after they had begun to run.
    pub fn late(&self) -> u64 {
        self.late
    }

    pub fn into_warnings(self) -> Vec<String> {
        self.warnings
    }

    /// Says once what cannot be traced.
    pub fn warn(&mut self, warning: String) {
        if self.warned.insert(warning.clone()) {
            self.warnings.push(warning);
        }
    }

    /// The next [`Detections::settle`] looks at every process that is to be looked at, due or not.
    pub fn hurry(&mut self) {
        let now = Instant::now();
        self.wanted.values_mut().for_each(|one| one.next = now);
    }

    /// Whether the interpreter of a process is still looked for.
    pub fn looks_for(&self, pid: u32) -> bool {
        self.wanted.contains_key(&pid)
    }

    /// When the next process is to be looked at, if one is.
    pub fn next_look(&self) -> Option<Instant> {
        self.wanted.values().map(|one| one.next).min()
    }

    /// Looks at every process that asks for it.
    /// What the kernel side has recognised meanwhile needs no look; `standing` says whether it has.
    pub fn settle(&mut self, standing: impl Fn(u32) -> Standing) -> Vec<Found> {
        let wanted = std::mem::take(&mut self.wanted);
        let mut found = Vec::new();
        let now = Instant::now();
        for (pid, one) in wanted {
            let stands = standing(pid);
            if stands == Standing::Known {
                continue;
            }
            if one.next > now {
                self.wanted.insert(pid, one);
                continue;
            }
            let Ok(target) = Target::open(pid) else {
                continue;
            };
            let retry = |waits: Duration| {
                let eager = one.since + EAGER > now;
                let next = now + if eager { AT_ONCE } else { LATER };
                (one.since + waits > now).then_some(Wanted { next, ..one })
            };
            match self.detector.detect(&target) {
                Ok(Detection::Python(interpreter)) => {
                    self.doubted.remove(&pid);
                    if stands == Standing::AwaitsGreenlet
                        && interpreter.layout.greenlet_module == 0
                        && let Some(one) = retry(DOUBT)
                    {
                        // The loader has not come so far.
                        self.wanted.insert(pid, one);
                        continue;
                    }
                    self.late +=
                        u64::from(interpreter.is_confirmed && standing(pid) == Standing::Unknown);
                    found.push(Found {
                        pid,
                        generation: self.generations.get(&pid).copied().unwrap_or(0),
                        interpreter: *interpreter,
                    });
                }
                Ok(Detection::NotYet) => {
                    self.wanted.extend(retry(PATIENCE).map(|one| (pid, one)));
                }
                // Its mappings may be changing, or its interpreter half set up.
                Err(_) => self.wanted.extend(retry(DOUBT).map(|one| (pid, one))),
                Ok(Detection::Unsupported { version, why }) => {
                    let sentence = format!("pid {pid} runs CPython {version}: {why}");
                    match retry(DOUBT) {
                        Some(one) => {
                            self.wanted.insert(pid, one);
                            self.doubted.insert(pid, sentence);
                        }
                        None => self.warn(sentence),
                    }
                }
                Ok(Detection::NotPython) => {}
            }
        }
        found
    }
}
