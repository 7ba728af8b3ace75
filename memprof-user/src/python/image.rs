//! What the file of an interpreter says, before anything is read from a process: its version and
//! where its runtime is. Remembered by file, since a hundred workers run the same one.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::debug_offsets;
use super::greenlet;
use super::tls_code::{self, TlsCode};
use crate::target::Mapping;
use crate::target::elf::{self, Image, Segment, Symbol};
use crate::target::open::{self, FileKey};

/// Files remembered; a host runs a handful of interpreters, and the rest is programs that were
/// looked at once.
const REMEMBERED: usize = 1024;

/// `PyTypeObject.tp_basicsize`, behind `PyVarObject` and `tp_name` (Include/cpython/object.h).
const TP_BASICSIZE: u64 = 32;

/// A version of CPython, as far as a file tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// 2 or 3.
    pub major: u8,
    /// The `N` of 3.N.
    pub minor: u8,
    /// For people: `3.11.7`, `3.13.0rc1`, or `3.10` when the file does not tell more.
    pub text: String,
    /// A release or a release candidate: structures are final.
    pub is_final: bool,
}

/// What is known of a file that is an interpreter, or holds one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// None when nothing in the file tells it.
    pub version: Option<Version>,
    /// `_PyRuntime` in the file's own address space; None before 3.7.
    pub runtime: Option<u64>,
    /// The interpreter itself is in this file. Otherwise (a COPY relocation) the file only has
    /// room for `_PyRuntime`, and its code and what it starts with stand in the library.
    pub is_whole: bool,
    /// What 3.6 has instead of `_PyRuntime`.
    pub globals: Option<OldGlobals>,
    /// Where 3.15 keeps its thread-local variables, as far as its code tells.
    pub tls_code: Option<TlsCode>,
    /// See [`Image::thread_local_module`].
    pub tls_module: Option<u64>,
    /// `_Py_DebugOffsets`, for 3.13 and later.
    pub debug_offsets: Option<Vec<u8>>,
    /// `PyCode_Type` in the file's own address space.
    pub code_type: Option<u64>,
    /// `PyFunction_Type`, likewise.
    pub function_type: Option<u64>,
    /// `PyFrame_Type`, likewise.
    pub frame_type: Option<u64>,
    /// `PyCode_Type.tp_basicsize`.
    pub code_basic_size: Option<u64>,
    /// The file only runs at its own addresses.
    pub fixed: bool,
    /// What of it is loaded.
    pub segments: Vec<Segment>,
}

/// The global variables of 3.6, in the file's own address space. None: the file does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OldGlobals {
    /// `_PyThreadState_Current`
    pub thread_state_current: Option<u64>,
    /// `_Py_Finalizing`
    pub finalizing: Option<u64>,
    /// `interp_head`, which stripping removes
    pub interp_head: Option<u64>,
    /// `autoTLSkey`, which stripping removes
    pub auto_tls_key: Option<u64>,
}

impl Facts {
    /// What to add to the file's addresses, see [`Image::base`].
    pub fn base(&self, mapping: &Mapping) -> Option<u64> {
        elf::base(self.fixed, &self.segments, mapping)
    }

    /// First byte, and one past the last, of the image in a process.
    pub fn range(&self, base: u64) -> (u64, u64) {
        let ends = |s: &Segment| s.address.saturating_add(s.memory_bytes);
        let start = self.segments.iter().map(|s| s.address).min().unwrap_or(0);
        let end = self.segments.iter().map(ends).max().unwrap_or(0);
        (base.wrapping_add(start), base.wrapping_add(end))
    }

    /// The same of the segment that holds the variables of 3.6.
    pub fn data_range(&self, base: u64) -> Option<(u64, u64)> {
        let variable = self.globals?.thread_state_current?;
        let end = |s: &Segment| s.address.saturating_add(s.memory_bytes);
        let segment = self
            .segments
            .iter()
            .find(|segment| (segment.address..end(segment)).contains(&variable))?;
        // The program's words are aligned, whatever its segment is.
        let start = segment.address.next_multiple_of(8);
        Some((base.wrapping_add(start), base.wrapping_add(end(segment))))
    }
}

/// The files looked at so far.
#[derive(Debug, Default)]
pub struct Images {
    facts: HashMap<FileKey, Option<Arc<Facts>>>,
    greenlets: HashMap<FileKey, Option<Arc<greenlet::Facts>>>,
    files_read: usize,
}

impl Images {
    /// What the file behind a mapping is; None when it is no interpreter.
    pub fn facts(&mut self, pid: u32, mapping: &Mapping) -> io::Result<Option<Arc<Facts>>> {
        let file = open::mapped_file(pid, mapping)?;
        let key = FileKey::from(&file.metadata()?);
        if let Some(known) = self.facts.get(&key) {
            return Ok(known.clone());
        }
        self.files_read += 1;
        let facts = facts(file, &mapping.path).map(Arc::new);
        if self.facts.len() >= REMEMBERED {
            self.facts.clear();
        }
        self.facts.insert(key, facts.clone());
        Ok(facts)
    }

    /// What greenlet's library behind a mapping says; None when it is not built as it is known.
    pub fn greenlet(&mut self, pid: u32, mapping: &Mapping) -> Option<Arc<greenlet::Facts>> {
        let file = open::mapped_file(pid, mapping).ok()?;
        let key = FileKey::from(&file.metadata().ok()?);
        if self.greenlets.len() >= REMEMBERED {
            self.greenlets.clear();
        }
        let facts = self.greenlets.entry(key);
        facts
            .or_insert_with(|| greenlet::facts(file).map(Arc::new))
            .clone()
    }

    /// What a file on disk is, by its path; None when it is no interpreter.
    pub fn facts_of_file(&mut self, path: &Path) -> Option<Arc<Facts>> {
        self.files_read += 1;
        facts(File::open(path).ok()?, path).map(Arc::new)
    }

    /// How many files were read, because they were not remembered.
    pub fn files_read(&self) -> usize {
        self.files_read
    }
}

/// A file that is no ELF file is no interpreter.
fn facts(file: File, path: &Path) -> Option<Facts> {
    let image = Image::open(file).ok()?;
    let [
        runtime,
        py_version,
        code_type,
        function_type,
        frame_type,
        eval,
        gilstate,
        tstate,
    ] = image.exported([
        "_PyRuntime",
        "Py_Version",
        "PyCode_Type",
        "PyFunction_Type",
        "PyFrame_Type",
        "PyEval_EvalCode",
        "PyGILState_GetThisThreadState",
        "PyThreadState_GetUnchecked",
    ]);
    let runtime = match runtime {
        Some(symbol) => Some(symbol.address),
        // A static program that exports nothing; the section is there from 3.10 on.
        None => image.section(".PyRuntime").map(|(address, _)| address),
    };
    let globals = match runtime {
        Some(_) => None,
        None => Some(old_globals(&image)?),
    };
    let word = |address| {
        let bytes = image.data(address, 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let version = match py_version.and_then(|symbol| word(symbol.address)) {
        Some(hex) => Some(version_of_hex(hex)),
        None => version_of_image(&image, version_in_name(&name)),
    };
    let debug_offsets = runtime
        .and_then(|runtime| image.data(runtime, debug_offsets::BYTES))
        .filter(|bytes| debug_offsets::head(bytes).is_some());
    let code = |symbol: Option<Symbol>| image.data(symbol?.address, tls_code::BYTES);
    let tls_code = code(gilstate)
        .zip(code(tstate))
        .and_then(|(gilstate, tstate)| tls_code::tls_code(&gilstate, &tstate));
    let runtime_in_file = runtime.is_some_and(|runtime| image.data(runtime, 8).is_some());
    Some(Facts {
        version,
        runtime,
        is_whole: runtime_in_file || eval.is_some(),
        globals,
        tls_code,
        tls_module: image.thread_local_module(),
        debug_offsets,
        code_type: code_type.map(|symbol| symbol.address),
        function_type: function_type.map(|symbol| symbol.address),
        frame_type: frame_type.map(|symbol| symbol.address),
        code_basic_size: code_type.and_then(|symbol| {
            let bytes = image.data(symbol.address.checked_add(TP_BASICSIZE)?, 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        }),
        fixed: image.is_fixed(),
        segments: image.segments().to_vec(),
    })
}

/// None when this is no CPython 3.6 or older.
fn old_globals(image: &Image) -> Option<OldGlobals> {
    let [current, finalizing] = image
        .exported(["_PyThreadState_Current", "_Py_Finalizing"])
        .map(|symbol| symbol.map(|symbol| symbol.address));
    current?;
    let [interp_head, auto_tls_key] = image
        .symbols(["interp_head", "autoTLSkey"])
        .map(|symbol| symbol.map(|symbol| symbol.address));
    Some(OldGlobals {
        thread_state_current: current,
        finalizing,
        interp_head,
        auto_tls_key,
    })
}

/// `0xMMmmpprs`: r is the level (a, b, c, f), s the serial (Include/patchlevel.h).
fn version_of_hex(hex: u32) -> Version {
    let [major, minor, micro, release] = hex.to_be_bytes();
    let (level, serial) = (release >> 4, release & 15);
    let suffix = match level {
        0xa => format!("a{serial}"),
        0xb => format!("b{serial}"),
        0xc => format!("rc{serial}"),
        _ => String::new(),
    };
    Version {
        major,
        minor,
        text: format!("{major}.{minor}.{micro}{suffix}"),
        is_final: level >= 0xc,
    }
}

/// Before 3.11 no symbol holds the version: `PY_VERSION` is a string among the read-only data,
/// beside the versions of other libraries. Linkers store a string that ends another one only
/// there (`/usr/local/versions/3.10.13`), so ends are looked at too.
fn version_of_image(image: &Image, named: Option<(u8, u8)>) -> Option<Version> {
    let data = image.section_data(".rodata").unwrap_or_default();
    version_among(data.split(|&byte| byte == 0), named)
}

/// What the file holds goes before what it is called: it may have been renamed.
fn version_among<'a>(
    strings: impl Iterator<Item = &'a [u8]>,
    named: Option<(u8, u8)>,
) -> Option<Version> {
    let ends = strings.filter_map(|text| text.rsplit(|&byte| byte == b'/').next());
    let (fitting, others): (Vec<Version>, Vec<Version>) = ends
        .filter_map(version_of_text)
        .partition(|version| named == Some((version.major, version.minor)));
    let mut found = match fitting.is_empty() {
        false => fitting,
        true => others
            .into_iter()
            .filter(|version| version.major == 3 && (6..=10).contains(&version.minor))
            .collect(),
    };
    found.sort_by(|a, b| a.text.cmp(&b.text));
    found.dedup();
    match (found.pop(), named) {
        (Some(version), _) if found.is_empty() => Some(version),
        (_, Some((major, minor))) => Some(Version {
            major,
            minor,
            text: format!("{major}.{minor}"),
            is_final: true,
        }),
        _ => None,
    }
}

/// `3.10.13`, `3.9.2+`, `3.10.0rc1`.
fn version_of_text(text: &[u8]) -> Option<Version> {
    if !(5..=12).contains(&text.len()) {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let mut parts = text.splitn(3, '.');
    let (major, minor, micro) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = micro.bytes().take_while(u8::is_ascii_digit).count();
    let suffix = &micro[digits..];
    let level = suffix
        .trim_end_matches('+')
        .trim_end_matches(|c: char| c.is_ascii_digit());
    if digits == 0 || !matches!(level, "" | "a" | "b" | "rc") {
        return None;
    }
    Some(Version {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        text: text.to_owned(),
        is_final: !matches!(level, "a" | "b"),
    })
}

/// `python3.10`, `libpython3.7m.so.1.0`, `python2.7`.
fn version_in_name(name: &str) -> Option<(u8, u8)> {
    let (_, version) = name.split_once("python")?;
    let (major, rest) = version.split_once('.')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    Some((major.parse().ok()?, rest[..digits].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_for_people() {
        assert_eq!(version_of_hex(0x030b_07f0).text, "3.11.7");
        assert_eq!(version_of_hex(0x030d_00c2).text, "3.13.0rc2");
        assert!(version_of_hex(0x030d_00c2).is_final);
        assert!(!version_of_hex(0x030e_00b1).is_final);
    }

    #[test]
    fn names_tell_the_minor_version() {
        for (name, want) in [
            ("python3.10", Some((3, 10))),
            ("libpython3.7m.so.1.0", Some((3, 7))),
            ("libpython2.7.so.1.0", Some((2, 7))),
            ("python3", None),
            ("uwsgi", None),
            ("libpython3.so", None),
        ] {
            assert_eq!(version_in_name(name), want, "{name}");
        }
    }

    #[test]
    fn the_version_string_is_found_among_others() {
        let strings = |s: &'static str| s.split(' ').map(str::as_bytes);
        let found = |s, named| version_among(strings(s), named).map(|v| v.text);
        let all = "1.2.13 3.40.1 3.10.13 3.x.y 3.10.";
        assert_eq!(found(all, Some((3, 10))).as_deref(), Some("3.10.13"));
        assert_eq!(found(all, None).as_deref(), Some("3.10.13"));
        assert_eq!(found("3.9.2+", None).as_deref(), Some("3.9.2+"));
        assert_eq!(found("1.2.3", Some((3, 10))).as_deref(), Some("3.10"));
        assert_eq!(found("1.2.3", None), None);
        let end = "/versions/3.10.13 /versions/3.10.13/lib 3.10.13";
        assert_eq!(found(end, Some((3, 10))).as_deref(), Some("3.10.13"));
        // A file that has been renamed.
        assert_eq!(found(all, Some((3, 8))).as_deref(), Some("3.10.13"));
        let other = found("3.10.1 3.9.2", Some((3, 8)));
        assert_eq!(other.as_deref(), Some("3.8"));
        // Two candidates: only what the name says.
        let two = found("3.10.1 x 3.10.2", Some((3, 10)));
        assert_eq!(two.as_deref(), Some("3.10"));
    }
}
