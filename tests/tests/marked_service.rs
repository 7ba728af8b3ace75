//! Marks in a service: workers forked by gunicorn, greenlets that interleave, calls that a signal cuts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use memprof_tests::dat::{self, Dat};
use memprof_tests::http::{self, Request};
use memprof_tests::judge::{judge_functions, judge_plot_and_peak};
use memprof_tests::machine::{self, require, workload};
use memprof_tests::process::{PATIENCE, wait_until};
use memprof_tests::program::Program;
use memprof_tests::service::address;
use memprof_tests::session::Session;
use memprof_tests::truth::{KIB, MIB, Tolerance};
use rustix::process::Signal;

/// The decorated functions, outermost first.
const FUNCTIONS: [&str; 4] = ["handle", "first", "second", "third"];

/// What the functions themselves allocate comes on top of the blocks that they touch.
const BLOCKS: Tolerance = Tolerance {
    percent: 0.0,
    floor: 512 * KIB,
};

/// marked_service.py under the tracer.
struct Served {
    tracer: Program,
    address: SocketAddr,
    hold: PathBuf,
}

impl Served {
    /// Starts a command that serves it.
    #[track_caller]
    fn start(session: &Session, import: bool, command: &[&str]) -> Served {
        let hold = session.file("hold");
        let args = [&["run", "-M", "-o", "out", "--"], command].concat();
        let mut tracer = session.command(&args);
        tracer
            .env("HOLD", &hold)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        if import {
            tracer.env("IMPORT_PROFILE", "1");
        }
        let mut tracer = Program::start(&mut tracer);
        // gunicorn says it on stderr, the server of one process on stdout.
        let address = if command[0].ends_with("gunicorn") {
            tracer.wait_stderr_text(|text| address(text).is_some(), "address");
            address(&tracer.stderr_so_far())
        } else {
            address(&tracer.wait_stdout("Listening at"))
        };
        Served {
            tracer,
            address: address.expect("just seen"),
            hold,
        }
    }

    fn get(&self) -> Request {
        http::get(self.address, "/")
    }

    /// So many requests at a time until each of `workers` processes has answered six; how many
    /// each did.
    #[track_caller]
    fn serve(&self, workers: usize, at_a_time: usize) -> BTreeMap<u32, u64> {
        let mut answers: BTreeMap<u32, u64> = BTreeMap::new();
        // The kernel chooses who accepts.
        for _ in 0..100 {
            if answers.len() == workers && answers.values().all(|&count| count >= 6) {
                return answers;
            }
            let hold = at_a_time > 1;
            if hold {
                std::fs::write(&self.hold, "").expect("write into the scratch folder");
            }
            let before = self.held();
            let requests: Vec<Request> = (0..at_a_time).map(|_| self.get()).collect();
            if hold {
                self.wait_held(before + at_a_time);
                std::fs::remove_file(&self.hold).expect("just written");
            }
            for request in requests {
                let body = request.body().unwrap_or_else(|e| panic!("no answer: {e}"));
                let pid = body.trim().parse().expect("a pid");
                *answers.entry(pid).or_default() += 1;
            }
        }
        panic!("100 rounds never gave each of {workers} workers six requests: {answers:?}");
    }

    fn held(&self) -> usize {
        let folder = self.hold.parent().expect("in the scratch folder");
        let entries = std::fs::read_dir(folder)
            .expect("the scratch folder")
            .flatten();
        let is_held = |name: &str| name.starts_with("hold.");
        entries
            .filter(|e| e.file_name().to_str().is_some_and(is_held))
            .count()
    }

    #[track_caller]
    fn wait_held(&self, count: usize) {
        wait_until(&format!("{count} requests held"), PATIENCE, || {
            (self.held() >= count).then_some(())
        });
    }
}

/// Each worker has all four functions, on the levels 0 to 3, as often as it answered.
#[track_caller]
fn check(session: &Session, answers: &BTreeMap<u32, u64>, module: &str) -> Dat {
    let report = session.report();
    report.assert_nothing_lost();
    let dat = dat::parse(&session.read("out.dat"));
    for (&pid, &count) in answers {
        let band = dat.band(pid);
        for (level, function) in FUNCTIONS.iter().enumerate() {
            let name = format!("{module}.{function}");
            let lines = dat
                .funcs_of(pid)
                .into_iter()
                .filter(|func| func.name == name);
            let levels: Vec<u32> = lines.map(|func| func.level - band).collect();
            assert_eq!(
                levels.len() as u64,
                count,
                "{name} in {pid}: {:?}",
                dat.funcs
            );
            assert!(
                levels.iter().all(|&l| l == level as u32),
                "{name}: {levels:?}"
            );
            let mark = report.mark(pid, &name);
            assert_eq!((mark.calls, mark.cut), (count, 0), "{mark:?}");
            assert_eq!(mark.levels.len(), 1, "{mark:?}");
            // 1 MiB is kept of each request; the 2 MiB of first are given back.
            if *function == "second" && !interleave(&dat, pid) {
                let grown = mark.levels[0].rss_delta as u64;
                BLOCKS.check("kept in second", grown, count * MIB);
            }
        }
    }
    let mut bands: Vec<(u32, u32)> = answers.keys().map(|&pid| (dat.band(pid), pid)).collect();
    bands.sort_unstable();
    let apart = |two: &[(u32, u32)]| two[1].0 >= two[0].0 + 4;
    assert!(bands.windows(2).all(apart), "a band each: {bands:?}");
    dat
}

/// Two calls of handle in one process at one time.
fn interleave(dat: &Dat, pid: u32) -> bool {
    let funcs = dat.funcs_of(pid).into_iter();
    let handles: Vec<_> = funcs
        .filter(|func| func.name.ends_with(".handle"))
        .collect();
    handles
        .windows(2)
        .any(|two| two[1].epoch_s[0] < two[0].epoch_s[1])
}

fn gunicorn<'a>(gunicorn: &'a str, workloads: &'a str, kind: &'a str) -> Vec<&'a str> {
    let workers = ["-w", "2", "-k", kind, "-b", "127.0.0.1:0"];
    let app = [
        "--no-control-socket",
        "--chdir",
        workloads,
        "marked_service:app",
    ];
    [&[gunicorn], &workers[..], &app[..]].concat()
}

/// The workers of gunicorn with bare `@profile` or an import, requests so many at a time.
fn gunicorn_workers(kind: &str, import: bool, at_a_time: usize) {
    let Some(session) = Session::open() else {
        return;
    };
    let (Some(program), Some(mprof)) = (
        require(machine::venv("gunicorn")),
        require(machine::venv("mprof")),
    ) else {
        return;
    };
    let workloads = workload("marked_service.py");
    let workloads = workloads.parent().expect("a folder").to_string_lossy();
    let served = Served::start(
        &session,
        import,
        &gunicorn(&program.to_string_lossy(), &workloads, kind),
    );
    let answers = served.serve(2, at_a_time);
    served.tracer.signal(Signal::TERM);
    served.tracer.finish().expect_code(0);
    let dat = check(&session, &answers, "marked_service");
    assert!(
        dat.funcs.iter().all(|func| func.child.is_some()),
        "only workers are marked"
    );
    if at_a_time > 1 {
        assert!(
            answers.keys().any(|&pid| interleave(&dat, pid)),
            "{:?}",
            dat.funcs
        );
    }
    judge_plot_and_peak(&mprof, session.dir(), "out.dat", &dat);
    judge_functions(&mprof, session.dir(), "out.dat", &dat);
}

#[test]
fn gevent_workers_one_request_at_a_time() {
    gunicorn_workers("gevent", false, 1);
}

#[test]
fn gevent_workers_three_requests_at_a_time() {
    gunicorn_workers("gevent", false, 3);
}

#[test]
fn sync_workers_that_import_profile() {
    gunicorn_workers("sync", true, 1);
}

#[test]
fn a_gevent_server_in_one_process_ended_by_ctrl_c_in_the_middle_of_a_request() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::venv("python")) else {
        return;
    };
    let script = workload("marked_service.py");
    let (python, script) = (python.to_string_lossy(), script.to_string_lossy());
    let served = Served::start(&session, false, &[&python, &script]);
    let answers = served.serve(1, 2);
    let server = *answers.keys().next().expect("one");
    let before = served.held();
    std::fs::write(&served.hold, "").expect("write into the scratch folder");
    let request = served.get();
    served.wait_held(before + 1);
    assert!(
        memprof_tests::process::signal(server, Signal::INT),
        "it serves"
    );
    request.body().expect_err("cut off");
    // The server's own traceback of KeyboardInterrupt is on its stderr.
    assert_eq!(served.tracer.finish().code(), Some(0));
    let report = session.report();
    report.assert_nothing_lost();
    let dat = dat::parse(&session.read("out.dat"));
    for (level, function) in FUNCTIONS.iter().enumerate() {
        let mark = report.mark(server, &format!("__main__.{function}"));
        assert_eq!(mark.calls, answers[&server] + 1, "{mark:?}");
        let calls: Vec<u64> = mark.levels.iter().map(|on_level| on_level.calls).collect();
        assert_eq!(calls.last(), Some(&mark.calls), "{mark:?}");
        assert_eq!(mark.levels[0].level, level as u32, "{mark:?}");
    }
    assert!(interleave(&dat, server), "{:?}", dat.funcs);
}
