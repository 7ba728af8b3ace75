//! Which recordings a user means, and that nothing goes but recordings and what belongs to them.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use memprof_user::capture;
use memprof_user::recording::{Folder, Removal, open};
use memprof_user::sink::{Format, SinkOptions};
use support::written;
use tempfile::{TempDir, tempdir};

const DAT: &str = "CMDLINE x\nMEM 1.000000 1700000000.0000\n";

/// A folder with two recordings of mprof's, one of ours with all that belongs to it, and others.
fn folder() -> TempDir {
    let folder = tempdir().unwrap();
    let write = |name: &str, text: &[u8]| fs::write(folder.path().join(name), text).unwrap();
    for name in [
        "mprofile_20260102030405.dat",
        "mprofile_20250102030405.dat",
        "own.dat",
    ] {
        write(name, DAT.as_bytes());
    }
    run_of_ours(folder.path(), "mprofile_20260102030406");
    write("notes.dat", b"0.5 0.25\n");
    write("notes.txt", b"mine");
    folder
}

/// All files that a run of ours may leave.
fn run_of_ours(folder: &Path, base: &str) {
    let profile = support::gunicorn();
    let write = |ending: &str, text: &[u8]| {
        fs::write(folder.join(format!("{base}{ending}")), text).unwrap();
    };
    for (format, ending) in [
        (Format::Dat, ".dat"),
        (Format::Folded, ".folded"),
        (Format::Flamegraph, ".svg"),
    ] {
        let text = written(format, &profile, &SinkOptions::default());
        write(ending, text.as_bytes());
    }
    let mut bytes = Vec::new();
    capture::write(&profile, &mut bytes).unwrap();
    for ending in [".memprof", ".trigger-1.memprof", ".trigger-12.memprof"] {
        write(ending, &bytes);
    }
    write(".checkpoint-1.json", b"{}");
    write("-plot.svg", b"<svg><!--Made by memprof-ebpf.--></svg>");
    write("-plot.png", b"\x89PNG\r\n\x1a\n");
}

const OF_A_RUN: [&str; 9] = [
    "-plot.png",
    "-plot.svg",
    ".checkpoint-1.json",
    ".dat",
    ".folded",
    ".memprof",
    ".svg",
    ".trigger-1.memprof",
    ".trigger-12.memprof",
];

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn remove(folder: &Path, wanted: &[&str]) -> memprof_user::Result<Vec<String>> {
    let before = names(folder);
    let wanted: Vec<PathBuf> = wanted
        .iter()
        .map(|word| match word.parse::<i64>() {
            Ok(_) => PathBuf::from(word),
            Err(_) => folder.join(word),
        })
        .collect();
    Removal::of(&Folder::read(folder).unwrap(), &wanted)?.carry_out()?;
    let after = names(folder);
    Ok(before
        .into_iter()
        .filter(|name| !after.contains(name))
        .collect())
}

#[test]
fn recordings_are_numbered_by_name() {
    let dir = folder();
    let folder = Folder::read(dir.path()).unwrap();
    let expected = [
        "mprofile_20250102030405.dat",
        "mprofile_20260102030405.dat",
        "mprofile_20260102030406.dat",
    ];
    assert_eq!(folder.recordings(), expected);
    for (number, place) in [(0, 0), (2, 2), (-1, 2), (-3, 0)] {
        let path = folder.numbered(number).unwrap();
        assert_eq!(path, dir.path().join(expected[place]), "{number}");
    }
    for number in [3, -4, i64::MIN, i64::MAX] {
        let error = folder.numbered(number).unwrap_err();
        assert_eq!(error.cause, "they are numbered from 0 to 2", "{number}");
    }
    // notes.dat is no recording.
    assert_eq!(
        folder.note_on_others("peak").unwrap(),
        "own.dat has a name of its own: memprof-ebpf peak own.dat"
    );
}

#[test]
fn the_last_by_name_is_meant_when_none_is_named() {
    let dir = folder();
    let folder = Folder::read(dir.path()).unwrap();
    let last = dir.path().join("mprofile_20260102030406.dat");
    assert_eq!(
        folder.select(&[], "peak").unwrap(),
        std::slice::from_ref(&last)
    );
    let own = dir.path().join("own.dat");
    let words = ["-1", "2"].map(PathBuf::from);
    let words = [&words[..], &[own.clone(), last.clone()]].concat();
    assert_eq!(
        folder.select(&words, "peak").unwrap(),
        [last, own],
        "each once"
    );

    let empty = tempdir().unwrap();
    let error = Folder::read(empty.path())
        .unwrap()
        .select(&[], "peak")
        .unwrap_err();
    assert!(error.hint.contains("memprof-ebpf run"), "{error}");
    fs::write(empty.path().join("own.dat"), DAT).unwrap();
    let error = Folder::read(empty.path())
        .unwrap()
        .select(&[], "peak")
        .unwrap_err();
    assert_eq!(error.hint, "memprof-ebpf peak own.dat", "{error}");
}

#[test]
fn the_last_capture_is_no_triggers() {
    let dir = folder();
    let last = || Folder::read(dir.path()).unwrap().last_capture();
    let capture = dir.path().join("mprofile_20260102030406.memprof");
    assert_eq!(last().unwrap(), capture);
    fs::remove_file(capture).unwrap();
    assert_eq!(last().unwrap_err().error, "there is no capture here");
}

#[test]
fn what_belongs_to_a_recording_goes_with_it() {
    let all: Vec<String> = OF_A_RUN
        .iter()
        .map(|ending| format!("mprofile_20260102030406{ending}"))
        .collect();
    for word in [
        "-1",
        "2",
        "mprofile_20260102030406.dat",
        "mprofile_20260102030406.memprof",
    ] {
        assert_eq!(remove(folder().path(), &[word]).unwrap(), all, "{word}");
    }
    let dir = folder();
    assert_eq!(remove(dir.path(), &["0", "own.dat"]).unwrap().len(), 2);
    let trigger = "mprofile_20260102030406.trigger-1.memprof";
    assert_eq!(remove(dir.path(), &[trigger]).unwrap(), [trigger]);
}

#[test]
fn what_is_no_recording_stays() {
    let dir = folder();
    let before = names(dir.path());
    for words in [
        &["notes.txt"][..],
        &["notes.dat"],
        &["missing.dat"],
        &["0", "7"],
        &["0", ".."],
    ] {
        assert!(remove(dir.path(), words).is_err(), "{words:?}");
        assert_eq!(names(dir.path()), before, "{words:?}: nothing goes");
    }
    // Names of the same run with a content of somebody's.
    let picture = dir.path().join("own.svg");
    for text in ["<svg xmlns='http://www.w3.org/2000/svg'/>", ""] {
        fs::write(&picture, text).unwrap();
        fs::write(dir.path().join("own.dat"), DAT).unwrap();
        fs::write(dir.path().join("own.folded"), "a;b 7\na 5\n").unwrap();
        assert_eq!(
            remove(dir.path(), &["own.dat"]).unwrap(),
            ["own.dat", "own.folded"]
        );
        assert!(picture.exists(), "{text:?}");
    }
}

#[test]
fn a_link_is_not_followed_and_not_removed() {
    let dir = folder();
    let outside = folder();
    let precious = outside.path().join("own.dat");
    let link = dir.path().join("mprofile_20270102030405.dat");
    symlink(&precious, &link).unwrap();
    let error = remove(dir.path(), &["-1"]).unwrap_err();
    assert_eq!(error.cause, "it is a link");
    // One that stands for a file of a run.
    let capture = dir.path().join("own.memprof");
    symlink(
        outside.path().join("mprofile_20260102030406.memprof"),
        &capture,
    )
    .unwrap();
    assert_eq!(remove(dir.path(), &["own.dat"]).unwrap(), ["own.dat"]);
    let removal = Removal::all(&Folder::read(dir.path()).unwrap()).unwrap();
    assert!(
        removal
            .kept()
            .iter()
            .any(|kept| kept.ends_with("stays: it is a link"))
    );
    removal.carry_out().unwrap();
    assert_eq!(
        names(dir.path()),
        [
            "mprofile_20270102030405.dat",
            "notes.dat",
            "notes.txt",
            "own.memprof"
        ]
    );
    assert!(precious.exists() && names(outside.path()).len() == names(folder().path()).len());
}

#[test]
fn a_pipe_keeps_nobody_waiting() {
    let dir = tempdir().unwrap();
    for name in ["mprofile_20260102030405.dat", "own.dat"] {
        let path = dir.path().join(name);
        let made = std::process::Command::new("mkfifo")
            .arg(path)
            .status()
            .unwrap();
        assert!(made.success());
    }
    let folder = Folder::read(dir.path()).unwrap();
    assert_eq!(folder.note_on_others("peak"), None);
    let removal = Removal::all(&folder).unwrap();
    assert_eq!(removal.files().count(), 0);
    fs::create_dir(dir.path().join("mprofile_20260102030406.dat")).unwrap();
    assert_eq!(
        remove(dir.path(), &["1"]).unwrap_err().cause,
        "it is not a plain file"
    );
}

#[test]
fn all_takes_the_rests_of_runs_too() {
    let dir = folder();
    // mprof's own rm leaves our capture behind.
    fs::remove_file(dir.path().join("mprofile_20260102030406.dat")).unwrap();
    let folder = Folder::read(dir.path()).unwrap();
    let removal = Removal::all(&folder).unwrap();
    let first: Vec<&Path> = removal.files().take(2).collect();
    let name = |name| dir.path().join(format!("mprofile_{name}.dat"));
    assert_eq!(first, [name("20250102030405"), name("20260102030405")]);
    assert_eq!(removal.files().count(), 2 + OF_A_RUN.len() - 1);
    assert!(removal.kept().is_empty(), "{:?}", removal.kept());
    removal.carry_out().unwrap();
    assert_eq!(names(dir.path()), ["notes.dat", "notes.txt", "own.dat"]);
}

#[test]
fn more_files_than_may_be_open_go() {
    let dir = tempdir().unwrap();
    // The usual limit is 1024 open files.
    for number in 0..1500 {
        let name = format!("mprofile_{number:014}.dat");
        fs::write(dir.path().join(name), DAT).unwrap();
    }
    let folder = Folder::read(dir.path()).unwrap();
    let removal = Removal::all(&folder).unwrap();
    assert_eq!(removal.files().count(), 1500);
    removal.carry_out().unwrap();
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn both_kinds_of_files_are_opened_by_their_content() {
    let dir = folder();
    let path = |name: &str| dir.path().join(name);
    let dat = open(&path("mprofile_20260102030406.dat")).unwrap();
    let renamed = path("capture without an ending");
    fs::rename(path("mprofile_20260102030406.memprof"), &renamed).unwrap();
    let capture = open(&renamed).unwrap();
    assert_eq!(dat.children.len(), capture.children.len());
    assert_eq!(open(&path("own.dat")).unwrap().main.points.len(), 1);
    for (name, part) in [
        ("notes.txt", "is not a recording"),
        ("missing.dat", "cannot read"),
        ("", "cannot read"),
    ] {
        let error = open(&path(name)).unwrap_err();
        assert!(error.error.contains(part), "{name:?}: {error}");
    }
}
