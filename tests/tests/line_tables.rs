//! `lines`: each line of the workload against the kernel's own numbers, and where memory_profiler,
//! run on the same program, says something else.

use std::path::PathBuf;
use std::process::Command;

use memprof_tests::errors::expect_error;
use memprof_tests::gate::Gate;
use memprof_tests::line_tables::{JsonTables, MEMORY_PROFILER, TextTable, text_tables};
use memprof_tests::machine::{self, require, workload};
use memprof_tests::program::Program;
use memprof_tests::session::Session;
use memprof_tests::truth::{self, Growth, KIB, MIB, Tolerance, lines_of};

/// VmHWM, which the workload measures with, is counted by the kernel a CPU each.
const LINE: Tolerance = Tolerance {
    percent: 2.0,
    floor: 512 * KIB,
};
/// What a line that did nothing may have: the interpreter's own small objects.
const NOTHING: u64 = 512 * KIB;

/// A test for each of these interpreters.
macro_rules! tables {
    ($($name:ident: $python:expr;)*) => {$(
        #[test]
        fn $name() {
            tables_on($python);
        }
    )*};
}

tables! {
    line_tables_on_3_6: machine::interpreter("3.6");
    line_tables_on_3_8: machine::interpreter("3.8");
    line_tables_on_3_11: machine::interpreter("3.11");
    line_tables_on_3_12: machine::interpreter("3.12");
    line_tables_on_3_14: machine::interpreter("3.14");
}

/// A traced run of the workload; its capture is `out.memprof`.
fn traced(python: Result<PathBuf, String>, args: &[&str]) -> Option<(Session, Vec<Growth>)> {
    let session = Session::open()?;
    let python = require(python)?;
    let script = workload("line_tables.py");
    let (python, script) = (python.to_string_lossy(), script.to_string_lossy());
    let run = ["run", "-o", "out", "--", &python, &script];
    let ended = session.run(&[&run[..], args].concat());
    Some((session, truth::parse(&ended.stdout)))
}

fn tables_on(python: Result<PathBuf, String>) {
    let Some((session, truth)) = traced(python, &[]) else {
        return;
    };
    let truth = &truth[0].truth;
    assert_eq!(truth.len(), 9, "functions of line_tables.py");
    let source = workload("line_tables.py");
    let mut args = vec!["lines", "out.memprof", "--json"];
    for name in truth.keys() {
        args.extend(["--func", name]);
    }
    let tables = JsonTables::parse(&session.run(&args).stdout);
    let bytes = |amount: i64| u64::try_from(amount).unwrap_or(0);
    for (name, amounts) in truth {
        let table = tables.table(name);
        if name == "in_thread" {
            // What another thread does is not the line's that waits for it.
            assert!(table.gross < NOTHING, "{name}: {table:?}");
            continue;
        }
        let here = lines_of(&source, name, "# here");
        let row = table.row(here[0]);
        LINE.check(
            &format!("gross of the line in {name}"),
            row.gross,
            bytes(amounts.gross),
        );
        LINE.check(
            &format!("net of the line in {name}"),
            row.net,
            bytes(amounts.net),
        );
        assert_eq!(row.gross - row.freed, row.net, "{row:?}");
        assert!(row.events > 0, "{row:?}");
        assert!(row.text.ends_with("# here"), "{row:?}");
        // Nothing else in the table but the lines that lead there.
        let others = table.lines.iter().filter(|other| other.line != here[0]);
        for other in others.filter(|other| other.gross > NOTHING) {
            assert!(
                other.gross >= row.gross && other.self_gross < NOTHING,
                "{other:?}"
            );
        }
    }
    let mapped = tables.table("mapped");
    let asks = mapped.row(lines_of(&source, "mapped", "# asks")[0]);
    LINE.check("mapped at the line that asks", asks.mapped, 300 * MIB);
    assert!(asks.gross < NOTHING, "{asks:?}");
    let recursive = tables.table("recursive");
    let again = recursive.row(lines_of(&source, "recursive", "# again")[0]);
    LINE.check(
        "five calls deep, counted once",
        again.gross,
        bytes(truth["recursive"].gross),
    );
}

/// The cases in which memory_profiler is wrong: its figure in MiB, and ours.
#[test]
fn memory_profiler_is_wrong_where_the_tables_are_right() {
    let Some(python) = require(machine::venv("python")) else {
        return;
    };
    let script = workload("line_tables.py");
    let theirs = Program::start(
        Command::new(&python)
            .args(["-m", "memory_profiler"])
            .arg(&script),
    );
    let theirs = theirs.finish().expect_code(0);
    let theirs = text_tables(&theirs.stdout);
    let Some((session, _)) = traced(Ok(python), &[]) else {
        return;
    };
    let functions = [
        "loop",
        "transient",
        "deleted",
        "recursive",
        "in_thread",
        "mapped",
    ];
    let named = functions.map(|name| ["--func", name]);
    let args = [&["lines", "out.memprof"], named.as_flattened()].concat();
    let ours = session.run(&args);
    assert!(
        ours.stdout.contains(MEMORY_PROFILER),
        "its head: {}",
        ours.stdout
    );
    let ours = text_tables(&ours.stdout);
    let increment = |tables: &[TextTable], function: &str, tag: &str| {
        let table = tables
            .iter()
            .find(|table| table.has(&format!("def {function}(")));
        let table = table.unwrap_or_else(|| panic!("no table of {function}: {tables:?}"));
        table.line(tag).map_or(0.0, |line| line.increment)
    };
    // (function, line, their increment, ours). Theirs varies by what else happens in a line.
    for (function, tag, their, our) in [
        // A transient inside one line is not seen.
        ("transient", "# here", 0.0, 200.0),
        // A `del` takes back what its own line never had.
        ("loop", "del block", -160.0, 0.0),
        ("deleted", "del first", -40.0, 0.0),
        // The call that recursed has grown by nothing.
        ("recursive", "# again", 0.0, 40.0),
    ] {
        let got = increment(&theirs, function, tag);
        assert!(
            (got - their).abs() < 2.0,
            "theirs, {function} {tag}: {got}, not {their}"
        );
        let got = increment(&ours, function, tag);
        assert!(
            (got - our).abs() < 2.0,
            "ours, {function} {tag}: {got}, not {our}"
        );
    }
    // Another thread's 100 MiB are charged to the line that the main thread is in.
    let waits = |tables: &[TextTable]| -> f64 {
        let lines = ["thread.start()", "# not here"];
        lines
            .map(|tag| increment(tables, "in_thread", tag))
            .iter()
            .sum()
    };
    assert!(
        (waits(&theirs) - 100.0).abs() < 2.0,
        "theirs: {}",
        waits(&theirs)
    );
    assert!(waits(&ours) < 1.0, "ours: {}", waits(&ours));
    // The usage of a line in a loop is the process's, while its increments add up to something else.
    let looped = |tables: &[TextTable]| {
        let table = tables.iter().find(|table| table.has("def loop("));
        table.and_then(|table| table.line("# here").cloned())
    };
    let (their, our) = (looped(&theirs), looped(&ours));
    let (their, our) = (their.expect("their line"), our.expect("our line"));
    assert!(
        their.increment > 158.0 && their.usage < 100.0,
        "theirs: {their:?}"
    );
    // All four blocks, and nothing of them at the end.
    assert!(
        (our.increment - 160.0).abs() < 2.0 && our.usage < 1.0,
        "ours: {our:?}"
    );
    // A mapping of 300 MiB is nothing to them.
    assert!(
        increment(&theirs, "mapped", "# asks").abs() < 1.0,
        "{theirs:?}"
    );
    let mapped = ours.iter().find(|table| table.has("def mapped("));
    let asks = mapped.and_then(|table| table.line("# asks"));
    assert!(
        asks.is_some_and(|line| line.more == ["300.000", "MiB"]),
        "{asks:?}"
    );
}

#[test]
fn workers_are_added_up_and_told_apart() {
    let Some((session, truth)) = traced(machine::interpreter("3.13"), &["--workers", "3"]) else {
        return;
    };
    assert_eq!(truth.len(), 3, "workers");
    let here = lines_of(&workload("line_tables.py"), "work", "# here")[0];
    let net = |args: &[&str]| {
        let args = [&["lines", "out.memprof", "--json", "--func", "work"], args].concat();
        JsonTables::parse(&session.run(&args).stdout)
            .table("work")
            .row(here)
            .net
    };
    let all: i64 = truth.iter().map(|worker| worker.truth["work"].net).sum();
    LINE.check("all workers", net(&[]), all as u64);
    for worker in &truth {
        let pid = worker.pid.to_string();
        let net = net(&["--pid", &pid]);
        LINE.check("one worker", net, worker.truth["work"].net as u64);
    }
}

#[test]
fn sources_are_found_elsewhere_and_doubted() {
    let Some(session) = Session::open() else {
        return;
    };
    // From 3.9 on, Python makes the path of its script absolute.
    let Some(python) = require(machine::interpreter("3.8")) else {
        return;
    };
    // Relative to a folder that is another one later, in Latin-1, with tabs and an escape sequence.
    let app = session.dir().join("app");
    std::fs::create_dir(&app).expect("a folder");
    let text = b"# coding: latin-1\nKEEP = []\ndef caf\xe9():\n\tKEEP.append('\xc3' * \
                 (40 << 20)) # \x1b[2J \xe9\ndef other():\n\tpass\ncaf\xe9()\n";
    std::fs::write(app.join("caf.py"), text).expect("a source");
    let python = python.to_string_lossy();
    let mut run = session.command(&[
        "run",
        "-o",
        "../mprofile_20260102030405",
        "--",
        &python,
        "caf.py",
    ]);
    Program::start(run.current_dir(&app))
        .finish()
        .expect_code(0);
    // The last recording is the default. Beside the source, it is found.
    let mut lines = session.command(&[
        "lines",
        "../mprofile_20260102030405.memprof",
        "--func",
        "café",
    ]);
    let beside = Program::start(lines.current_dir(&app))
        .finish()
        .expect_code(0);
    let row = "\n     4   40.";
    assert!(beside.stdout.contains(row), "{}", beside.stdout);
    assert!(
        beside.stdout.contains("(40 << 20)) # \\u{1b}[2J é\n"),
        "{}",
        beside.stdout
    );
    assert!(
        beside
            .stdout
            .contains("\n     3                                         def café():\n")
    );
    assert!(
        !beside.stdout.contains("other"),
        "it ends: {}",
        beside.stdout
    );
    assert!(!beside.stdout.contains("note:"), "{}", beside.stdout);
    // From elsewhere it is not, and the figures are there.
    let away = session.run(&["lines", "--func", "caf.café"]);
    assert!(away.stdout.contains(row), "{}", away.stdout);
    assert!(
        away.stdout
            .contains("note: the source is not here: add --source-root DIR")
    );
    assert!(!away.stdout.contains("KEEP"), "{}", away.stdout);
    // Where to look can be told; an output file is written, and not twice.
    let told = [
        "lines",
        "--func",
        "café",
        "--source-root",
        "app",
        "-o",
        "table.txt",
    ];
    session.run(&told);
    let table = session.read("table.txt");
    assert!(table.contains("KEEP") && table.contains("note: the source is taken from app/caf.py"));
    expect_error(session.start(&told).finish(), 1).expect_words(&["exists already"]);
    // Changed since: told; no such function there any more: no text.
    let changed = |text: &str| {
        std::fs::write(app.join("caf.py"), text).expect("a source");
        session
            .run(&["lines", "--func", "café", "--source-root", "app"])
            .stdout
    };
    let moved = changed("#\n#\ndef café():\n  new\n");
    assert!(
        moved.contains("  new\n") && moved.contains("lines may have moved"),
        "{moved}"
    );
    let gone = changed("#\ndef café():\n  new\n  newer\n");
    assert!(
        !gone.contains("new\n") && gone.contains("has no such function there"),
        "{gone}"
    );
    assert!(gone.contains(row), "{gone}");
}

#[test]
fn what_is_no_function_and_no_capture_is_told() {
    let Some((session, _)) = traced(machine::interpreter("3.12"), &["--workers", "1"]) else {
        return;
    };
    let error = |args: &[&str], code| expect_error(session.start(args).finish(), code);
    let said = error(&["lines", "out.memprof", "--func", "wrk"], 1);
    assert!(said.cause.contains("line_tables.work"), "{said:?}");
    assert_eq!(
        said.hint,
        "memprof-ebpf lines out.memprof --func line_tables.work"
    );
    error(&["lines"], 1).expect_words(&["no capture here"]);
    error(&["lines", "out.memprof", "--func", "a**"], 2).expect_words(&["no pattern"]);
    error(&["lines", "out.memprof", "--pid", "1"], 1).expect_words(&["not in the capture"]);
    error(&["lines", "out.memprof", "--source-root", "nowhere"], 1).expect_words(&["nowhere"]);
    error(&["lines", "out.folded"], 1);
    // What is frozen into the interpreter has no file.
    let frozen = session.run(&[
        "lines",
        "out.memprof",
        "--func",
        "importlib._bootstrap._find_and_load",
    ]);
    assert!(
        frozen
            .stdout
            .contains("note: the code did not come from a file"),
        "{}",
        frozen.stdout
    );
}

/// Code out of an archive, out of a string, and with names that somebody chose to do harm.
const ODD: &str = r#"
import sys
sys.path.insert(0, sys.argv[1])
import packed
KEEP = [packed.from_archive()]
exec("def from_string():\n    KEEP.append(b's' * (40 << 20))\nfrom_string()")
def harm():
    KEEP.append(b"h" * (40 << 20))
for file in ("/dev/zero", sys.argv[2], "/etc/\x1b[2J\n../passwd"):
    code = harm.__code__.replace(co_name="x\x1b[2J\u202ey", co_qualname="x\x1b[2J\u202ey", co_filename=file)
    exec(code)
exec(compile("KEEP.append(b'm' * (40 << 20))", "/etc/passwd", "exec"))
"#;

#[test]
fn code_without_a_file_and_hostile_names_do_no_harm() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.13")) else {
        return;
    };
    let packed = "def from_archive():\n    return b'a' * (40 << 20)\n";
    std::fs::write(session.file("packed.py"), packed).expect("a source");
    let mut zip = Command::new(&python);
    zip.args(["-m", "zipfile", "-c", "packed.zip", "packed.py"]);
    Program::start(zip.current_dir(session.dir()))
        .finish()
        .expect_code(0);
    std::fs::remove_file(session.file("packed.py")).expect("the source");
    // A FIFO that nobody writes to: opening it would wait for ever.
    let fifo = Gate::new(session.dir(), "fifo.py");
    let python = python.to_string_lossy();
    session.run(&[
        "run",
        "-o",
        "out",
        "--",
        &python,
        "-c",
        ODD,
        "packed.zip",
        fifo.path(),
    ]);
    let archive = session
        .run(&["lines", "out.memprof", "--func", "packed.from_archive"])
        .stdout;
    assert!(
        archive.contains("note: the source is inside packed.zip: unpack it"),
        "{archive}"
    );
    assert!(archive.contains("\n     2   40."), "{archive}");
    std::fs::write(session.file("packed.py"), packed).expect("a source");
    let unpacked = [
        "lines",
        "out.memprof",
        "--func",
        "from_archive",
        "--source-root",
        ".",
    ];
    let unpacked = session.run(&unpacked).stdout;
    assert!(
        unpacked.contains("return b'a' * (40 << 20)\n"),
        "{unpacked}"
    );
    let string = session
        .run(&["lines", "out.memprof", "--func", "<string>.from_string"])
        .stdout;
    assert!(
        string.contains("note: the code did not come from a file"),
        "{string}"
    );
    let harm = session
        .run(&[
            "lines",
            "out.memprof",
            "--func",
            "x*y",
            "--source-root",
            "/etc",
        ])
        .stdout;
    assert_eq!(
        harm.matches("Function: x\\u{1b}[2J\\u{202e}y\n").count(),
        3,
        "{harm}"
    );
    assert_eq!(harm.matches("not a regular file").count(), 2, "{harm}");
    let steers = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    assert!(!harm.contains(steers), "{harm:?}");
    let module = session
        .run(&["lines", "out.memprof", "--func", "passwd.<module>"])
        .stdout;
    for text in [harm, module] {
        assert!(text.contains("has no such function"), "{text}");
        assert!(!text.contains("root:"), "another file: {text}");
    }
}
