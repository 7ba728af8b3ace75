//! Memory that is no Python heap: each named kind has its bytes, and each file its name.

use std::collections::BTreeMap;
use std::process::Command;

use memprof_tests::checkpoint::Checkpoints;
use memprof_tests::gate::Gate;
use memprof_tests::machine::{self, require, workload};
use memprof_tests::process::{status_bytes, wait_asleep};
use memprof_tests::program::Program;
use memprof_tests::report::Report;
use memprof_tests::session::Session;
use memprof_tests::truth::{self, KIB, MIB, Tolerance};
use rustix::process::Signal;
use serde::Deserialize;

/// 0.5 %, or 32 pages: the interpreter and its libraries touch some of their own on the way.
const NEAR: Tolerance = Tolerance {
    percent: 0.5,
    floor: 128 * KIB,
};

/// What kinds.py prints: by how much the kernel's own counts rose in each function.
#[derive(Debug, Deserialize)]
struct Kinds {
    pid: u32,
    truth: BTreeMap<String, Rss>,
}

#[derive(Debug, Deserialize)]
struct Rss {
    anon: i64,
    file: i64,
    shmem: i64,
}

/// A field of smaps_rollup in bytes, summed over its names.
#[track_caller]
fn rollup(pid: u32, names: &[&str]) -> u64 {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {path}: {e}"));
    let kib = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        let value = value.trim().strip_suffix(" kB")?;
        names.contains(&name).then(|| value.parse::<u64>().ok())?
    });
    kib.sum::<u64>() * KIB
}

#[test]
fn every_kind_has_its_bytes_and_every_file_its_name_on_3_11() {
    check("3.11");
}

#[test]
fn every_kind_has_its_bytes_and_every_file_its_name_on_3_13() {
    check("3.13");
}

fn check(version: &str) {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter(version)) else {
        return;
    };
    let ready = Gate::new(session.dir(), "ready");
    let go = Gate::new(session.dir(), "go");
    let data = session.file("data; 1.bin");
    let mut command = Command::new(python);
    command.arg(workload("kinds.py")).arg("--file").arg(&data);
    command.args(["--ready", ready.path(), "--go", go.path()]);
    let target = Program::start(&mut command);
    let pid = target.pid();
    let stop = |name: &str| {
        assert_eq!(ready.wait(), format!("{name} {pid}"), "the program's stop");
        wait_asleep(pid);
    };
    let status = |field| status_bytes(pid, field).expect("the program is there");
    stop("begin");
    let before = [status("RssAnon"), status("RssFile"), status("RssShmem")];
    let mut tracer = session.attach(pid, &[]);
    go.open();
    stop("grown");
    // It has taken the growth of the file while that is mapped.
    Checkpoints::new(&session.file("out")).ask(&mut tracer);
    go.open();
    stop("unmapped");
    let pss = rollup(pid, &["Pss"]);
    let uss = rollup(pid, &["Private_Clean", "Private_Dirty"]);
    tracer.signal(Signal::INT);
    tracer.finish().expect_code(0);
    let report = session.report();
    go.open();
    let ended = target.finish().expect_code(0);
    let truth = &truth::parse::<Kinds>(&ended.stdout)[0];
    assert_eq!(truth.pid, pid);

    report.assert_nothing_lost();
    report.assert_shares(0.0, 0.0);
    let path = data.to_str().expect("scratch paths are UTF-8");
    files(&report, path, pid);
    kinds(&report, truth);
    before_attach(&report, pid, before);
    shares(&report, pid, pss, uss);
    // A frame has no `;` of its own.
    let folded = session.folded(&report);
    let frame = |name: &str, kind: &str| {
        let rows = folded.iter().filter(|row| {
            let names: Vec<&str> = row.frames.iter().map(|frame| frame.name.as_str()).collect();
            names.ends_with(&[name, kind])
        });
        rows.map(|row| row.bytes).sum::<u64>()
    };
    let memfd = frame("[memfd:kinds (deleted)]", "[shared memory]");
    NEAR.check("[memfd:kinds (deleted)]", memfd, 4 * MIB);
    assert_eq!(
        frame("[data: 1.bin]", "[file-backed]"),
        0,
        "it was unmapped"
    );
}

/// By the files' own sizes, which were touched whole.
#[track_caller]
fn files(report: &Report, data: &str, pid: u32) {
    let posix = format!("/dev/shm/memprof-kinds-{pid} (deleted)");
    for (file, gross, net) in [
        (data, 16, 0),
        ("/memfd:kinds (deleted)", 4, 4),
        ("[anonymous shared memory]", 8, 8),
        (&posix, 6, 6),
        ("/SYSV00000000 (deleted)", 2, 2),
    ] {
        let row = report.mapped_file(file);
        NEAR.check(&format!("gross of {file}"), row.gross, gross * MIB);
        NEAR.check(&format!("net of {file}"), row.net, net * MIB);
    }
    // What a library or the interpreter itself touches is of a known file too.
    let lost = report
        .files
        .iter()
        .find(|row| row.file == "[file not known]");
    assert!(lost.is_none(), "{lost:?}");
}

/// By the kernel's counts, as the program read them.
#[track_caller]
fn kinds(report: &Report, truth: &Kinds) {
    let sum = |of: fn(&Rss) -> i64| {
        let sum: i64 = truth.truth.values().map(of).sum();
        u64::try_from(sum).expect("they rose")
    };
    let anon = |function: &str| u64::try_from(truth.truth[function].anon).expect("it rose");
    let gross = |kind| report.kind(kind).gross;
    NEAR.check("shared memory", gross("shmem"), sum(|rss| rss.shmem));
    NEAR.check("file-backed", gross("file"), sum(|rss| rss.file));
    NEAR.check(
        "no Python frame",
        gross("no_python_frame"),
        anon("bare_thread"),
    );
    NEAR.check("kernel", gross("kernel"), anon("in_kernel"));
    // The workload's own objects are of this kind as well.
    let heap = gross("python");
    assert!((10 * MIB..14 * MIB).contains(&heap), "{:?}", report.kinds);
    for kind in ["other_process", "not_python", "unknown"] {
        assert_eq!(gross(kind), 0, "{:?}", report.kinds);
    }
    // A line of Python touched the shared memory, and called what the kernel filled.
    for kind in ["shmem", "kernel"] {
        let row = report.kind(kind);
        assert_eq!(row.python, row.gross, "{row:?}");
    }
    assert_eq!(report.kind("no_python_frame").python, 0);
    assert!(sum(|rss| rss.anon) >= 41 * MIB, "{truth:?}");
}

#[track_caller]
fn before_attach(report: &Report, pid: u32, [anon, file, shmem]: [u64; 3]) {
    let process = report.process(pid);
    for (kind, was) in [("anon", anon), ("file", file), ("shmem", shmem)] {
        let what = format!("{kind} before the attach");
        NEAR.check(&what, process.before_attach_by_kind[kind], was);
        assert!(
            process.before_attach_end_by_kind[kind] <= process.before_attach_by_kind[kind],
            "{process:?}"
        );
    }
    let sums = &report.before_attach;
    assert_eq!(sums.start_by_kind, process.before_attach_by_kind);
    assert_eq!(sums.end_by_kind, process.before_attach_end_by_kind);
    assert_eq!(sums.start, sums.start_by_kind.values().sum::<u64>());
    assert_eq!(sums.end, sums.end_by_kind.values().sum::<u64>());
}

/// By the kernel's own rollup at the last stop. PSS depends on who else maps the libraries.
#[track_caller]
fn shares(report: &Report, pid: u32, pss: u64, uss: u64) {
    let process = report.process(pid);
    let of_libraries = Tolerance {
        percent: 2.0,
        floor: MIB,
    };
    let read = |value: Option<u64>| value.unwrap_or_else(|| panic!("not read: {process:?}"));
    of_libraries.check("PSS at the end", read(process.pss_end), pss);
    of_libraries.check("USS at the end", read(process.uss_end), uss);
    assert!(process.pss_start < process.pss_end, "{process:?}");
    assert!(process.pss_end <= process.pss_peak, "{process:?}");
    assert!(process.uss_end <= process.pss_end, "{process:?}");
    let points: Vec<_> = report
        .shares
        .iter()
        .filter(|share| share.pid == pid)
        .collect();
    assert!(points.len() >= 2, "first sight and end: {points:?}");
    assert_eq!(Some(points[0].pss), process.pss_start);
    assert_eq!(points.last().map(|share| share.uss), process.uss_end);
}
