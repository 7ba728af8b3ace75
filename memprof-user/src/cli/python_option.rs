//! `run --python` in both of its meanings, and `run --flamegraph` in both.
//!
//! For mprof `--python` is a flag, and what follows is the program: `mprof run --python app.py -x`.
//! Ours takes an interpreter: `run --python python3.12 app.py -x`. A parser of options cannot tell
//! which, and would take the program's own options for ours; so the line is put in an unambiguous
//! form before: `--python=EXE`, or `--python -- PROGRAM`. `--flamegraph` may be followed by its FILE
//! or by the program, which must not be taken for a file to write.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

/// Puts the command line of `run` in its unambiguous form; others are left alone. `run` is the
/// definition of that verb.
pub fn settle(words: impl IntoIterator<Item = OsString>, run: &Command) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    if words.get(1).is_none_or(|verb| verb != "run") {
        return words;
    }
    let mut at = 2;
    while let Some(word) = words.get(at) {
        if !is_option(word) {
            break; // the program
        }
        if word == "--flamegraph"
            && let Some(next) = words.get(at + 1)
            && !is_option(next)
            && next != "--"
            && !is_picture(next)
            && words.get(at + 2).is_none_or(|word| word != "--")
        {
            words.insert(at + 1, "--".into());
            break;
        }
        if word != "--python" {
            at += length(word, words.get(at + 1), run);
            continue;
        }
        match words.get(at + 1) {
            Some(next) if next == "--" => break,
            Some(next) if is_option(next) => at += 1,
            Some(next) if is_interpreter(next) => {
                let mut joined = OsString::from("--python=");
                joined.push(next);
                words.splice(at..at + 2, [joined]);
                at += 1;
            }
            Some(_) => {
                words.insert(at + 1, "--".into());
                break;
            }
            None => break,
        }
    }
    words
}

/// `python3.12` and `/opt/venv/bin/python`, but not `python_app.py`.
fn is_interpreter(word: &OsStr) -> bool {
    let word = word.to_string_lossy();
    let name = word.rsplit('/').next().unwrap_or_default();
    (name.starts_with("python") || name.starts_with("pypy")) && !name.ends_with(".py")
}

fn is_picture(word: &OsStr) -> bool {
    let word = word.as_encoded_bytes().to_ascii_lowercase();
    word.ends_with(b".svg")
}

fn is_option(word: &OsStr) -> bool {
    let word = word.as_encoded_bytes();
    word.len() > 1 && word.starts_with(b"-") && word != b"--"
}

/// How many words an option takes, itself included.
fn length(word: &OsStr, next: Option<&OsString>, run: &Command) -> usize {
    let word = word.to_string_lossy();
    let takes_next = match word.strip_prefix("--") {
        Some(long) => match long.contains('=') {
            true => None,
            false => run.get_arguments().find(|arg| arg.get_long() == Some(long)),
        },
        // The first of a cluster that takes a value has the rest of it; the last, the next word.
        None => {
            let mut letters = word.chars().skip(1);
            let found = letters.find_map(|letter| {
                let mut args = run.get_arguments();
                args.find(|arg| arg.get_short() == Some(letter) && takes_value(arg))
            });
            found.filter(|_| letters.next().is_none())
        }
    };
    let Some(arg) = takes_next.filter(|arg| takes_value(arg)) else {
        return 1;
    };
    let needed = arg
        .get_num_args()
        .is_none_or(|range| range.min_values() > 0);
    match next {
        Some(next) if needed || !is_option(next) => 2,
        _ => 1,
    }
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Cli;
    use clap::CommandFactory as _;

    fn settled(line: &str) -> String {
        let mut cli = Cli::command();
        cli.build();
        let run = cli.find_subcommand("run").unwrap();
        let words = line.split(' ').map(OsString::from);
        let settled = settle(words, run);
        let words: Vec<_> = settled.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    #[test]
    fn each_meaning_has_its_own_form() {
        for (typed, form) in [
            // An interpreter.
            (
                "m run --python python3 a.py -x",
                "m run --python=python3 a.py -x",
            ),
            (
                "m run -q --python /v/bin/python3.12 -M a.py",
                "m run -q --python=/v/bin/python3.12 -M a.py",
            ),
            ("m run --python=/v/py a.py", "m run --python=/v/py a.py"),
            // mprof's flag.
            ("m run --python a.py -q", "m run --python -- a.py -q"),
            (
                "m run --python -M gunicorn -w 2",
                "m run --python -M gunicorn -w 2",
            ),
            (
                "m run -T 0.2 --python pytest -x",
                "m run -T 0.2 --python -- pytest -x",
            ),
            (
                "m run -CT 0.2 --python pytest",
                "m run -CT 0.2 --python -- pytest",
            ),
            (
                "m run -T0.2 --python python_app.py",
                "m run -T0.2 --python -- python_app.py",
            ),
            ("m run --python -- a.py", "m run --python -- a.py"),
            (
                "m run --flamegraph --python a.py",
                "m run --flamegraph --python -- a.py",
            ),
            (
                "m run --flamegraph x.svg --python a.py",
                "m run --flamegraph x.svg --python -- a.py",
            ),
            ("m run --python", "m run --python"),
            // The picture's file, or the program.
            (
                "m run --flamegraph python3 a.py -x",
                "m run --flamegraph -- python3 a.py -x",
            ),
            (
                "m run --flamegraph x.SVG python3 a.py",
                "m run --flamegraph x.SVG python3 a.py",
            ),
            (
                "m run --flamegraph x -- a.py",
                "m run --flamegraph x -- a.py",
            ),
            ("m run --flamegraph -q a.py", "m run --flamegraph -q a.py"),
        ] {
            assert_eq!(settled(typed), form);
        }
    }

    #[test]
    fn what_is_of_the_program_or_of_another_verb_is_left_alone() {
        for line in [
            "m run prog --python a.py",
            "m run -o --python a.py",
            "m run -- --python a.py",
            "m trace --python a.py",
            "m run - --python a.py",
            "m",
        ] {
            assert_eq!(settled(line), line);
        }
    }
}
