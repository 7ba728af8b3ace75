//! The main job: a gunicorn that serves, attached to from outside, with a worker killed midway.

use memprof_tests::folded::{self, Row};
use memprof_tests::machine::{self, require, workload};
use memprof_tests::program::Program;
use memprof_tests::report::Report;
use memprof_tests::service::{LIST_BYTES, Service, Stage};
use memprof_tests::session::Session;
use memprof_tests::truth::{KIB, Tolerance, first_line, lines_of};
use memprof_tests::{browser, dat};
use rustix::process::Signal;

/// What a worker did while it was traced.
struct Truth {
    pid: u32,
    leaks: u64,
    in_first: u64,
    in_second: u64,
}

/// Beside its lists a request makes flask's and gevent's own objects resident, under the same
/// functions only where build() or wait() call into them.
const LISTS: Tolerance = Tolerance {
    percent: 1.0,
    floor: 512 * KIB,
};

#[test]
fn gunicorn_attached_while_serving_with_a_worker_killed_midway() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(gunicorn) = require(machine::venv("gunicorn")) else {
        return;
    };
    let Some(chromium) = require(machine::chromium()) else {
        return;
    };
    let mut service = Service::start(&gunicorn, session.dir());
    let workers = service.wait_workers();
    let tracer = session.attach(service.master(), &["--flamegraph", "out.svg"]);

    serve(&mut service, &workers);
    let (killed, kept) = (workers[0], workers[1]);
    let truth_of_killed = truth(&service, killed);
    let reforked = service.kill_worker(killed);
    serve(&mut service, &[reforked]);
    let truths = [
        truth_of_killed,
        truth(&service, kept),
        truth(&service, reforked),
    ];

    end_by_ctrl_c(tracer);
    let (answered, cut) = service.release();
    let lost_with_killed = truths[0].in_first + truths[0].in_second;
    assert_eq!(
        cut as u64, lost_with_killed,
        "only the killed worker's requests are cut off"
    );
    let sent: u64 = truths
        .iter()
        .map(|truth| truth.in_first + truth.in_second)
        .sum();
    assert_eq!(
        answered as u64 + lost_with_killed,
        sent,
        "the service works on after the trace"
    );

    let report = session.report();
    report.assert_nothing_lost();
    let rows = session.folded(&report);
    for truth in &truths {
        check_worker(&session.report_of(truth.pid), &rows, truth);
    }
    check_dat(&session, &service, &truths);
    check_svg(&session, &chromium, &truths);
}

/// Has each worker keep a list of `leak`, hold one of `second`, and hold one of `first`.
fn serve(service: &mut Service, workers: &[u32]) {
    service.leak_in_each(workers);
    service.hold_in_each(workers, Stage::Second);
    service.hold_in_each(workers, Stage::First);
}

fn truth(service: &Service, pid: u32) -> Truth {
    Truth {
        pid,
        leaks: service.count(pid, "leak"),
        in_first: service.count(pid, "first"),
        in_second: service.count(pid, "second"),
    }
}

fn end_by_ctrl_c(tracer: Program) {
    tracer.signal(Signal::INT);
    tracer.finish().expect_code(0);
}

#[track_caller]
fn check_worker(report: &Report, rows: &[Row], truth: &Truth) {
    let Truth {
        pid,
        leaks,
        in_first,
        in_second,
    } = *truth;
    let source = workload("service.py");
    // Each call of build() makes two lists and returns one.
    let requests = in_first + in_second;
    let expected = [
        ("leak", leaks, 2 * leaks),
        ("first", in_first, 2 * requests),
        ("second", in_second, 2 * in_second),
        (
            "build",
            leaks + requests,
            2 * (leaks + in_first + 2 * in_second),
        ),
    ];
    for (name, net, gross) in expected {
        let row = report.function(name, "service.py");
        LISTS.check(
            &format!("net of {name} in {pid}"),
            row.net,
            net * LIST_BYTES,
        );
        LISTS.check(
            &format!("gross of {name} in {pid}"),
            row.gross,
            gross * LIST_BYTES,
        );
        // A decorated function begins at its decorator.
        let decorated = u32::from(name == "leak");
        assert_eq!(
            row.line,
            first_line(&source, name) - decorated,
            "first line of {name}"
        );
        let folded = folded::bytes_under(rows, pid, name, "service.py");
        assert_eq!(folded, row.net, "net of {name} in {pid}: folded and report");
    }
    // What is held was made resident by extend(), which copies the list that is let go.
    for (name, text) in [
        ("build", "grown.extend(slots)"),
        ("first", "result = build()"),
        ("second", "result = build()"),
        ("leak", "KEPT.append(build())"),
    ] {
        let lines = folded::lines_under(rows, pid, name, "service.py");
        let expected = lines_of(&source, name, text);
        assert!(
            lines.contains(&expected[0]),
            "lines of {name} in {pid}: {lines:?}, not {expected:?}"
        );
    }
    let roots: Vec<&str> = rows
        .iter()
        .filter(|row| row.pid() == pid)
        .map(|row| row.root.as_str())
        .collect();
    assert!(
        roots.iter().all(|root| root.contains("gunicorn")),
        "role of a worker: {roots:?}"
    );
}

#[track_caller]
fn check_dat(session: &Session, service: &Service, truths: &[Truth]) {
    let dat = dat::parse(&session.read("out.dat"));
    let pids = dat.child_pids();
    assert!(
        truths.iter().all(|truth| pids.contains(&truth.pid)),
        "CHLD lines of {pids:?}"
    );
    assert!(
        !pids.contains(&service.master()),
        "the master is MEM, no child"
    );
}

#[track_caller]
fn check_svg(session: &Session, chromium: &std::path::Path, truths: &[Truth]) {
    let svg = session.file("out.svg");
    let titles = browser::titles(&browser::dom(chromium, session.dir(), &svg));
    for name in ["first", "second", "build", "leak"] {
        let frame = format!("{name} (");
        let found = titles
            .iter()
            .filter(|title| title.starts_with(&frame))
            .count();
        assert!(
            found >= truths.len(),
            "{found} frames of {name} in the browser: {titles:?}"
        );
    }
    for truth in truths {
        let pid = format!("({})", truth.pid);
        assert!(
            titles.iter().any(|title| title.contains(&pid)),
            "no root of {pid}: {titles:?}"
        );
    }
    assert!(
        titles.iter().any(|title| title.contains("bytes")),
        "unit: {titles:?}"
    );
    let png = session.file("out.png");
    browser::screenshot(chromium, session.dir(), &svg, (1200, 900), &png);
    assert!(
        std::fs::metadata(&png).is_ok_and(|file| file.len() > 5000),
        "an empty picture"
    );
}

#[test]
fn a_service_held_by_no_test_serves_under_trace() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(gunicorn) = require(machine::venv("gunicorn")) else {
        return;
    };
    let mut service = Service::start(&gunicorn, session.dir());
    let workers = service.wait_workers();
    let tracer = session.attach(service.master(), &["--no-follow"]);
    service.leak_in_each(&workers);
    let killed = workers[0];
    let reforked = service.kill_worker(killed);
    end_by_ctrl_c(tracer);
    let report = session.report();
    // What is forked after the attachment stays untraced, and the trace goes on without it.
    report.process(service.master());
    assert!(
        report
            .processes
            .iter()
            .all(|process| process.pid != reforked),
        "{:?}",
        report.processes
    );
}
