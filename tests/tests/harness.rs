//! The harness by itself, without the binary under test: when one of these fails, the machine is
//! at fault and not the product.

use std::path::Path;
use std::process::Command;

use memprof_tests::gate::Gate;
use memprof_tests::machine::{self, require, workload};
use memprof_tests::process::{rss, wait_asleep};
use memprof_tests::program::Program;
use memprof_tests::residue::Residue;
use memprof_tests::service::{LIST_BYTES, Service, Stage};
use memprof_tests::session::scratch;
use memprof_tests::truth::{self, Growth, MIB, Worker};
use memprof_tests::{browser, folded};

#[test]
fn growth_waits_at_its_gates_and_tells_its_truth() {
    let Some(python) = require(machine::interpreter("3.11")) else {
        return;
    };
    let dir = scratch();
    let (ready, go) = (Gate::new(dir.path(), "ready"), Gate::new(dir.path(), "go"));
    let mut command = Command::new(python);
    command
        .arg(workload("growth.py"))
        .args(["--ready", ready.path(), "--go", go.path()]);
    let target = Program::start(&mut command);
    assert_eq!(ready.wait(), target.pid().to_string());
    wait_asleep(target.pid());
    let before = rss(target.pid()).expect("it is there");
    go.open();
    let ended = target.finish().expect_code(0);
    let truth = &truth::parse::<Growth>(&ended.stdout)[0];
    assert!(
        truth.rss_before.abs_diff(before) < MIB,
        "{before} seen from outside: {truth:?}"
    );
    assert!(truth.truth["keep_bytes"].gross >= 40 << 20, "{truth:?}");
    let source = workload("growth.py");
    for name in truth.truth.keys() {
        truth::first_line(&source, name);
    }
}

#[test]
fn every_workload_runs_on_every_interpreter() {
    for version in ["3.10", "3.11", "3.12", "3.13"] {
        let Some(python) = require(machine::interpreter(version)) else {
            return;
        };
        let run = |name: &str, words: &[&str]| {
            Program::start(Command::new(&python).arg(workload(name)).args(words))
                .finish()
                .expect_code(0)
        };
        for (name, words) in [
            ("threads.py", &[][..]),
            ("deep.py", &[]),
            ("prefork.py", &["--hold", "0"]),
        ] {
            truth::parse::<Worker>(&run(name, words).stdout);
        }
        assert!(run("storm.py", &["20", "4"]).stdout.contains("children"));
        let dir = scratch();
        let (ready, go) = (Gate::new(dir.path(), "ready"), Gate::new(dir.path(), "go"));
        let mut command = Command::new(&python);
        command.arg(workload("by_many_means.py")).args([
            "--ready",
            ready.path(),
            "--go",
            go.path(),
        ]);
        let target = Program::start(&mut command);
        for stop in ["begin", "child", "end"] {
            assert!(ready.wait().starts_with(stop), "{stop} on {version}");
            go.open();
        }
        target.finish().expect_code(0);
    }
}

#[test]
fn requests_are_held_counted_cut_off_and_released() {
    let Some(gunicorn) = require(machine::venv("gunicorn")) else {
        return;
    };
    let dir = scratch();
    let mut service = Service::start(&gunicorn, dir.path());
    let workers = service.wait_workers();
    let leaks = service.leak_in_each(&workers);
    service.hold_in_each(&workers, Stage::Second);
    service.hold_in_each(&workers, Stage::First);
    let held =
        |service: &Service, pid: u32| service.count(pid, "first") + service.count(pid, "second");
    for (pid, leaks) in leaks {
        let lists = leaks + held(&service, pid);
        let resident = rss(pid).expect("the worker is there");
        let truth = lists * LIST_BYTES;
        assert!(
            (truth..truth + 96 * MIB).contains(&resident),
            "{resident} resident, {truth} in lists"
        );
    }
    let (killed, kept) = (workers[0], workers[1]);
    let reforked = service.kill_worker(killed);
    service.hold_in_each(&[reforked], Stage::Second);
    let (answered, cut) = service.release();
    assert_eq!(cut as u64, held(&service, killed), "cut off");
    assert_eq!(
        answered as u64,
        held(&service, kept) + held(&service, reforked),
        "answered"
    );
}

#[test]
fn the_browser_reads_and_draws_an_svg() {
    let Some(chromium) = require(machine::chromium()) else {
        return;
    };
    let dir = scratch();
    let svg = dir.path().join("a.svg");
    let text = r##"<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="200" height="100">
<g><title>&lt;module&gt; (a.py:1) (5 bytes, 100%)</title><rect width="200" height="100" fill="#ff0000"/></g>
<script>document.documentElement.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "desc"))
.textContent = "by the script";</script></svg>"##;
    std::fs::write(&svg, text).expect("write into the scratch folder");
    let dom = browser::dom(&chromium, dir.path(), &svg);
    assert_eq!(
        browser::titles(&dom),
        ["<module> (a.py:1) (5 bytes, 100%)"],
        "{dom}"
    );
    assert!(
        dom.contains("by the script"),
        "the script has not run: {dom}"
    );
    let png = dir.path().join("a.png");
    browser::screenshot(&chromium, dir.path(), &svg, (200, 100), &png);
    assert!(
        std::fs::read(&png)
            .expect("the picture")
            .starts_with(b"\x89PNG")
    );
}

/// Unmounts when dropped, so that a test that fails leaves no mount.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn a_pinned_bpf_object_is_found_and_a_freed_one_is_not() {
    let Some(()) = require(machine::root()) else {
        return;
    };
    let Some(residue) = require(Residue::watch()) else {
        return;
    };
    let Some(bpftool) = require(machine::bpftool()) else {
        return;
    };
    let dir = scratch();
    let mut mount = Command::new("mount");
    Program::start(mount.args(["-t", "bpf", "none"]).arg(dir.path()))
        .finish()
        .expect_code(0);
    let mounted = Mounted(dir.path());
    let mut create = Command::new(bpftool);
    create
        .args(["map", "create"])
        .arg(dir.path().join("pinned"));
    create.args("type array key 4 value 4 entries 1 name left_behind".split(' '));
    Program::start(&mut create).finish().expect_code(0);
    let left = residue.left();
    assert!(left.contains("left_behind"), "not found: {left:?}");
    drop(mounted);
    residue.assert_none();
}

#[test]
fn folded_stacks_are_read_strictly() {
    let rows = folded::parse(
        "app (7);main (/a b/x.py:3);[file-backed] 10\napp (7);main (/a b/x.py:4) 5\n",
    );
    assert_eq!((rows[0].pid(), rows[0].bytes), (7, 10));
    assert!(rows[1].frames[0].is("main", "x.py"));
    assert_eq!(folded::bytes_under(&rows, 7, "main", "x.py"), 15);
    assert_eq!(folded::lines_under(&rows, 7, "main", "x.py"), [3, 4]);
    for wrong in [
        "b (1) 1\na (1) 1\n",
        "a (1) 1\na (1) 1\n",
        "a (1);f 1\n",
        "a (1) x\n",
    ] {
        assert!(
            std::panic::catch_unwind(|| folded::parse(wrong)).is_err(),
            "taken: {wrong:?}"
        );
    }
}

#[test]
fn what_a_program_started_is_ended_with_it() {
    let mut shell =
        Program::start(Command::new("sh").args(["-c", "sleep 1000 & echo child $!; wait"]));
    let line = shell.wait_stdout("child ");
    let child: u32 = line["child ".len()..].parse().expect("a pid");
    drop(shell);
    // A killed orphan may be a zombie of init for a moment.
    memprof_tests::process::wait_until("the child's end", memprof_tests::process::PATIENCE, || {
        (!memprof_tests::process::alive(child)).then_some(())
    });
}
