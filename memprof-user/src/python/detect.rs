//! Is this process a CPython, which one, and where does it keep its frames?
//!
//! The answer is complete as soon as the interpreter's image is mapped, before it has run: all
//! addresses follow from the file and from where it is mapped. What the running process can
//! prove in addition is checked.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use memprof_common::PythonLayout;

use super::calibrate::{self, Calibration, ThreadState, calibrate, thread_states};
use super::debug_offsets;
use super::image::{Facts, Images, Version};
use super::layout::{Addresses, layout};
use super::versions::{self, Offsets, Row, VERSIONS};
use crate::target::{Mapping, Mappings, ProcessMemory, ReadMemory, Target};

/// Programs looked at in one process: a program, its loader, a library or two.
const CANDIDATES: usize = 32;
/// Between the making of the key and the first thread's entry lie a few hundred instructions of
/// Py_Initialize: a refuted layout is looked at again so many times, so far apart.
const LOOKS: usize = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// What a process is.
#[derive(Clone, Debug)]
pub enum Detection {
    /// A CPython that can be traced.
    Python(Box<Interpreter>),
    /// No interpreter is mapped (a later mapping may bring one).
    NotPython,
    /// A program with a place for an interpreter's runtime is mapped, its library is not yet.
    NotYet,
    /// A CPython that cannot be traced.
    Unsupported {
        /// As far as it is known: `3.9.18`.
        version: String,
        /// A sentence for people.
        why: String,
    },
}

/// A CPython in a process.
#[derive(Clone, Debug)]
pub struct Interpreter {
    /// `3.11.7`.
    pub version: String,
    /// What the walk needs.
    pub layout: PythonLayout,
    /// What lists and code objects need besides.
    pub offsets: Offsets,
    /// Address of `_PyRuntime`.
    pub runtime: u64,
    /// Address of `PyCode_Type`.
    pub code_type: Option<u64>,
    /// The file that holds the interpreter, as the process sees it.
    pub path: PathBuf,
    /// It is a library (libpython3.N.so), not the program.
    pub is_shared: bool,
    /// The running process proved the layout; false before its initialisation.
    pub is_confirmed: bool,
}

impl Interpreter {
    /// The Python threads of the process now, the newest first.
    pub fn threads(&self, memory: &impl ReadMemory) -> Vec<ThreadState> {
        thread_states(memory, &self.offsets, self.runtime)
    }
}

/// Detects interpreters, and remembers files: the hundredth worker costs a reading of its
/// mappings.
#[derive(Debug, Default)]
pub struct Detector {
    images: Images,
}

/// An interpreter's file, mapped.
struct Candidate<'a> {
    mapping: &'a Mapping,
    base: u64,
    facts: Arc<Facts>,
}

impl Detector {
    /// One that remembers nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at a process. An error: it has gone, or its files cannot be read.
    pub fn detect(&mut self, target: &Target) -> io::Result<Detection> {
        let mappings = Mappings::read(target.pid)?;
        let candidates = self.candidates(target.pid, &mappings)?;
        let memory = ProcessMemory::new(target.pid);
        let Some((chosen, runtime)) = choose(&memory, &candidates) else {
            return Ok(match candidates.is_empty() {
                true => Detection::NotPython,
                false => Detection::NotYet,
            });
        };
        let found = identify(&memory, chosen, runtime);
        Ok(match found {
            Ok(_) if mappings.iter().any(is_musl) => unsupported(
                chosen.facts.version.as_ref(),
                "it is linked with musl: threads keep their data elsewhere than with glibc",
            ),
            Ok(interpreter) => prove(&memory, interpreter),
            Err(unsupported) => unsupported,
        })
    }

    fn candidates<'a>(
        &mut self,
        pid: u32,
        mappings: &'a Mappings,
    ) -> io::Result<Vec<Candidate<'a>>> {
        let mut looked_at: Vec<(&Path, u64)> = Vec::new();
        let mut candidates = Vec::new();
        for mapping in mappings.iter().filter(|mapping| may_hold_python(mapping)) {
            let file = (mapping.path.as_path(), mapping.inode);
            if looked_at.contains(&file) || looked_at.len() >= CANDIDATES {
                continue;
            }
            looked_at.push(file);
            let facts = match self.images.facts(pid, mapping) {
                Ok(facts) => facts,
                Err(error) if is_named_python(&mapping.path) => return Err(error),
                Err(_) => None,
            };
            if let Some(facts) = facts
                && let Some(base) = facts.base(mapping)
            {
                candidates.push(Candidate {
                    mapping,
                    base,
                    facts,
                });
            }
        }
        Ok(candidates)
    }
}

/// Programs, whatever their names (uWSGI holds an interpreter), and libpython. The program is
/// not taken from /proc/PID/exe: started through the loader, that is the loader.
fn may_hold_python(mapping: &Mapping) -> bool {
    let name = file_name(&mapping.path);
    mapping.is_file()
        && mapping.executable
        && (name.starts_with("libpython") || !name.contains(".so"))
}

fn is_named_python(path: &Path) -> bool {
    let name = file_name(path);
    name.starts_with("python") || name.starts_with("libpython")
}

fn is_library(path: &Path) -> bool {
    file_name(path).contains(".so")
}

fn file_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("")
}

fn is_musl(mapping: &Mapping) -> bool {
    mapping.executable && file_name(&mapping.path).starts_with("ld-musl")
}

/// The image that runs, and where its `_PyRuntime` is (None before 3.7).
///
/// A program that names `_PyRuntime` itself and is not position-independent has its own copy of
/// the library's (a COPY relocation), and everybody uses that one. Where a program and a library
/// both hold a whole interpreter, the one that has been initialised counts, else the program.
fn choose<'a, 'b>(
    memory: &impl ReadMemory,
    candidates: &'a [Candidate<'b>],
) -> Option<(&'a Candidate<'b>, Option<u64>)> {
    let at = |candidate: &Candidate| {
        let runtime = candidate.facts.runtime?;
        Some(candidate.base.wrapping_add(runtime))
    };
    let is_copy = |c: &&Candidate| c.facts.runtime.is_some() && !c.facts.runtime_in_file;
    let whole: Vec<&Candidate> = candidates
        .iter()
        .filter(|candidate| !is_copy(candidate) || is_before_sections(&candidate.facts))
        .collect();
    let copy = candidates
        .iter()
        .find(|candidate| is_copy(candidate) && !is_library(&candidate.mapping.path));
    if let (Some(copy), Some(library)) = (copy, whole.iter().find(|c| is_library(&c.mapping.path)))
    {
        return Some((library, at(copy)));
    }
    let runs = |candidate: &&&Candidate| {
        let (Some(runtime), Some(row)) = (at(candidate), row_of(&candidate.facts)) else {
            return false;
        };
        calibrate::is_initialised(memory, &row.offsets, runtime)
    };
    let chosen = whole.iter().find(runs).or_else(|| {
        whole
            .iter()
            .min_by_key(|candidate| is_library(&candidate.mapping.path))
    })?;
    Some((chosen, at(chosen)))
}

/// Up to 3.9 `_PyRuntime` is zero-initialised in its own image too.
fn is_before_sections(facts: &Facts) -> bool {
    facts
        .version
        .as_ref()
        .is_some_and(|v| (v.major, v.minor) < (3, 10))
}

fn row_of(facts: &Facts) -> Option<&'static Row> {
    let version = facts.version.as_ref()?;
    (version.major == 3).then(|| versions::row(version.minor))?
}

fn unsupported(version: Option<&Version>, why: impl Into<String>) -> Detection {
    Detection::Unsupported {
        version: version.map_or_else(|| "of unknown version".to_owned(), |v| v.text.clone()),
        why: why.into(),
    }
}

/// Everything that follows from the file and its place.
fn identify(
    memory: &impl ReadMemory,
    candidate: &Candidate,
    runtime: Option<u64>,
) -> Result<Interpreter, Detection> {
    let facts = &candidate.facts;
    let version = facts.version.as_ref();
    let refuse = |why: String| unsupported(version, why);
    let Some(known) = version else {
        return Err(refuse("nothing in its file tells the version".to_owned()));
    };
    let (Some(row), Some(runtime)) = (row_of(facts), runtime) else {
        return Err(refuse(format!("supported are {}", supported_versions())));
    };
    if !known.is_final {
        return Err(refuse(
            "it is an alpha or beta version, whose structures still change".to_owned(),
        ));
    }
    let offsets = match row.debug_offsets {
        [] => row.offsets,
        _ => own_offsets(memory, facts, row, runtime).map_err(refuse)?,
    };
    let at = Addresses {
        runtime,
        image: facts.range(candidate.base),
    };
    let Some(layout) = layout(row, &offsets, at) else {
        return Err(refuse("its _Py_DebugOffsets are impossible".to_owned()));
    };
    Ok(Interpreter {
        version: known.text.clone(),
        layout,
        offsets,
        runtime,
        code_type: facts.code_type.map(|at| candidate.base.wrapping_add(at)),
        path: candidate.mapping.path.clone(),
        is_shared: is_library(&candidate.mapping.path),
        is_confirmed: false,
    })
}

/// From the process's `_Py_DebugOffsets`; from the file's while the process has none yet.
fn own_offsets(
    memory: &impl ReadMemory,
    facts: &Facts,
    row: &Row,
    runtime: u64,
) -> Result<Offsets, String> {
    let live = memory
        .bytes(runtime, debug_offsets::BYTES)
        .filter(|bytes| debug_offsets::head(bytes).is_some());
    let Some(bytes) = live.as_ref().or(facts.debug_offsets.as_ref()) else {
        return Err("it does not carry _Py_DebugOffsets".to_owned());
    };
    let head = debug_offsets::head(bytes);
    if head.is_some_and(|head| head.free_threaded) {
        return Err("it is a free-threaded build, which keeps its frames differently".to_owned());
    }
    if head.is_none_or(|head| head.version >> 16 != row.version()) {
        return Err("its _Py_DebugOffsets are of another version".to_owned());
    }
    debug_offsets::offsets(row, bytes)
        .ok_or_else(|| "its _Py_DebugOffsets are impossible".to_owned())
}

/// `3.10, 3.11, 3.12, 3.13`
fn supported_versions() -> String {
    let versions: Vec<String> = VERSIONS
        .iter()
        .map(|row| format!("3.{}", row.minor))
        .collect();
    versions.join(", ")
}

/// Lets the running process confirm or refute what was concluded.
fn prove(memory: &impl ReadMemory, mut interpreter: Interpreter) -> Detection {
    for look in 0..LOOKS {
        if look > 0 {
            std::thread::sleep(BETWEEN_LOOKS);
        }
        let found = calibrate(
            memory,
            &interpreter.layout,
            &interpreter.offsets,
            interpreter.runtime,
        );
        match found {
            Calibration::Confirmed => interpreter.is_confirmed = true,
            Calibration::Moved(place) => {
                interpreter.layout.source_address = place;
                interpreter.is_confirmed = true;
            }
            Calibration::TooEarly => {}
            Calibration::Refuted => continue,
        }
        return Detection::Python(Box::new(interpreter));
    }
    Detection::Unsupported {
        version: interpreter.version,
        why: "its threads' states are not where this version keeps them (a debug or patched \
              build, or not glibc)"
            .to_owned(),
    }
}
