//! `plot`: pictures of recordings of real runs, held against the numbers in the recordings.

use std::process::Command;

use memprof_tests::errors::expect_error;
use memprof_tests::looker::{Looker, growing};
use memprof_tests::machine::{self, require, workload};
use memprof_tests::picture::{self, Pixels};
use memprof_tests::program::Program;
use memprof_tests::service::{Service, Stage};
use memprof_tests::session::Session;
use memprof_tests::{browser, dat};
use rustix::process::Signal;

#[test]
fn a_run_is_drawn_as_it_was_recorded() {
    let Some(session) = Session::open() else {
        return;
    };
    let Some(python) = require(machine::interpreter("3.12")) else {
        return;
    };
    let script = workload("growth.py");
    let (python, script) = (python.to_string_lossy(), script.to_string_lossy());
    session.run(&["run", "-o", "out", "--", &python, &script, "--hold", "1"]);
    session.run(&["plot", "out.dat", "-o", "dat.svg"]);
    session.run(&["plot", "out.dat", "-o", "dat.png"]);
    session.run(&["plot", "out.memprof", "-o", "capture.svg"]);

    let dat = dat::parse(&session.read("out.dat"));
    let svg = session.read("dat.svg");
    let curves = picture::lines(&svg, "s-total");
    // The other line of this class is the sign in the legend, of two points.
    let curve = curves.iter().find(|curve| curve.len() > 2);
    let curve = curve.unwrap_or_else(|| panic!("no curve: {svg}"));
    // Fewer samples than would be thinned: each is a point.
    assert_eq!(curve.len(), dat.mem.len());
    check_affine(curve, &dat);

    let pixels = Pixels::read(&session.file("dat.png"));
    assert_eq!((pixels.width, pixels.height), (2520, 1080));
    assert_eq!(pixels.at(0, 0), [255, 255, 255]);
    for (x, y) in curve {
        let (x, y) = ((x * 2.0) as u32, (y * 2.0) as u32);
        // A line that ends there covers the pixels before its end.
        let near = (x - 1..=x + 1).flat_map(|x| (y - 1..=y + 1).map(move |y| (x, y)));
        let drawn = near
            .into_iter()
            .any(|(x, y)| pixels.at(x, y) != [255, 255, 255]);
        assert!(drawn, "no curve at ({x}, {y})");
    }

    // The capture has what the .dat has, to the last decimal that the .dat writes: a tenth of a
    // millisecond, at either end of a second and a half on 850 pixels.
    let from_capture = session.read("capture.svg");
    assert!(from_capture.contains(">RSS, MiB<"), "{from_capture}");
    let curves_of_capture = picture::lines(&from_capture, "s-total");
    let same = |a: &(f64, f64), b: &(f64, f64)| (a.0 - b.0).abs() < 0.1 && (a.1 - b.1).abs() < 0.02;
    let alike = |other: &&Vec<(f64, f64)>| {
        other.len() == curve.len() && other.iter().zip(curve).all(|(a, b)| same(a, b))
    };
    assert!(
        curves_of_capture.iter().any(|other| alike(&other)),
        "{from_capture}"
    );
}

/// The curve is the series but for the scale of both axes.
#[track_caller]
fn check_affine(curve: &[(f64, f64)], dat: &dat::Dat) {
    let lowest = |a: &&dat::Sample, b: &&dat::Sample| a.mib.total_cmp(&b.mib);
    let samples = || dat.mem.iter();
    let (low, high) = (
        samples().min_by(lowest).unwrap(),
        samples().max_by(lowest).unwrap(),
    );
    let place = |sample: &dat::Sample| {
        let at = dat.mem.iter().position(|s| s == sample).unwrap();
        curve[at]
    };
    let scale_y = (place(high).1 - place(low).1) / (high.mib - low.mib);
    let (first, last) = (dat.mem[0], dat.mem[dat.mem.len() - 1]);
    let (left, right) = (curve[0], curve[curve.len() - 1]);
    let scale_x = (right.0 - left.0) / (last.epoch_s - first.epoch_s);
    assert!(scale_y < 0.0 && scale_x > 0.0, "{scale_x} {scale_y}");
    for (point, sample) in curve.iter().zip(&dat.mem) {
        let x = left.0 + (sample.epoch_s - first.epoch_s) * scale_x;
        let y = place(low).1 + (sample.mib - low.mib) * scale_y;
        // Two decimals in the file, and the error of the two points that the scale is from.
        assert!(
            (point.0 - x).abs() < 0.03 && (point.1 - y).abs() < 0.03,
            "{point:?}: {x}, {y}"
        );
    }
}

#[test]
fn every_worker_of_a_service_has_its_curve_and_its_name_in_a_browser() {
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
    let tracer = session.attach(service.master(), &[]);
    service.leak_in_each(&workers);
    service.hold_in_each(&workers, Stage::First);
    tracer.signal(Signal::INT);
    tracer.finish().expect_code(0);
    service.release();

    for recording in ["out.memprof", "out.dat"] {
        session.run(&["plot", recording, "-o", "out.svg", "--force"]);
        let dom = browser::dom(&chromium, session.dir(), &session.file("out.svg"));
        let texts = picture::texts(&dom, "text");
        let has = |wanted: &str| texts.iter().any(|text| text.contains(wanted));
        assert!(has("all processes") && has("peak "), "{texts:?}");
        for pid in [service.master(), workers[0], workers[1]] {
            let role = "gunicorn";
            let pid = format!("({pid})");
            let named = |text: &&String| text.starts_with(role) && text.ends_with(&pid);
            let label = texts.iter().find(named);
            assert!(label.is_some(), "{recording}: no {role} {pid}: {texts:?}");
            // Its curve says whose it is when the pointer rests on it.
            let titles = picture::texts(&dom, "title");
            let curve = titles
                .iter()
                .find(|t| t.starts_with(role) && t.ends_with(&pid));
            assert!(
                curve.is_some(),
                "{recording}: no curve of {pid}: {titles:?}"
            );
        }
    }
    let shot = session.file("shot.png");
    browser::screenshot(
        &chromium,
        session.dir(),
        &session.file("out.svg"),
        (1260, 540),
        &shot,
    );
    let shot = Pixels::read(&shot);
    let coloured = (0..shot.width)
        .flat_map(|x| (0..shot.height).map(move |y| (x, y)))
        .filter(|&(x, y)| shot.at(x, y) != [255, 255, 255]);
    // Letters, axes and four curves; the page alone would have none.
    assert!(coloured.count() > 5000, "the browser shows an empty page");
}

#[test]
fn the_real_mprofs_recording_is_drawn_with_its_marks() {
    let Some(looker) = Looker::open() else { return };
    let (Some(mprof), Some(chromium)) = (
        require(machine::venv("mprof")),
        require(machine::chromium()),
    ) else {
        return;
    };
    looker.write(
        "app.py",
        "import time\n\
         @profile\ndef inner():\n    kept.append(bytearray(30 << 20))\n    time.sleep(0.3)\n\
         @profile\ndef outer():\n    inner()\n    time.sleep(0.3)\n\
         kept = []\nouter()\nouter()\n",
    );
    let mut run = Command::new(&mprof);
    run.args(["run", "-o", "mprofile_20260102030405.dat", "app.py"]);
    Program::start(run.current_dir(looker.dir()))
        .finish()
        .expect_code(0);
    let recorded = looker.read("mprofile_20260102030405.dat");
    let func = recorded.lines().filter(|line| line.starts_with("FUNC "));
    assert_eq!(func.count(), 4, "{recorded}");

    // No name: the last one, as mprof does.
    looker.plot(&["-o", "curve.svg", "-s"]).expect_code(0);
    let dom = browser::dom(&chromium, looker.dir(), &looker.file("curve.svg"));
    let texts = picture::texts(&dom, "text");
    for wanted in ["inner  ×2", "outer  ×2", "main process"] {
        assert!(
            texts.iter().any(|text| text == wanted),
            "no {wanted}: {texts:?}"
        );
    }
    // mprof's memory is sampled around the call: its own FUNC lines say what it saw.
    let grown = |name: &str| -> f64 {
        let lines = recorded
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>());
        let lines = lines.filter(|w| w[0] == "FUNC" && w[1].ends_with(name));
        lines
            .map(|w| w[4].parse::<f64>().unwrap() - w[2].parse::<f64>().unwrap())
            .sum()
    };
    let wanted = format!("+{:.1} MiB in ", grown("inner"));
    assert!(
        texts.iter().any(|text| text.starts_with(&wanted)),
        "no {wanted}: {texts:?}"
    );
    let brackets = picture::texts(&dom, "title");
    let of = |name: &str| brackets.iter().filter(|t| t.contains(name)).count();
    assert_eq!(
        (of("inner: "), of("outer: ")),
        (4, 4),
        "two brackets a call: {brackets:?}"
    );

    looker
        .plot(&["0", "--flame", "-o", "flame.svg"])
        .expect_code(0);
    let flame = looker.read("flame.svg");
    let boxes = picture::texts(&flame, "text");
    // Half a second in a picture of two or three is wide enough for the whole words.
    let named = |name: &str| {
        boxes
            .iter()
            .filter(|t| t.starts_with(&format!("{name}  +")))
            .count()
    };
    assert_eq!((named("inner"), named("outer")), (2, 2), "{boxes:?}");
    assert!(
        boxes
            .iter()
            .any(|text| text.starts_with("main process · 4 calls")),
        "{boxes:?}"
    );

    // And without marks.
    looker.plot(&["-n", "-o", "none.svg"]).expect_code(0);
    assert!(!looker.read("none.svg").contains("inner"));
}

#[test]
fn numbers_in_the_picture_are_those_of_the_recording() {
    let Some(looker) = Looker::open() else { return };
    looker.write("a.dat", &growing());
    looker.plot(&["a.dat", "-s", "-o", "a.svg"]).expect_code(0);
    let texts = picture::texts(&looker.read("a.svg"), "text");
    for wanted in [
        "python app.py",
        "2023-11-14 22:13:20 UTC · 10.0 s",
        "100.0 MiB → 110.0 MiB, peak 110.0 MiB",
        "slope +1.0 MiB/s",
        "grow +4.0 MiB",
        "+4.0 MiB in 4.000 s",
        "peak 110.0 MiB",
    ] {
        assert!(
            texts.iter().any(|text| text == wanted),
            "no {wanted}: {texts:?}"
        );
    }
    // A window: the curve's ends are read between samples, and a call that reaches into it stays.
    looker
        .plot(&["a.dat", "-w", "5,8", "-o", "w.svg", "-t", "my title"])
        .expect_code(0);
    let texts = picture::texts(&looker.read("w.svg"), "text");
    for wanted in [
        "my title",
        "105.0 MiB → 108.0 MiB, peak 108.0 MiB",
        "+4.0 MiB in 4.000 s",
    ] {
        assert!(
            texts.iter().any(|text| text == wanted),
            "no {wanted}: {texts:?}"
        );
    }
    // Dark, whatever the viewer prefers.
    looker
        .plot(&["a.dat", "--dark", "-o", "d.svg"])
        .expect_code(0);
    assert!(looker.read("a.svg").contains("prefers-color-scheme"));
    assert!(!looker.read("d.svg").contains("prefers-color-scheme"));
    looker
        .plot(&["a.dat", "--dark", "-o", "d.png"])
        .expect_code(0);
    assert_eq!(Pixels::read(&looker.file("d.png")).at(0, 0), [20, 23, 28]);
    // Several: from their own first samples, without marks.
    looker.write("b.dat", &growing().replace(" 17000000", " 18000000"));
    looker
        .plot(&["a.dat", "b.dat", "-o", "ab.svg"])
        .expect_code(0);
    let svg = looker.read("ab.svg");
    let texts = picture::texts(&svg, "text");
    assert!(texts.contains(&"a.dat".to_owned()) && texts.contains(&"b.dat".to_owned()));
    assert!(!svg.contains("grow"), "{svg}");
    let curve = |class| {
        picture::lines(&svg, class)
            .into_iter()
            .find(|line| line.len() > 2)
    };
    assert_eq!(curve("s-series0").unwrap(), curve("s-series1").unwrap());
}

#[test]
fn hostile_names_are_words_in_a_browser_and_on_a_terminal() {
    let Some(looker) = Looker::open() else { return };
    let Some(chromium) = require(machine::chromium()) else {
        return;
    };
    let name = "<script>document.title='x'</script>\u{1b}[2J\u{202e}evil&\"'";
    let text = format!(
        "CMDLINE {name}\n# ROLE MEM 7 {name}\nMEM 1.0 1700000000.0000\nMEM 2.0 1700000001.0000\n\
         FUNC {} 1.0 1700000000.1 2.0 1700000000.9 0\n",
        name.replace(' ', "")
    );
    looker.write("a.dat", &text);
    for (option, file) in [("-n", "curve.svg"), ("--flame", "flame.svg")] {
        looker.plot(&["a.dat", option, "-o", file]).expect_code(0);
        let dom = browser::dom(&chromium, looker.dir(), &looker.file(file));
        let texts = picture::texts(&dom, "text");
        assert!(
            texts.iter().any(|text| text.contains("</script>?[2J?evil")),
            "{texts:?}"
        );
        assert!(!dom.contains("<script"), "{dom}");
    }
    looker
        .plot(&["a.dat", "--flame", "-o", "a.png"])
        .expect_code(0);
    let shown = looker.plot(&["a.dat", "--terminal"]).expect_code(0).stdout;
    assert!(
        !shown.contains('\u{1b}') && !shown.contains('\u{202e}'),
        "{shown}"
    );
}

#[test]
fn approximate_marks_are_told_from_exact_ones() {
    let Some(looker) = Looker::open() else { return };
    let own = "pid=7 rss0=106954752 rss1=111149056 calls=1";
    let exact = growing().replace("6.0000 0\n", &format!("6.0000 0 {own}\n"));
    looker.write("exact.dat", &exact);
    let guessed = format!("{own} approximate=yes");
    looker.write("guessed.dat", &exact.replace(own, &guessed));
    for (option, grown) in [("-s", "grow +4.0 MiB"), ("-f", "grow  +4.0 MiB")] {
        let texts = |file: &str| {
            let args = [file, option, "-o", "a.svg", "--force"];
            looker.plot(&args).expect_code(0);
            picture::texts(&looker.read("a.svg"), "text")
        };
        let (exact, guessed) = (texts("exact.dat"), texts("guessed.dat"));
        assert!(exact.iter().any(|text| text == grown), "{exact:?}");
        assert!(exact.iter().all(|text| !text.contains('~')), "{exact:?}");
        let wanted = format!("~{grown}");
        assert!(guessed.contains(&wanted), "{guessed:?}");
        assert!(
            guessed
                .iter()
                .any(|text| text.starts_with("~: approximate")),
            "{guessed:?}"
        );
    }
}

#[test]
fn a_png_says_which_letters_it_has_no_shapes_for() {
    let Some(looker) = Looker::open() else { return };
    let named = |name: &str| growing().replace("app.py", name);
    looker.write("foreign.dat", &named("アプリ.py"));
    looker.write("greek.dat", &named("λόγος-слово.py"));
    let warns = |args: &[&str]| {
        let said = looker.plot(args).expect_code(0).stderr;
        said.lines()
            .find(|line| line.starts_with("warning:"))
            .map(str::to_owned)
    };
    let said = warns(&["foreign.dat", "-o", "foreign.png"]).expect("a warning");
    assert!(said.contains("アプリ") && said.contains(".svg"), "{said}");
    assert_eq!(warns(&["greek.dat", "-o", "greek.png"]), None);
    assert_eq!(warns(&["foreign.dat", "-o", "foreign.svg"]), None);
}

#[test]
fn bad_input_gets_one_error_with_what_to_type() {
    let Some(looker) = Looker::open() else { return };
    looker.write("a.dat", &growing());
    looker.write("none.dat", "CMDLINE nothing\n");
    looker.write("foreign.dat", "\u{0}\u{1}not a recording\n");
    looker.write(
        "plain.dat",
        "CMDLINE x\nMEM 1.0 1700000000.0\nMEM 2.0 1700000001.0\n",
    );
    looker.write(
        "short.dat",
        "CMDLINE x\nMEM 1.0 1700000000.0\nMEM 2.0 1700000000.05\n",
    );
    looker.write("there.svg", "mine");
    for (args, code, words) in [
        (&["a.dat", "-w", "20,30"][..], 2, &["0.000 to 10.000 s"][..]),
        (&["short.dat", "-w", "20,30"], 2, &["--window 0,1"]),
        (&["a.dat", "-w", "5"], 2, &["0,20.5"]),
        (&["a.dat", "-w", "8,5"], 2, &["0,20.5"]),
        (&["a.dat", "-o", "a.jpg"], 2, &[".svg, .png"]),
        (&["a.dat", "-o", "a"], 2, &[".svg, .png"]),
        (&["a.dat", "-o", "there.svg"], 1, &["--force"]),
        (&["a.dat", "-o", "missing/a.svg"], 1, &["mkdir"]),
        (&["a.dat", "-o", "/proc/a.svg"], 1, &["cannot write"]),
        (&["none.dat", "-o", "b.svg"], 1, &["no sample"]),
        (&["foreign.dat", "-o", "b.svg"], 1, &["not a recording"]),
        (&["absent.dat", "-o", "b.svg"], 1, &["absent.dat"]),
        (&["plain.dat", "--flame", "-o", "b.svg"], 1, &["@profile"]),
        (
            &["plain.dat", "--flame", "-w", "0,1", "-o", "b.svg"],
            1,
            &["@profile"],
        ),
        (
            &["a.dat", "--flame", "-w", "8,9", "-o", "b.svg"],
            1,
            &["--window"],
        ),
        (&["a.dat", "--backend", "pdf"], 2, &["agg", "viewer"]),
        (&["-o", "b.svg"], 1, &["recording"]),
    ] {
        let said = expect_error(looker.plot(args), code);
        said.expect_words(words);
    }
    assert_eq!(looker.read("there.svg"), "mine");
    assert!(!looker.file("b.svg").exists() && !looker.file("a.jpg").exists());
    // Marks are asked for and forbidden.
    let ended = looker
        .plot(&["a.dat", "-f", "-n", "-o", "curves.svg"])
        .expect_code(0);
    assert!(
        ended.stderr.contains("warning: --no-function-ts"),
        "{ended:?}"
    );
    // A damaged file: what is whole is drawn, and what is not is told.
    looker.write("cut.dat", &growing()[..2000]);
    let ended = looker.plot(&["cut.dat", "-o", "cut.svg"]).expect_code(0);
    assert!(ended.stderr.contains("warning"), "{ended:?}");
}

#[test]
fn a_full_disk_leaves_no_half_picture() {
    let Some(looker) = Looker::open() else { return };
    if require(machine::root()).is_none() {
        return;
    }
    looker.write("a.dat", &growing());
    std::fs::create_dir(looker.file("disk")).unwrap();
    // In a mount namespace of its own, which goes with its last process.
    let script = "mount -t tmpfs -o size=8k none disk && \"$0\" plot a.dat -o disk/a.png; \
                  code=$?; ls -A disk; exit $code";
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", script])
        .arg(looker.binary());
    let ended = Program::start(command.current_dir(looker.dir())).finish();
    assert_eq!(ended.stdout, "", "left behind");
    expect_error(ended, 1).expect_words(&["df -h"]);
}
