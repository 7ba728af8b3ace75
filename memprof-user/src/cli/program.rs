//! Which program `run` starts for the words that were typed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::args::RunArgs;
use crate::error::{Error, Exit, Result};
use crate::python::known::on_path;

/// What runs a FILE.py when no interpreter is named.
const PYTHON: &str = "python3";

/// The program and its arguments. A FILE.py is run with Python. With `--python` so is what else
/// Python can run, as for mprof: a script, with the interpreter that is named, or a module.
pub fn program(args: &RunArgs) -> Result<(OsString, Vec<OsString>)> {
    let mut words = args.command.clone();
    let Some(first) = words.first() else {
        return Err(unknown_option(OsStr::new("")));
    };
    let named = args.python.as_ref().and_then(Option::as_ref);
    let is_option = first.as_encoded_bytes().starts_with(b"-");
    if is_option && named.is_none() {
        return Err(unknown_option(first));
    }
    let interpreter = named.cloned().unwrap_or_else(|| PYTHON.into());
    match found(first) {
        _ if args.nopython => {}
        _ if is_option || first.as_encoded_bytes().ends_with(b".py") => {
            words.insert(0, interpreter);
        }
        _ if args.python.is_none() => {}
        Found::PythonScript(path) if named.is_some() => {
            words[0] = path;
            words.insert(0, interpreter);
        }
        Found::PlainFile => words.insert(0, interpreter),
        Found::Nothing => {
            words.splice(..0, [interpreter, "-m".into()]);
        }
        // Its first line knows its interpreter, or it is not Python.
        Found::PythonScript(_) | Found::Program => {}
    }
    let program = words.remove(0);
    Ok((program, words))
}

/// What lies under the name of a program.
enum Found {
    /// A program that says in its first line that Python runs it, and where it is.
    PythonScript(OsString),
    /// Another one.
    Program,
    /// A file that is no program.
    PlainFile,
    Nothing,
}

fn found(name: &OsStr) -> Found {
    // A file of this name that is not a program is one for Python, as for mprof.
    let path = on_path(name).filter(|path| path.is_file());
    let Some(path) = path else {
        return match Path::new(name).is_file() {
            true => Found::PlainFile,
            false => Found::Nothing,
        };
    };
    let executable = path
        .metadata()
        .is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0);
    if !executable {
        return Found::PlainFile;
    }
    // The kernel reads no more of a first line (BINPRM_BUF_SIZE).
    let mut start = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(256).read_to_end(&mut start));
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or(&[]);
    let line = String::from_utf8_lossy(line);
    match read.is_ok() && line.starts_with("#!") && line.contains("python") {
        true => Found::PythonScript(path.into()),
        false => Found::Program,
    }
}

/// clap takes it for the command: whatever begins with a dash may be an argument of that.
fn unknown_option(word: &OsStr) -> Error {
    Error::failed(
        format!("run has no option {}", word.display()),
        "no program's name begins with a dash",
        "memprof-ebpf run --help",
    )
    .with_exit(Exit::Usage)
}
