//! The real mprof judges the .dat: plot, peak and list of memory-profiler from PyPI.

use std::path::Path;
use std::process::Command;

use memprof_tests::dat;
use memprof_tests::gate::Gate;
use memprof_tests::judge::{judge, judge_plot_and_peak};
use memprof_tests::machine::{self, require, workload};
use memprof_tests::program::Program;
use memprof_tests::session::{Session, scratch};
use memprof_tests::truth::{self, Growth, MIB, Tolerance, Worker};

/// Between two samples of 0.1 s the peak may lie higher than any sample.
const PEAK: Tolerance = Tolerance {
    percent: 25.0,
    floor: 0,
};

#[test]
fn the_judge_itself_takes_a_file_made_by_hand() {
    let Some(mprof) = require(machine::venv("mprof")) else {
        return;
    };
    let dir = scratch();
    let name = "mprofile_20260102030405.dat";
    let text = "CMDLINE python app.py\nMEM 10.000000 1767323045.0000\nCHLD 42 5.500000 1767323045.0000\n\
                # private\nMEM 20.250000 1767323045.1000\nCHLD 42 7.500000 1767323045.1000\n";
    std::fs::write(dir.path().join(name), text).expect("write into the scratch folder");
    judge(&mprof, dir.path(), name, &dat::parse(text));
}

#[test]
fn mprof_takes_the_dat_of_run() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(mprof) = require(machine::venv("mprof")) else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    let script = workload("growth.py");
    let (python, script) = (python.to_string_lossy(), script.to_string_lossy());
    // No -o: mprof's `list` knows only the default names.
    let ended = session.run(&["run", "--", &python, &script, "--hold", "2"]);
    let truth = &truth::parse::<Growth>(&ended.stdout)[0];
    let name = only_default_name(session.dir());
    let dat = dat::parse(&session.read(&name));
    assert!(dat.command.contains("growth.py"), "CMDLINE {}", dat.command);
    assert!(
        dat.children.is_empty(),
        "no children, no CHLD: {:?}",
        dat.children
    );
    // --hold 2 alone is twenty samples long; a loaded machine may miss a few.
    assert!(dat.mem.len() >= 18, "{} samples", dat.mem.len());
    assert!(
        dat.mem
            .windows(2)
            .all(|two| two[0].epoch_s <= two[1].epoch_s),
        "order of time"
    );
    PEAK.check(
        "peak of MEM",
        (dat.peak() * MIB as f64) as u64,
        truth.rss_after,
    );
    judge(&mprof, session.dir(), &name, &dat);
}

#[test]
fn mprof_takes_the_dat_of_several_processes() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(mprof) = require(machine::venv("mprof")) else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.13")) else {
        return;
    };
    let script = workload("prefork.py");
    let (python, script) = (python.to_string_lossy(), script.to_string_lossy());
    let options = [
        "run",
        "-o",
        "mprofile_20260102030405.dat",
        "--",
        &python,
        &script,
    ];
    let ended = session.run(&[&options[..], &["--workers", "3"]].concat());
    let workers: Vec<Worker> = truth::parse(&ended.stdout);
    let name = "mprofile_20260102030405.dat";
    for file in [
        name,
        "mprofile_20260102030405.folded",
        "mprofile_20260102030405.memprof",
    ] {
        assert!(
            session.file(file).is_file(),
            "-o NAME.dat is taken without its ending: no {file}"
        );
    }
    let dat = dat::parse(&session.read(name));
    let mut pids: Vec<u32> = workers.iter().map(|worker| worker.pid).collect();
    pids.sort_unstable();
    assert_eq!(dat.child_pids(), pids, "a CHLD series a worker");
    let ended = judge(&mprof, session.dir(), name, &dat);
    for pid in pids {
        assert!(
            ended.stdout.contains(&format!("Child {pid}")),
            "mprof peak: {}",
            ended.stdout
        );
    }
}

#[test]
fn mprof_takes_the_dat_of_two_targets_with_one_sample_rate() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(mprof) = require(machine::venv("mprof")) else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.11")) else {
        return;
    };
    let mut gates = Vec::new();
    let mut targets = Vec::new();
    for side in ["a", "b"] {
        let ready = Gate::new(session.dir(), &format!("ready-{side}"));
        let go = Gate::new(session.dir(), &format!("go-{side}"));
        let growth = workload("growth.py");
        targets.push(Program::start(Command::new(&python).arg(growth).args([
            "--ready",
            ready.path(),
            "--go",
            go.path(),
        ])));
        ready.wait();
        gates.push(go);
    }
    let second = targets[1].pid().to_string();
    let tracer = session.attach(targets[0].pid(), &["-p", &second, "-T", "0.02"]);
    gates.iter().for_each(Gate::open);
    for target in targets {
        target.finish().expect_code(0);
    }
    tracer.finish().expect_code(0);
    let dat = dat::parse(&session.read("out.dat"));
    assert!(dat.mem.len() >= 5, "-T 0.02: {} samples", dat.mem.len());
    judge_plot_and_peak(&mprof, session.dir(), "out.dat", &dat);
}

#[track_caller]
fn only_default_name(dir: &Path) -> String {
    let entries = std::fs::read_dir(dir)
        .expect("the scratch folder")
        .flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".dat"))
        .collect();
    assert_eq!(names.len(), 1, "one .dat: {names:?}");
    let name = names.remove(0);
    let digits = name
        .strip_prefix("mprofile_")
        .and_then(|rest| rest.strip_suffix(".dat"));
    assert!(
        digits.is_some_and(|d| d.len() == 14 && d.bytes().all(|b| b.is_ascii_digit())),
        "mprof's default name: {name}"
    );
    name
}
