//! `--native`: what C code touches has the name of the library and the function on top, with the
//! bytes that the program itself reads from /proc; everything else stays as it is without.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use memprof_tests::checkpoint::Checkpoints;
use memprof_tests::folded::Row;
use memprof_tests::gate::Gate;
use memprof_tests::machine::{self, require, workload};
use memprof_tests::process::wait_asleep;
use memprof_tests::program::Program;
use memprof_tests::report::Report;
use memprof_tests::session::Session;
use memprof_tests::truth::{self, KIB, MIB, Tolerance};
use rustix::process::Signal;
use serde::Deserialize;

/// Pages that a function touches besides: those of the libraries that it runs for the first time,
/// and what a reading of /proc allocates.
const NEAR: Tolerance = Tolerance {
    percent: 0.5,
    floor: 192 * KIB,
};

/// What the program reads has the pages of the reading itself as well, and files differ by what
/// the kernel maps around a fault.
const AROUND: Tolerance = Tolerance {
    percent: 1.0,
    floor: 768 * KIB,
};

/// What each area has, and each object that Python fills.
const SIZE: u64 = 8 * MIB;

/// What native.py prints.
#[derive(Debug, Deserialize)]
struct Truth {
    worker: u32,
    truth: BTreeMap<String, u64>,
}

/// Functions of native.py, and the frame on top of what each one makes resident, or its beginning.
const LEAVES: [(&str, &str); 12] = [
    ("exported", "[plain.so: named_fill]"),
    ("not_exported", "[plain.so: hidden_fill]"),
    ("stripped_exported", "[stripped.so: named_fill]"),
    ("stripped_not_exported", "[stripped.so]"),
    ("made_code", "[anonymous code]"),
    ("read_by_library", "[libc.so.6: read]"),
    ("read_by_python", "[libc.so.6: read]"),
    ("filled_by_libc", "[libc.so.6: memset]"),
    ("copied_by_libc", "[libc.so.6: memcpy]"),
    ("touched_by_the_loop", "[mmap.cpython-"),
    ("first_library", "[first.so: first_fill]"),
    ("second_library", "[second.so: second_fill]"),
];

/// One run of native.py under the tracer.
struct Traced {
    session: Session,
    truth: Truth,
    pid: u32,
    report: Report,
    rows: Vec<Row>,
}

/// None when something is missing here. The program stops where a library is mapped until the
/// tracer has taken that in, and at its end until it has taken all.
fn trace(python: Result<PathBuf, String>, options: &[&str], numpy: bool) -> Option<Traced> {
    let session = Session::open()?;
    let python = require(python)?;
    let source = [workload("native/native.c")];
    let mut libraries = Vec::new();
    for (name, flags) in [
        ("plain", &[][..]),
        ("stripped", &["-s"]),
        ("first", &["-DFILL=first_fill"]),
        ("second", &["-DFILL=second_fill"]),
    ] {
        let library = session.file(&format!("{name}.so"));
        let library = require(machine::compiled(&library, &source, flags))?;
        libraries.push((format!("--{name}"), library));
    }
    let ready = Gate::new(session.dir(), "ready");
    let go = Gate::new(session.dir(), "go");
    let mut command = Command::new(python);
    command.arg(workload("native.py"));
    for (option, library) in &libraries {
        command.arg(option).arg(library);
    }
    command.args(["--ready", ready.path(), "--go", go.path()]);
    command.args(numpy.then_some("--numpy"));
    // One of its threads beside the one that calls, so that there is work without Python.
    command.env("OPENBLAS_NUM_THREADS", "2");
    let target = Program::start(&mut command);
    let pid = target.pid();
    let stop = |name: &str| {
        assert_eq!(ready.wait(), format!("{name} {pid}"), "the program's stop");
        wait_asleep(pid);
    };
    stop("begin");
    let mut tracer = session.attach(pid, options);
    let mut checkpoints = Checkpoints::new(&session.file("out"));
    for name in ["first", "second", "end"] {
        go.open();
        stop(name);
        checkpoints.ask(&mut tracer);
    }
    tracer.signal(Signal::INT);
    tracer.finish().expect_code(0);
    go.open();
    let ended = target.finish().expect_code(0);
    let truth = truth::parse::<Truth>(&ended.stdout).remove(0);
    let report = session.report();
    report.assert_nothing_lost();
    let rows = session.folded(&report);
    Some(Traced {
        session,
        truth,
        pid,
        report,
        rows,
    })
}

/// The first frame above the last one of Python.
fn above_python(row: &Row) -> &str {
    let python = row.frames.iter().rposition(|frame| !frame.file.is_empty());
    let above = python.map_or(0, |python| python + 1);
    row.frames.get(above).map_or("", |frame| &frame.name)
}

/// Bytes under a function of native.py by the frame on top.
fn leaves(traced: &Traced, function: &str) -> BTreeMap<String, u64> {
    let mut leaves = BTreeMap::new();
    let rows = traced.rows.iter().filter(|row| row.pid() == traced.pid);
    for row in rows.filter(|row| row.frames.iter().any(|f| f.is(function, "native.py"))) {
        *leaves.entry(above_python(row).to_owned()).or_default() += row.bytes;
    }
    leaves
}

fn with_leaf(leaves: &BTreeMap<String, u64>, beginning: &str) -> u64 {
    let of_it = leaves
        .iter()
        .filter(|(leaf, _)| leaf.starts_with(beginning));
    of_it.map(|(_, bytes)| bytes).sum()
}

#[test]
fn native_code_has_its_name_on_debians_static_3_11_with_numpy() {
    let Some(traced) = trace(machine::venv("python"), &["--native"], true) else {
        return;
    };
    check(&traced);
    let ones = with_leaf(
        &leaves(&traced, "numpy_ones"),
        "[_multiarray_umath.cpython-",
    );
    AROUND.check("numpy.ones", ones, traced.truth.truth["numpy_ones"]);
    // The product's own buffers, of the thread that calls and of the other one.
    let product = leaves(&traced, "numpy_product");
    let blas = with_leaf(&product, "[libscipy_openblas64_");
    assert!(blas >= MIB, "{product:?}");
    let named = product.keys().filter(|leaf| leaf.contains(": dgemm_"));
    assert!(named.count() > 0, "{product:?}");
    let bare = traced.rows.iter().filter(|row| {
        let names: Vec<&str> = row.frames.iter().map(|frame| frame.name.as_str()).collect();
        names.len() >= 2
            && names[0] == "[no Python frame]"
            && names[1].starts_with("[libscipy_openblas64_")
    });
    assert!(bare.map(|row| row.bytes).sum::<u64>() >= 512 * KIB);
}

#[test]
fn native_code_has_its_name_on_a_shared_3_13() {
    let Some(traced) = trace(machine::interpreter("3.13"), &["--native"], false) else {
        return;
    };
    check(&traced);
}

#[test]
fn native_code_has_its_name_on_a_shared_3_11() {
    let Some(traced) = trace(machine::interpreter("3.11"), &["--native"], false) else {
        return;
    };
    check(&traced);
}

#[track_caller]
fn check(traced: &Traced) {
    for (function, leaf) in LEAVES {
        let truth = traced.truth.truth[function];
        let leaves = leaves(traced, function);
        let what = format!("{leaf} under {function}: {leaves:?}");
        NEAR.check(&what, with_leaf(&leaves, leaf), SIZE);
        // The function that called is still the one on top of its Python stack.
        let row = traced.report.function(function, "native.py");
        AROUND.check(&format!("self of {function}"), row.self_gross, truth);
    }
    assert_eq!(with_leaf(&leaves(traced, "second_library"), "[first.so"), 0);
    // Each piece of code once, whoever called it; a thread without Python and a worker too.
    let report = &traced.report;
    for (library, symbol, truth) in [
        ("plain.so", Some("named_fill"), 2 * SIZE),
        ("plain.so", Some("hidden_fill"), 2 * SIZE),
        ("plain.so", Some("thread_fill"), SIZE),
        ("stripped.so", None, SIZE),
    ] {
        let what = format!("gross of {symbol:?} in {library}");
        NEAR.check(&what, report.native(library, symbol).gross, truth);
    }
    let bare = traced.rows.iter().filter(|row| row.pid() == traced.pid);
    let bare = bare.filter(|row| {
        let names: Vec<&str> = row.frames.iter().map(|frame| frame.name.as_str()).collect();
        names == ["[no Python frame]", "[plain.so: thread_fill]"]
    });
    let bare = bare.map(|row| row.bytes).sum();
    // What the program says has what Python needs to start a thread as well.
    NEAR.check("the bare thread", bare, SIZE);
    assert!(bare <= traced.truth.truth["bare_thread"]);
    let unshared = report.native("plain.so", Some("unshare_fill"));
    NEAR.check("copied by the worker", unshared.cow, SIZE / 2);
    NEAR.check("not grown by that", unshared.gross, 0);
    // In the worker's own stacks as well.
    let worker = traced
        .rows
        .iter()
        .filter(|row| row.pid() == traced.truth.worker);
    let filled = worker.filter(|row| above_python(row) == "[plain.so: hidden_fill]");
    NEAR.check(
        "filled by the worker",
        filled.map(|row| row.bytes).sum(),
        SIZE,
    );
    // The kernel filled what read() was given.
    let read = traced.rows.iter().filter(|row| {
        let names: Vec<&str> = row.frames.iter().map(|frame| frame.name.as_str()).collect();
        names.ends_with(&["[libc.so.6: read]", "[kernel]"])
    });
    NEAR.check("read", read.map(|row| row.bytes).sum(), 2 * SIZE);
    // The loop of the interpreter is the Python frame's own.
    let eval = |row: &&memprof_tests::report::Native| {
        let symbol = row.symbol.as_deref().unwrap_or_default();
        symbol.contains("_PyEval_EvalFrameDefault")
    };
    assert!(!report.native.iter().any(|row| eval(&row)));
    let natives = report.native.iter();
    assert!(natives.map(|row| row.gross).sum::<u64>() <= report.accounting.rss_growth);
    for row in &report.functions {
        assert!(!row.file.contains(".so"), "{row:?}");
    }
    let text = traced.session.run(&["report", "out.memprof"]).stdout;
    assert!(text.contains("Native code by net ("), "{text}");
}

#[test]
fn without_the_option_no_frame_is_native_and_the_amounts_are_the_same() {
    let python = || machine::interpreter("3.11");
    let Some(with) = trace(python(), &["--native"], false) else {
        return;
    };
    let Some(without) = trace(python(), &[], false) else {
        return;
    };
    for traced in [&with, &without] {
        for (function, truth) in &traced.truth.truth {
            // The bare thread's growth has no Python frame.
            if function != "bare_thread" {
                let row = traced.report.function(function, "native.py");
                AROUND.check(&format!("net of {function}"), row.net, *truth);
            }
        }
    }
    AROUND.check("net of the run", with.report.net(), without.report.net());
    for kind in ["python", "kernel", "no_python_frame", "file"] {
        let gross = |traced: &Traced| traced.report.kind(kind).gross;
        AROUND.check(kind, gross(&with), gross(&without));
    }
    assert!(
        without.report.native.is_empty(),
        "{:?}",
        without.report.native
    );
    for row in &without.rows {
        // A file is named by what follows: the kind of its pages.
        let last = row.frames.last().map_or("", |frame| &frame.name);
        let of_file = last == "[file-backed]" || last == "[shared memory]";
        let names = row.frames.iter().map(|frame| frame.name.as_str());
        for name in names.filter(|name| name.starts_with('[') && !of_file) {
            assert!(!name.contains(".so") && !name.contains(": "), "{row:?}");
        }
    }
    let text = without.session.run(&["report", "out.memprof"]).stdout;
    assert!(!text.contains("Native code"), "{text}");
}
