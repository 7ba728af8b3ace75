//! The sentences that close a report, for runs that differ in what there is to say.
//!
//! After a wanted change: `BLESS=1 cargo test -p memprof-user --test golden_verdict`, then read the
//! difference.

mod support;

use memprof_user::model::*;
use memprof_user::report::{self, ReportOptions};
use support::{KIB, MIB};

/// What follows the last table.
fn verdict(profile: &Profile) -> String {
    let text = report::text(profile, &ReportOptions::default());
    text.rsplit("\n\n").next().unwrap().to_owned()
}

fn process(pid: u32, ppid: u32, role: &str) -> Process {
    Process {
        pid,
        ppid,
        role: role.to_owned(),
        python: Some("3.12.1".to_owned()),
        ..Process::default()
    }
}

fn owner(process: u32, stack: u32, gross: u64, freed: u64) -> Owner {
    Owner {
        process,
        stack,
        cause: if stack == 0 {
            Cause::Unknown
        } else {
            Cause::Python
        },
        kind: PageKind::Anon,
        in_kernel: false,
        file: None,
        gross,
        freed,
        peak: gross,
        cow: 0,
        events: 1,
        mapped: 0,
        mapped_gross: 0,
        mapped_reserved: 0,
        mapped_touched: 0,
    }
}

/// Stack 0 is empty; stack N is the function N - 1 alone.
fn profile(processes: Vec<Process>, owners: Vec<Owner>) -> Profile {
    let names = ["load", "handle", "parse\u{1b}[2J\u{202e}", "render"];
    let functions = names.iter().zip(1..).map(|(name, number)| Function {
        name: (*name).to_owned(),
        file: "/srv/app/api.py".to_owned(),
        first_line: 10 * number,
    });
    let stack = |frames: &[u32]| Stack {
        frames: frames.to_vec(),
        ..Stack::default()
    };
    Profile {
        command: "app".to_owned(),
        duration_s: 10.0,
        processes,
        functions: functions.collect(),
        frames: (0..4).map(|function| Frame { function, line: 7 }).collect(),
        stacks: vec![
            stack(&[]),
            stack(&[0]),
            stack(&[1]),
            stack(&[2]),
            stack(&[3]),
        ],
        files: vec![
            MappedFile {
                path: "/usr/lib/libtorch.so".to_owned(),
            },
            MappedFile {
                path: "[anonymous shared memory]".to_owned(),
            },
        ],
        owners,
        ..Profile::default()
    }
}

/// A master and four workers that read what it had loaded; one of them leaks.
fn prefork() -> Profile {
    let role = "gunicorn: worker [\u{1b}app]";
    let mut processes = vec![process(10, 1, "gunicorn: master [app]")];
    processes.extend((11..15).map(|pid| Process {
        inherited: 100 * MIB,
        rss_end: 120 * MIB,
        pss_end: Some(50 * MIB),
        uss_end: Some(30 * MIB),
        ..process(pid, 10, role)
    }));
    processes[0].before_attach = 110 * MIB;
    processes[0].before_attach_end = 110 * MIB;
    processes[0].before_attach_end_by_kind.anon = 110 * MIB;
    processes[0].before_attach_by_kind.anon = 110 * MIB;
    let mut owners = Vec::new();
    for worker in 1..5 {
        let leak = if worker == 3 { 60 * MIB } else { 2 * MIB };
        let handle = Owner {
            cow: 12 * MIB,
            ..owner(worker, 2, leak, 0)
        };
        let parse = Owner {
            cow: u64::from(worker == 2) * MIB,
            ..owner(worker, 3, 40 * MIB, 39 * MIB)
        };
        owners.extend([handle, parse]);
    }
    profile(processes, owners)
}

/// Files, shared memory, the kernel, another process: everything but a heap.
fn not_python() -> Profile {
    let rows = [
        (Cause::Python, PageKind::File, Some(0), false),
        (Cause::NotPython, PageKind::File, None, false),
        (Cause::Python, PageKind::Shmem, Some(1), false),
        (Cause::Python, PageKind::Anon, None, true),
        (Cause::OtherProcess, PageKind::Anon, None, false),
        (Cause::Found, PageKind::File, None, false),
        (Cause::NoPythonFrame, PageKind::Anon, None, false),
        (Cause::Interpreter, PageKind::Anon, None, false),
    ];
    let owners = rows.iter().zip(1..).map(|(row, mib)| Owner {
        cause: row.0,
        kind: row.1,
        file: row.2,
        in_kernel: row.3,
        ..owner(0, u32::from(row.0 == Cause::Python), mib * MIB, 0)
    });
    let mut owners: Vec<Owner> = owners.collect();
    for shared in [0, 2] {
        owners.push(Owner {
            process: 1,
            ..owners[shared]
        });
    }
    profile(vec![process(7, 1, "app"), process(8, 7, "app")], owners)
}

fn exited() -> Profile {
    let mut gone = process(7, 1, "job.py");
    gone.exited = true;
    gone.before_attach = 5 * MIB;
    gone.before_attach_by_kind.file = 5 * MIB;
    profile(vec![gone], vec![owner(0, 1, 300 * KIB, 0)])
}

fn only_copies() -> Profile {
    let mut child = process(8, 7, "app");
    child.inherited = 50 * MIB;
    let copies = Owner {
        cow: 20 * MIB,
        ..owner(1, 2, 0, 0)
    };
    profile(vec![process(7, 1, "app"), child], vec![copies])
}

/// Its master is not traced.
fn lone_worker() -> Profile {
    let copies = Owner {
        cow: 20 * MIB,
        ..owner(0, 2, 0, 0)
    };
    profile(vec![process(8, 7, "app")], vec![copies])
}

#[test]
fn every_run_has_its_verdict() {
    let cases = [
        ("nothing at all", Profile::default()),
        ("prefork", prefork()),
        ("not Python", not_python()),
        ("exited", exited()),
        ("only copies", only_copies()),
        ("lone worker", lone_worker()),
        ("gunicorn", support::gunicorn()),
    ];
    let mut text = String::new();
    for (name, profile) in &cases {
        text.push_str(&format!("== {name}\n{}\n", verdict(profile)));
    }
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
    support::golden::golden("golden_verdict", "verdict.txt", &text);
}

#[test]
fn workers_that_are_alike_have_no_outlier() {
    let mut profile = prefork();
    profile
        .owners
        .iter_mut()
        .for_each(|owner| owner.gross = 40 * MIB);
    assert!(!verdict(&profile).contains("median"));
    // Two may differ: nobody knows which is the odd one.
    let mut pair = prefork();
    pair.processes[1].role = "x".to_owned();
    pair.processes[2].role = "x".to_owned();
    assert!(!verdict(&pair).contains("median"));
}

#[test]
fn of_very_many_processes_those_that_live_or_made_most_have_a_row() {
    let exited = |pid| Process {
        exited: true,
        ..process(pid, 10, "one request")
    };
    let mut processes = vec![process(10, 1, "server")];
    processes.extend((11..1011).map(exited));
    let owners = (1..1001).map(|index| owner(index, 1, if index == 500 { MIB } else { KIB }, 0));
    let profile = profile(processes, owners.collect());
    let text = report::text(&profile, &ReportOptions::default());
    let table = text.split("\n\n").nth(1).unwrap();
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 1 + 50 + 1, "{table}");
    assert!(rows[1].starts_with(" 10 "), "{table}");
    assert!(rows.iter().any(|row| row.starts_with("510 ")), "{table}");
    assert_eq!(
        rows[51],
        "and 951 processes that made 951.0 KiB resident: report --json has all of them"
    );
    let json = report::json(&profile, &ReportOptions::default());
    assert_eq!(json["processes"].as_array().unwrap().len(), 1001);
}
