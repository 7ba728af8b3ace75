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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Verb};
    use clap::Parser as _;

    /// What `run WORDS` starts.
    fn started(words: &[&str]) -> Result<String> {
        let cli = Cli::try_parse_from([&["m", "run"], words].concat()).unwrap();
        let Verb::Run(args) = cli.verb else {
            panic!("run expected")
        };
        let (program, arguments) = program(&args)?;
        let all = std::iter::once(program).chain(arguments);
        let all: Vec<String> = all.map(|word| word.into_string().unwrap()).collect();
        Ok(all.join(" "))
    }

    #[test]
    fn python_runs_what_it_can_run() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str, mode| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path.into_os_string().into_string().unwrap()
        };
        let script = write("script", "#!/usr/bin/env python3\n", 0o755);
        let shell = write("shell", "#!/bin/sh\n", 0o755);
        let plain = write("plain", "import sys\n", 0o644);
        for (words, expected) in [
            (&["a.py", "-1"][..], "python3 a.py -1"),
            (&["--nopython", "a.py"], "a.py"),
            (&["--python=py", "a.py", "x"], "py a.py x"),
            (&["--python=py", "-m", "a"], "py -m a"),
            (&["--python", "--", "a.py"], "python3 a.py"),
            // A module that is no program.
            (&["--python", "json.tool"], "python3 -m json.tool"),
            (&["--python=py", "json.tool"], "py -m json.tool"),
            (&["json.tool"], "json.tool"),
            (&["--python", &plain], &format!("python3 {plain}")),
            (&["--python=py", &plain, "a"], &format!("py {plain} a")),
            (&[&plain], &plain),
            // Its first line knows its interpreter, unless another is named.
            (&["--python", &script], &script),
            (&["--python=py", &script, "a"], &format!("py {script} a")),
            (&["--python=py", &shell], &shell),
            (&["--python=py", "sh", "-c", "exit"], "sh -c exit"),
        ] {
            assert_eq!(started(words).unwrap(), expected, "{words:?}");
        }
    }

    #[test]
    fn an_option_is_no_program() {
        for words in [&["--tiemout", "3"][..], &["-x"], &["--python", "--", "-x"]] {
            let error = started(words).unwrap_err();
            assert_eq!(error.exit, Exit::Usage, "{error}");
        }
    }
}
