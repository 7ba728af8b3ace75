//! Profiles for the tests: one made by hand with a known answer, and arbitrary ones.

// Each test binary takes what it needs.
#![allow(dead_code, reason = "shared by several test binaries")]

pub mod golden;
mod marks;

use memprof_user::model::*;
use memprof_user::sink::{Format, SinkOptions};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use marks::{mark, marked, marked_function, marks};

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
const START: f64 = 1_700_000_000.0;

/// gunicorn's master and two workers, one of which is gone at the end. Holds one of each: cause,
/// page kind, a truncated stack, recursion, an unknown line, names that have to be escaped.
pub fn gunicorn() -> Profile {
    Profile {
        command: "gunicorn -w 2 -k gevent service:app".to_owned(),
        started_epoch_s: START,
        duration_s: 2.5,
        processes: processes(),
        functions: functions(),
        frames: frames(),
        stacks: stacks(),
        natives: Vec::new(),
        files: files(),
        owners: owners(),
        samples: samples(),
        metric: None,
        shares: shares(),
        marks: marks(),
        marked: marked(),
        loss: LossTotals {
            events_lost: 0,
            stacks_truncated: 3,
            stacks_failed: 0,
            unknown_threads: 1,
            other: vec![("late flushes".to_owned(), 2)],
        },
    }
}

fn processes() -> Vec<Process> {
    let process = |pid, ppid, role: &str, rss: [u64; 3]| Process {
        pid,
        ppid,
        role: role.to_owned(),
        python: Some("3.11.7".to_owned()),
        first_epoch_s: START,
        last_epoch_s: START + 2.5,
        rss_start: rss[0] * MIB,
        rss_end: rss[1] * MIB,
        rss_peak: rss[2] * MIB,
        ..Process::default()
    };
    let mut all = vec![
        process(100, 1, "gunicorn: master [service:app]", [30, 31, 31]),
        process(101, 100, "gunicorn: worker [service:app]", [25, 57, 75]),
        process(102, 100, "gunicorn: worker [service:app]", [25, 45, 45]),
        process(103, 101, "sh", [0, 1, 1]),
    ];
    let share = |process: &mut Process, pss: [u64; 3], uss: [u64; 3]| {
        let [start, end, peak] = pss.map(|mib| Some(mib * MIB));
        (process.pss_start, process.pss_end, process.pss_peak) = (start, end, peak);
        let [start, end, peak] = uss.map(|mib| Some(mib * MIB));
        (process.uss_start, process.uss_end, process.uss_peak) = (start, end, peak);
    };
    share(&mut all[0], [30, 20, 30], [28, 4, 28]);
    share(&mut all[1], [12, 48, 66], [1, 40, 58]);
    share(&mut all[2], [12, 31, 31], [1, 22, 22]);
    all[0].before_attach = 30 * MIB;
    all[0].before_attach_end = 29 * MIB;
    all[0].before_attach_by_kind = ByPageKind {
        anon: 21 * MIB,
        file: 9 * MIB,
        shmem: 0,
    };
    all[0].before_attach_end_by_kind = ByPageKind {
        anon: 20 * MIB,
        ..all[0].before_attach_by_kind
    };
    all[1].inherited = 25 * MIB;
    all[2].inherited = 25 * MIB;
    all[2].exited = true;
    all[2].first_epoch_s += 0.5;
    all[2].last_epoch_s -= 0.5;
    all[3].python = None;
    all[3].exited = true;
    all
}

fn functions() -> Vec<Function> {
    let function = |name: &str, file: &str, first_line| Function {
        name: name.to_owned(),
        file: file.to_owned(),
        first_line,
    };
    vec![
        function("<module>", "/srv/venv/bin/gunicorn", 1),
        function(
            "Worker.handle",
            "/srv/venv/lib/gunicorn/workers/base.py",
            120,
        ),
        function("first", "/srv/app/service.py", 30),
        function("second", "/srv/app/service.py", 40),
        function("build", "/srv/app/service.py", 50),
        function("walk.<locals>.<lambda>", "/srv/app/tree; v2.py", 7),
        function("ev\u{1b}[2Jil\u{202e}", "/srv/app/évil\n.py", 9),
    ]
}

fn frames() -> Vec<Frame> {
    [
        (0, 8),
        (1, 135),
        (2, 32),
        (3, 44),
        (4, 52),
        (5, 7),
        (6, 0),
        (4, 55),
    ]
    .map(|(function, line)| Frame { function, line })
    .to_vec()
}

fn stacks() -> Vec<Stack> {
    let stack = |frames: &[u32], truncated| Stack {
        frames: frames.to_vec(),
        truncated,
        native: None,
        greenlet: false,
    };
    vec![
        stack(&[0, 1, 2, 4], false), // first → build
        stack(&[0, 1, 3, 7], false), // second → build, another line
        stack(&[], false),           // no Python
        // recursion in a greenlet, cut at the root
        Stack {
            greenlet: true,
            ..stack(&[0, 1, 5, 5, 5], true)
        },
        stack(&[0, 1, 6], false), // hostile names, unknown line
        stack(&[0, 1, 3], false), // second itself
    ]
}

fn files() -> Vec<MappedFile> {
    let files = [
        "/usr/lib/libssl; 3.so",
        "/memfd:ca\u{1b}che (deleted)",
        "[anonymous shared memory]",
    ];
    files
        .map(|path| MappedFile {
            path: path.to_owned(),
        })
        .to_vec()
}

fn owners() -> Vec<Owner> {
    use Cause::*;
    use PageKind::*;
    let owner = |process, stack, cause, kind, mib: [u64; 4]| Owner {
        process,
        stack,
        cause,
        kind,
        in_kernel: false,
        file: None,
        gross: mib[0] * MIB,
        freed: mib[1] * MIB,
        peak: mib[2] * MIB,
        cow: mib[3] * MIB,
        events: mib[0] * 256,
        mapped: 0,
        mapped_gross: 0,
        mapped_reserved: 0,
        mapped_touched: 0,
    };
    let mut all = vec![
        owner(0, 2, Interpreter, Anon, [1, 0, 1, 0]),
        owner(1, 0, Python, Anon, [20, 0, 20, 0]),
        owner(1, 1, Python, Anon, [24, 24, 24, 0]),
        owner(1, 3, Python, Anon, [4, 1, 3, 2]),
        owner(1, 4, Python, Anon, [1, 0, 1, 0]),
        owner(1, 2, Interpreter, File, [3, 0, 1, 0]),
        owner(1, 5, Python, Anon, [2, 0, 0, 5]),
        owner(1, 2, NoPythonFrame, Anon, [1, 0, 0, 0]),
        owner(1, 2, Unknown, Anon, [2, 0, 1, 0]),
        owner(2, 0, Python, Anon, [16, 0, 16, 0]),
        owner(2, 5, Python, Shmem, [4, 0, 4, 0]),
        owner(3, 2, NotPython, Anon, [1, 1, 1, 0]),
    ];
    all[5].file = Some(0);
    all[10].file = Some(1);
    // second reads a file into fresh memory.
    all[6].in_kernel = true;
    // first asks for much more than it touches; second has an arena, and gives one back.
    all[1].mapped = 512 * MIB;
    all[1].mapped_gross = 512 * MIB;
    all[1].mapped_touched = 20 * MIB;
    all[6].mapped = 64 * MIB;
    all[6].mapped_gross = 128 * MIB;
    all[6].mapped_reserved = 64 * MIB;
    all[6].mapped_touched = 2 * MIB;
    all
}

fn samples() -> Vec<Sample> {
    let rows: [(f64, u32, u64); 9] = [
        (0.0, 0, 30),
        (0.0, 1, 25),
        (1.0, 0, 31),
        (1.0, 1, 60),
        (1.0, 2, 30),
        (2.0, 0, 31),
        (2.0, 1, 75),
        (2.0, 2, 45),
        (2.5, 1, 57), // the master has gone
    ];
    rows.map(|(second, process, mib)| Sample {
        epoch_s: START + second,
        process,
        bytes: mib * MIB + 512,
        main: process == 0,
    })
    .to_vec()
}

fn shares() -> Vec<Share> {
    let rows: [(f64, u32, u64, u64); 4] = [
        (0.0, 0, 30, 28),
        (0.5, 1, 12, 1),
        (2.0, 1, 66, 58),
        (2.5, 1, 48, 40),
    ];
    rows.map(|(second, process, pss, uss)| Share {
        epoch_s: START + second,
        process,
        pss: pss * MIB,
        uss: uss * MIB,
    })
    .to_vec()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z_<>.]{0,8}",
        "\\PC{0,6}",
        // What separates, comments, steers or ends a line somewhere.
        vec(
            prop::sample::select(vec![';', ' ', '#', '\n', '\u{1b}', '\u{202e}', '7', 'é']),
            0..5
        )
        .prop_map(String::from_iter),
    ]
}

fn time() -> impl Strategy<Value = f64> {
    (0u32..100_000).prop_map(|tenth| START + f64::from(tenth) / 10.0)
}

fn by_page_kind() -> impl Strategy<Value = ByPageKind> {
    any::<(u64, u64, u64)>().prop_map(|(anon, file, shmem)| ByPageKind { anon, file, shmem })
}

prop_compose! {
    fn process()(
        (pid, ppid, role, python) in (any::<u32>(), any::<u32>(), text(), option::of(text())),
        (first_epoch_s, last_epoch_s) in (time(), time()),
        (rss_start, rss_end, rss_peak, inherited) in any::<(u64, u64, u64, u64)>(),
        (before_attach, before_attach_end) in any::<(u64, u64)>(),
        [pss_start, pss_end, pss_peak, uss_start, uss_end, uss_peak] in any::<[Option<u64>; 6]>(),
        (before_attach_by_kind, before_attach_end_by_kind) in (by_page_kind(), by_page_kind()),
        exited in any::<bool>(),
    ) -> Process {
        Process {
            pid, ppid, role, python, first_epoch_s, last_epoch_s,
            rss_start, rss_end, rss_peak, inherited, exited,
            pss_start, pss_end, pss_peak, uss_start, uss_end, uss_peak,
            before_attach, before_attach_end, before_attach_by_kind, before_attach_end_by_kind,
            reconciled: Default::default(),
        }
    }
}

fn cause() -> impl Strategy<Value = Cause> {
    prop::sample::select(vec![
        Cause::Python,
        Cause::Interpreter,
        Cause::NoPythonFrame,
        Cause::NotPython,
        Cause::OtherProcess,
        Cause::Found,
        Cause::Unknown,
    ])
}

fn kind() -> impl Strategy<Value = PageKind> {
    prop::sample::select(vec![PageKind::Anon, PageKind::File, PageKind::Shmem])
}

prop_compose! {
    fn owner(processes: u32, stacks: u32, files: u32)(
        process in 0..processes,
        stack in 0..stacks,
        cause in cause(),
        kind in kind(),
        in_kernel in any::<bool>(),
        file in option::of(0..files),
        (gross, given_back) in (0u64..1 << 40, 0u64..=100),
        (peak, cow, events) in (0u64..1 << 40, 0u64..1 << 40, 0u64..1 << 40),
        (mapped, mapped_gross) in (0u64..1 << 40, 0u64..1 << 40),
        (mapped_reserved, mapped_touched) in (0u64..1 << 40, 0u64..1 << 40),
    ) -> Owner {
        let freed = gross / 100 * given_back;
        Owner {
            process, stack, cause, kind, in_kernel, file, gross, freed, peak, cow, events,
            mapped, mapped_gross, mapped_reserved, mapped_touched,
        }
    }
}

prop_compose! {
    fn sample(processes: u32)(
        epoch_s in time(), process in 0..processes, bytes in any::<u64>(), main in any::<bool>(),
    ) -> Sample {
        Sample { epoch_s, process, bytes, main }
    }
}

prop_compose! {
    fn share(processes: u32)(
        epoch_s in time(), process in 0..processes, (pss, uss) in any::<(u64, u64)>(),
    ) -> Share {
        Share { epoch_s, process, pss, uss }
    }
}

prop_compose! {
    fn loss()(
        counters in any::<[u64; 4]>(), other in vec((text(), any::<u64>()), 0..3),
    ) -> LossTotals {
        let [events_lost, stacks_truncated, stacks_failed, unknown_threads] = counters;
        LossTotals { events_lost, stacks_truncated, stacks_failed, unknown_threads, other }
    }
}

/// Tables that the rows of others point into: none of them empty.
type Tables = (Vec<Process>, Vec<Function>, Vec<Frame>, Vec<Stack>);

fn tables() -> impl Strategy<Value = Tables> {
    let function = (text(), text(), 0u32..99).prop_map(|(name, file, first_line)| Function {
        name,
        file,
        first_line,
    });
    (vec(process(), 1..4), vec(function, 1..5)).prop_flat_map(|(processes, functions)| {
        let count = functions.len() as u32;
        let frame = (0..count, 0u32..99).prop_map(|(function, line)| Frame { function, line });
        (Just(processes), Just(functions), vec(frame, 1..8)).prop_flat_map(
            |(processes, functions, frames)| {
                let count = frames.len() as u32;
                let stack = (
                    vec(0..count, 0..6),
                    any::<(bool, bool)>(),
                    option::of(0..NATIVES),
                );
                let stack = stack.prop_map(|(frames, (truncated, greenlet), native)| Stack {
                    frames,
                    truncated,
                    greenlet,
                    native,
                });
                (
                    Just(processes),
                    Just(functions),
                    Just(frames),
                    vec(stack, 1..6),
                )
            },
        )
    })
}

/// Files of an arbitrary profile.
const FILES: u32 = 3;

fn mapped_file(index: u32) -> MappedFile {
    MappedFile {
        path: format!("/srv/{index}\n;\u{202e}.so"),
    }
}

/// Native code of an arbitrary profile.
const NATIVES: u32 = 3;

fn native(index: u32) -> Native {
    Native {
        library: format!("/lib/{index};\u{1b}.so"),
        symbol: (index > 0).then(|| format!("f{index}]\n")),
    }
}

/// Any profile that holds together.
pub fn profile() -> impl Strategy<Value = Profile> {
    tables().prop_flat_map(|(processes, functions, frames, stacks)| {
        let (process_count, stack_count) = (processes.len() as u32, stacks.len() as u32);
        (
            (text(), time(), 0.0..1e6, loss()),
            vec(owner(process_count, stack_count, FILES), 0..12),
            (
                vec(sample(process_count), 0..12),
                vec(share(process_count), 0..6),
            ),
            (
                vec(mark(process_count), 0..6),
                vec(marked_function(process_count), 0..4),
            ),
        )
            .prop_map(move |(head, owners, (samples, shares), (marks, marked))| {
                let (command, started_epoch_s, duration_s, loss) = head;
                Profile {
                    command,
                    started_epoch_s,
                    duration_s,
                    processes: processes.clone(),
                    functions: functions.clone(),
                    frames: frames.clone(),
                    stacks: stacks.clone(),
                    natives: (0..NATIVES).map(native).collect(),
                    files: (0..FILES).map(mapped_file).collect(),
                    owners,
                    samples,
                    metric: None,
                    shares,
                    marks,
                    marked,
                    loss,
                }
            })
    })
}

/// What `format` makes of `profile`.
pub fn written(format: Format, profile: &Profile, options: &SinkOptions) -> String {
    let mut bytes = Vec::new();
    format.write(profile, options, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// What all owners hold at the end.
pub fn net(profile: &Profile) -> u64 {
    profile.owners.iter().map(Owner::net).sum()
}
