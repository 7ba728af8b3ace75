//! From an interpreter's image to its layout: which version it is, whether that is supported,
//! and what the running process proves.

use std::time::Duration;

use memprof_common::layout::thread_source;

use super::calibrate::{Calibration, Tls, calibrate};
use super::debug_offsets;
use super::detect::{Candidate, Detection, Interpreter, is_library};
use super::image::{Facts, Version};
use super::layout::{Addresses, layout};
use super::roots::{Roots, find_interpreters_head};
use super::versions::{self, Offsets, Row, VERSIONS};
use crate::target::ReadMemory;

/// Between the making of the key and the first thread's entry lie a few hundred instructions of
/// Py_Initialize: a refuted layout is looked at again so many times, so far apart.
const LOOKS: usize = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

pub(super) fn row_of(facts: &Facts) -> Option<&'static Row> {
    let version = facts.version.as_ref()?;
    (version.major == 3).then(|| versions::row(version.minor))?
}

pub(super) fn unsupported(version: Option<&Version>, why: impl Into<String>) -> Detection {
    Detection::Unsupported {
        version: version.map_or_else(|| "of unknown version".to_owned(), |v| v.text.clone()),
        why: why.into(),
    }
}

/// Everything that follows from the file and its place.
pub(super) fn identify(
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
    let Some(row) = row_of(facts) else {
        return Err(refuse(format!("supported are {}", supported_versions())));
    };
    if !known.is_final {
        return Err(refuse(
            "it is an alpha or beta version, whose structures still change".to_owned(),
        ));
    }
    let offsets = match (row.debug_offsets, runtime) {
        (Some(_), Some(runtime)) => own_offsets(memory, facts, row, runtime).map_err(refuse)?,
        _ => row.offsets,
    };
    let is_other_size = |size| size != u64::from(row.code_basic_size);
    if facts.code_basic_size.is_some_and(is_other_size) {
        return Err(refuse(
            "its code objects have another size than those of its version (a patched build)"
                .to_owned(),
        ));
    }
    let roots = match (runtime, &facts.globals) {
        (Some(runtime), _) if row.minor > 6 => Roots::in_runtime(&offsets, runtime),
        (None, Some(globals)) if row.minor == 6 => Roots::of_globals(globals, candidate.base),
        _ => {
            return Err(refuse(
                "its variables are not those of its version".to_owned(),
            ));
        }
    };
    let at = Addresses {
        roots,
        image: facts.range(candidate.base),
        tls: facts.tls_code,
    };
    let Some(layout) = layout(row, &offsets, at) else {
        return Err(refuse("its _Py_DebugOffsets are impossible".to_owned()));
    };
    Ok(Interpreter {
        version: known.text.clone(),
        layout,
        offsets,
        runtime,
        roots,
        data: facts.data_range(candidate.base),
        tls: facts.tls_code,
        tls_module: facts.tls_module.map(|at| candidate.base.wrapping_add(at)),
        code_type: facts.code_type.map(|at| candidate.base.wrapping_add(at)),
        function_type: facts
            .function_type
            .map(|at| candidate.base.wrapping_add(at)),
        frame_type: facts.frame_type.map(|at| candidate.base.wrapping_add(at)),
        path: candidate.mapping.path.clone(),
        is_shared: is_library(&candidate.mapping.path),
        is_fixed: facts.fixed,
        is_deleted: candidate.mapping.deleted,
        is_confirmed: false,
        known: None,
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

/// `3.6 to 3.15`
pub fn supported_versions() -> String {
    match VERSIONS {
        [oldest, .., newest] => format!("3.{} to 3.{}", oldest.minor, newest.minor),
        _ => String::new(),
    }
}

/// Lets the running process confirm or refute what was concluded.
pub(super) fn prove(memory: &impl ReadMemory, mut interpreter: Interpreter) -> Detection {
    let Some(row) = versions::row((interpreter.layout.version & 0xff) as u8) else {
        return Detection::NotYet;
    };
    for look in 0..LOOKS {
        if look > 0 {
            std::thread::sleep(BETWEEN_LOOKS);
        }
        find_head(memory, &mut interpreter);
        let found = calibrate(
            memory,
            row,
            &interpreter.layout,
            &interpreter.offsets,
            &interpreter.roots,
            Tls {
                code: interpreter.tls.as_ref(),
                module: interpreter.tls_module.and_then(|at| memory.word(at)),
            },
        );
        match found {
            Calibration::Confirmed => interpreter.is_confirmed = true,
            Calibration::Moved(layout) => {
                interpreter.layout = layout;
                interpreter.is_confirmed = true;
            }
            Calibration::TooEarly if interpreter.layout.thread_source == thread_source::NONE => {
                return Detection::NotYet;
            }
            Calibration::TooEarly => {}
            Calibration::Refuted => continue,
        }
        return Detection::Python(Box::new(interpreter));
    }
    Detection::Unsupported {
        version: interpreter.version,
        why: "its threads' states are not where this version keeps them (a patched build, not \
              glibc, or a program that made 32 pthread keys before it)"
            .to_owned(),
    }
}

/// A stripped 3.6 does not say where its list of interpreters begins.
fn find_head(memory: &impl ReadMemory, interpreter: &mut Interpreter) {
    if interpreter.roots.interpreters_head == 0
        && let Some(data) = interpreter.data
        && let Some(head) = find_interpreters_head(memory, &interpreter.offsets, data)
    {
        interpreter.roots.interpreters_head = head;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Mapping;
    use std::sync::Arc;

    /// A process from which nothing can be read yet.
    struct Nothing;

    impl ReadMemory for Nothing {
        fn read(&self, _: u64, _: &mut [u8]) -> bool {
            false
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

    fn refusal(candidate: &Candidate) -> String {
        match identify(&Nothing, candidate, Some(0x7500)) {
            Err(Detection::Unsupported { version, why }) => format!("{version}: {why}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn refusals_say_why() {
        let library = mapping("/libpython3.so.1.0");
        let with = |change: fn(&mut Facts)| {
            let mut candidate = candidate(&library, 13, 0x7000);
            let facts = Arc::make_mut(&mut candidate.facts);
            let mut head = vec![0; debug_offsets::BYTES];
            head[..8].copy_from_slice(b"xdebugpy");
            head[8..12].copy_from_slice(&0x030d_01f0_u32.to_le_bytes());
            facts.debug_offsets = Some(head);
            change(facts);
            refusal(&candidate)
        };
        let free_threaded = |facts: &mut Facts| facts.debug_offsets.as_mut().unwrap()[16] = 1;
        for (refusal, want) in [
            (with(free_threaded), "3.13.1: it is a free-threaded build"),
            (
                with(|f| f.debug_offsets = None),
                "3.13.1: it does not carry",
            ),
            (
                with(|f| f.debug_offsets.as_mut().unwrap()[10] = 14),
                "3.13.1: its _Py_DebugOffsets are of another version",
            ),
            (
                with(|f| f.version = Some(version(5))),
                "3.5.1: supported are 3.6 to 3.15",
            ),
            (
                with(|f| f.version = Some(version(16))),
                "3.16.1: supported are",
            ),
            (with(|f| f.version = None), "of unknown version: nothing in"),
            (
                with(|f| f.version.as_mut().unwrap().is_final = false),
                "3.13.1: it is an alpha or beta",
            ),
        ] {
            assert!(refusal.starts_with(want), "{refusal}");
        }
    }
}
