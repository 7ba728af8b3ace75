//! Is this process a CPython, which one, and where does it keep its frames?
//!
//! The answer is complete as soon as the interpreter's image is mapped, before it has run: all
//! addresses follow from the file and from where it is mapped. What the running process can
//! prove in addition is checked.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memprof_common::PythonLayout;

use super::calibrate::{self, ThreadState, thread_states};
use super::greenlet;
use super::identify::{identify, prove, row_of, unsupported};
use super::image::{Facts, Images};
use super::known::{self, Known};
use super::roots::Roots;
use super::tls_code::TlsCode;
use super::versions::Offsets;
use crate::target::open::mapped_file;
use crate::target::{Mapping, Mappings, ProcessMemory, ReadMemory, Target};

/// Programs looked at in one process: a program, its loader, a library or two.
const CANDIDATES: usize = 32;
/// Libraries of any name looked at in one process, those that have so much code at least: a small
/// CPython (3.6, without its modules) has 1.5 MiB, glibc 1.3.
const LIBRARIES: usize = 512;
const INTERPRETER_BYTES: u64 = 1400 << 10;

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
    /// Address of `_PyRuntime`; None in 3.6.
    pub runtime: Option<u64>,
    /// Addresses of its variables.
    pub roots: Roots,
    /// Range of its data, in 3.6.
    pub data: Option<(u64, u64)>,
    /// What its code tells of its thread-local variables.
    pub tls: Option<TlsCode>,
    /// Address of the word that says which one its library is among the modules with thread-local
    /// variables.
    pub tls_module: Option<u64>,
    /// Address of `PyCode_Type`.
    pub code_type: Option<u64>,
    /// Address of `PyFunction_Type`.
    pub function_type: Option<u64>,
    /// Address of `PyFrame_Type`.
    pub frame_type: Option<u64>,
    /// The file that holds the interpreter, as the process sees it.
    pub path: PathBuf,
    /// It is a library (libpython3.N.so), not the program.
    pub is_shared: bool,
    /// It only runs at its own addresses (ET_EXEC).
    pub is_fixed: bool,
    /// The file was unlinked, or replaced, since it was mapped.
    pub is_deleted: bool,
    /// The running process proved the layout; false before its initialisation.
    pub is_confirmed: bool,
    /// Its file, for the kernel side to know the next process that maps it.
    pub known: Option<Known>,
}

impl Interpreter {
    /// The Python threads of the process now, the newest first.
    pub fn threads(&self, memory: &impl ReadMemory) -> Vec<ThreadState> {
        thread_states(memory, &self.offsets, &self.roots)
    }
}

/// Detects interpreters, and remembers files: the hundredth worker costs a reading of its
/// mappings.
#[derive(Debug, Default)]
pub struct Detector {
    images: Images,
}

/// An interpreter's file, mapped.
pub(super) struct Candidate<'a> {
    pub mapping: &'a Mapping,
    pub base: u64,
    pub facts: Arc<Facts>,
}

impl Detector {
    /// One that remembers nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many files had to be read so far.
    pub fn files_read(&self) -> usize {
        self.images.files_read()
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
            Ok(interpreter) => {
                let mut detection = prove(&memory, interpreter);
                if let Detection::Python(interpreter) = &mut detection {
                    interpreter.known = known::of_process(interpreter, chosen, || {
                        mapped_file(target.pid, chosen.mapping)
                    });
                    // After that: another process of this interpreter need not have it.
                    if let Some(place) =
                        greenlet::find(&mut self.images, target.pid, &mappings, &memory)
                    {
                        interpreter.layout.greenlet_module = place.module;
                        interpreter.layout.greenlet_offset = place.offset;
                    }
                }
                detection
            }
            Err(unsupported) => unsupported,
        })
    }

    /// The interpreter that a program on disk is going to run: it is one, it needs a libpython,
    /// or it is a script for one. With its version. Before its first process exists.
    pub fn of_program(&mut self, path: &Path) -> Option<(Known, String)> {
        known::of_program(&mut self.images, path)
    }

    /// Programs and libpython; where none of them is an interpreter, a library of another name may
    /// have one inside (a plugin that is linked to libpython.a).
    fn candidates<'a>(
        &mut self,
        pid: u32,
        mappings: &'a Mappings,
    ) -> io::Result<Vec<Candidate<'a>>> {
        let files = || {
            mappings
                .iter()
                .filter(|mapping| mapping.is_file() && mapping.executable)
        };
        let likely = files().filter(|mapping| is_likely(&mapping.path));
        let mut candidates = self.among(pid, likely, CANDIDATES)?;
        if !candidates.iter().any(|candidate| candidate.facts.is_whole) {
            let is_large = |mapping: &&Mapping| mapping.len() >= INTERPRETER_BYTES;
            let others = files().filter(|mapping| !is_likely(&mapping.path));
            let others = others.filter(is_large);
            candidates.extend(self.among(pid, others, LIBRARIES)?);
        }
        Ok(candidates)
    }

    /// The candidates among these mappings, of which so many files are looked at.
    fn among<'a>(
        &mut self,
        pid: u32,
        mappings: impl Iterator<Item = &'a Mapping>,
        most: usize,
    ) -> io::Result<Vec<Candidate<'a>>> {
        let mut looked_at: HashSet<(&Path, u64)> = HashSet::new();
        let mut candidates = Vec::new();
        for mapping in mappings {
            let file = (mapping.path.as_path(), mapping.inode);
            if looked_at.len() >= most || !looked_at.insert(file) {
                continue;
            }
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
fn is_likely(path: &Path) -> bool {
    file_name(path).starts_with("libpython") || !is_library(path)
}

fn is_named_python(path: &Path) -> bool {
    let name = file_name(path);
    name.starts_with("python") || name.starts_with("libpython")
}

pub(super) fn is_library(path: &Path) -> bool {
    let name = file_name(path);
    name.ends_with(".so") || name.contains(".so.")
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
    let is_copy = |c: &&Candidate| c.facts.runtime.is_some() && !c.facts.is_whole;
    let whole: Vec<&Candidate> = candidates.iter().filter(|c| !is_copy(c)).collect();
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
        calibrate::is_initialised(memory, &Roots::in_runtime(&row.offsets, runtime))
    };
    let chosen = whole.iter().find(runs).or_else(|| {
        whole
            .iter()
            .min_by_key(|candidate| is_library(&candidate.mapping.path))
    })?;
    Some((chosen, at(chosen)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::image::Version;
    use std::collections::HashMap;

    /// Words by address; blocks of bytes are read from their first address only.
    #[derive(Default)]
    struct Blocks(HashMap<u64, Vec<u8>>);

    impl ReadMemory for Blocks {
        fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
            match self.0.get(&address).and_then(|b| b.get(..buffer.len())) {
                Some(bytes) => {
                    buffer.copy_from_slice(bytes);
                    true
                }
                None => false,
            }
        }
    }

    fn version(minor: u8) -> Version {
        Version {
            major: 3,
            minor,
            text: format!("3.{minor}.1"),
            is_final: true,
        }
    }

    fn mapping(path: &str) -> Mapping {
        Mapping {
            path: path.into(),
            inode: 1,
            executable: true,
            ..Mapping::default()
        }
    }

    fn candidate(mapping: &Mapping, minor: u8, base: u64) -> Candidate<'_> {
        let facts = Facts {
            version: Some(version(minor)),
            runtime: Some(0x500),
            is_whole: true,
            ..Facts::default()
        };
        Candidate {
            mapping,
            base,
            facts: Arc::new(facts),
        }
    }

    fn copy(mapping: &Mapping) -> Candidate<'_> {
        let facts = Facts {
            runtime: Some(0x40_0000),
            ..Facts::default()
        };
        Candidate {
            mapping,
            base: 0,
            facts: Arc::new(facts),
        }
    }

    fn chosen(memory: &Blocks, candidates: &[Candidate]) -> Option<(PathBuf, u64)> {
        let (candidate, runtime) = choose(memory, candidates)?;
        Some((candidate.mapping.path.clone(), runtime?))
    }

    #[test]
    fn programs_and_libpython_are_looked_at_first() {
        for (path, wanted) in [
            ("/usr/bin/python3.11", true),
            ("/usr/bin/uwsgi", true),
            ("/opt/my.solver", true),
            ("/usr/lib/libpython3.11.so.1.0", true),
            ("/lib64/ld-linux-x86-64.so.2", false),
            (
                "/usr/lib/python3/_json.cpython-311-x86_64-linux-gnu.so",
                false,
            ),
        ] {
            assert_eq!(is_likely(Path::new(path)), wanted, "{path}");
        }
    }

    #[test]
    fn a_copied_runtime_waits_for_its_library() {
        let (program, library) = (mapping("/app"), mapping("/libpython3.12.so.1.0"));
        let memory = Blocks::default();
        assert_eq!(chosen(&memory, &[copy(&program)]), None);
        let both = [copy(&program), candidate(&library, 12, 0x7000)];
        let want = Some((library.path.clone(), 0x40_0000));
        assert_eq!(chosen(&memory, &both), want);
    }

    #[test]
    fn of_two_interpreters_the_one_that_runs_is_chosen() {
        let (program, library) = (mapping("/python3.11"), mapping("/libpython3.12.so.1.0"));
        let both = [
            candidate(&library, 12, 0x7000),
            candidate(&program, 11, 0x1000),
        ];
        let mut memory = Blocks::default();
        let of = |mapping: &Mapping, runtime| Some((mapping.path.clone(), runtime));
        assert_eq!(chosen(&memory, &both), of(&program, 0x1500));
        memory.0.insert(0x7500 + 40, vec![1; 8]); // interpreters.head
        assert_eq!(chosen(&memory, &both), of(&library, 0x7500));
    }
}
