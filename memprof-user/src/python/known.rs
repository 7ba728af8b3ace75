//! Interpreters by file: what the kernel side needs to recognise one at the moment at which a
//! process maps it. Told by processes seen before, or, for a program about to be started, by the
//! files alone.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memprof_common::layout::thread_source;
use memprof_common::{ImageKey, KnownImage, PythonLayout};

use super::detect::{Candidate, Interpreter};
use super::identify::identify;
use super::image::{Facts, Images};
use crate::target::{Image, Mapping, ReadMemory};

/// Scripts whose interpreter is a script whose interpreter …
const MAX_SCRIPTS: usize = 4;
/// Longest first line that the kernel looks at (BINPRM_BUF_SIZE, include/uapi/linux/binfmts.h).
const SHEBANG_BYTES: u64 = 256;
/// DT_NEEDED, DT_RPATH, DT_RUNPATH (elf.h)
const NEEDED: u32 = 1;
const RPATHS: [u32; 2] = [15, 29];
/// Where the loader looks besides: the multiarch and the usual folders.
const LIBRARIES: [&str; 6] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/lib",
];

/// An interpreter's file, as the kernel side knows it.
#[derive(Clone, Debug)]
pub struct Known {
    /// What names the file.
    pub key: ImageKey,
    /// What a process that maps it has.
    pub image: KnownImage,
    /// The file, open: the number of its inode is nobody else's for so long, even if it is removed
    /// and another one is written in its place.
    pub file: Arc<File>,
}

/// From a process whose interpreter was found. None where the runtime is not the image's own (a
/// COPY relocation): another process that maps the file need not have one. None too where each
/// process finds its thread states by itself: the loader places a library's thread-local
/// variables anew in each program.
pub(super) fn of_process(
    interpreter: &Interpreter,
    candidate: &Candidate,
    file: impl FnOnce() -> io::Result<File>,
) -> Option<Known> {
    let facts = &candidate.facts;
    let own = facts.runtime.map(|at| candidate.base.wrapping_add(at));
    let layout = &interpreter.layout;
    let is_everywhere = match layout.thread_source {
        thread_source::NONE | thread_source::TLS_MODULE => false,
        thread_source::TLS_OFFSET => interpreter.tls.is_some_and(|tls| {
            tls.from_thread_pointer && i64::from(tls.gilstate) as u64 == layout.source_address
        }),
        _ => true,
    };
    if own != interpreter.runtime || !is_everywhere {
        return None;
    }
    let (major, minor) = candidate.mapping.device;
    let key = ImageKey {
        inode: candidate.mapping.inode,
        device: major << 20 | minor,
        _padding: 0,
    };
    let layout = layout.moved(candidate.base.wrapping_neg());
    Some(Known {
        key,
        image: image(layout, facts)?,
        file: Arc::new(file().ok()?),
    })
}

fn image(layout: PythonLayout, facts: &Facts) -> Option<KnownImage> {
    let code = facts
        .segments
        .iter()
        .filter(|segment| segment.executable)
        .min_by_key(|segment| segment.address)?;
    Some(KnownImage {
        layout,
        code_address: code.address,
        code_offset: code.offset,
        fixed: facts.fixed.into(),
        _padding: 0,
    })
}

/// From a program on disk.
pub(super) fn of_program(images: &mut Images, path: &Path) -> Option<(Known, String)> {
    let mut program = fs::canonicalize(path).ok()?;
    for _ in 0..MAX_SCRIPTS {
        match script_interpreter(&program) {
            Some(next) => program = fs::canonicalize(next).ok()?,
            None => break,
        }
    }
    if let Some(facts) = images.facts_of_file(&program) {
        if facts.is_whole {
            return of_file(&program, facts);
        }
        return None;
    }
    let library = needed_libpython(&program)?;
    let facts = images.facts_of_file(&library)?;
    of_file(&library, facts)
}

/// Holds no memory: everything has to come from the file.
struct Nothing;

impl ReadMemory for Nothing {
    fn read(&self, _: u64, _: &mut [u8]) -> bool {
        false
    }
}

fn of_file(path: &Path, facts: Arc<Facts>) -> Option<(Known, String)> {
    let file = File::open(path).ok()?;
    let metadata = file.metadata().ok()?;
    let device = metadata.dev();
    let mapping = Mapping {
        device: (rustix::fs::major(device), rustix::fs::minor(device)),
        inode: metadata.ino(),
        path: path.to_owned(),
        ..Mapping::default()
    };
    let candidate = Candidate {
        mapping: &mapping,
        base: 0,
        facts,
    };
    let runtime = candidate.facts.runtime;
    let interpreter = identify(&Nothing, &candidate, runtime).ok()?;
    let known = of_process(&interpreter, &candidate, || Ok(file))?;
    Some((known, interpreter.version))
}

/// The program of a script's first line; `env` is looked through.
fn script_interpreter(path: &Path) -> Option<PathBuf> {
    let mut line = Vec::new();
    let file = File::open(path).ok()?;
    file.take(SHEBANG_BYTES).read_to_end(&mut line).ok()?;
    let line = line.strip_prefix(b"#!")?;
    let line = line.split(|&byte| byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_ascii_whitespace();
    let program = words.next()?;
    if Path::new(program).file_name()? != "env" {
        return Some(PathBuf::from(program));
    }
    let name = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
    on_path(OsStr::new(name))
}

/// A program as the shell finds it.
pub fn on_path(name: &OsStr) -> Option<PathBuf> {
    if name.as_encoded_bytes().contains(&b'/') {
        return Some(PathBuf::from(name));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// The libpython that the loader is going to map for this program.
fn needed_libpython(program: &Path) -> Option<PathBuf> {
    let image = Image::open(File::open(program).ok()?).ok()?;
    let needed = image.dynamic_strings(&[NEEDED]);
    let name = needed.iter().find(|name| name.starts_with("libpython"))?;
    let origin = program.parent()?.to_string_lossy().into_owned();
    let rpaths = image.dynamic_strings(&RPATHS);
    let own = rpaths
        .iter()
        .flat_map(|paths| paths.split(':'))
        .map(|path| {
            path.replace("$ORIGIN", &origin)
                .replace("${ORIGIN}", &origin)
        });
    let environment = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    own.chain(environment.split(':').map(str::to_owned))
        .chain(LIBRARIES.map(str::to_owned))
        .filter(|folder| !folder.is_empty())
        .map(|folder| Path::new(&folder).join(name))
        .find_map(|library| fs::canonicalize(library).ok())
}
