//! list, peak, rm and clean beside the real mprof's, on the same folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use memprof_tests::errors::expect_error;
use memprof_tests::machine::{self, require, workload};
use memprof_tests::program::{Ended, Program};
use memprof_tests::session::Session;

/// mprof's own, with decorated functions.
const DECORATED: &str = "mprofile_20250101000000.dat";
/// mprof's own, with children.
const CHILDREN: &str = "mprofile_20260101000000.dat";
/// Ours, with all files of a run.
const OURS: &str = "mprofile_20260102030405";

/// What ours says where mprof prints on stdout that it chose: results alone stand on stdout.
const CHOICE: &str = "Using last profile data";

struct Folder {
    session: Session,
    mprof: PathBuf,
}

impl Folder {
    /// A folder with two recordings that the real mprof made and one of ours.
    fn recorded() -> Option<Folder> {
        let folder = Folder::with_decorated()?;
        let python = require(machine::venv("python"))?;
        let prefork = workload("prefork.py");
        let options = ["run", "-M", "-T", "0.02", "-o", CHILDREN];
        let words = [path(&python), path(&prefork), "--hold", "0.2"];
        folder
            .mprof(&[&options[..], &words].concat())
            .expect_code(0);
        folder.record_ours()?;
        Some(folder)
    }

    fn with_decorated() -> Option<Folder> {
        let folder = Folder::empty()?;
        let decorated = workload("decorated.py");
        folder
            .mprof(&["run", "-T", "0.02", "-o", DECORATED, path(&decorated)])
            .expect_code(0);
        Some(folder)
    }

    fn record_ours(&self) -> Option<()> {
        let python = require(machine::venv("python"))?;
        let prefork = workload("prefork.py");
        let options = ["run", "-q", "--flamegraph", "-o", OURS, "--"];
        let words = [path(&python), path(&prefork), "--hold", "0.2"];
        self.session.run(&[&options[..], &words].concat());
        Some(())
    }

    fn empty() -> Option<Folder> {
        Some(Folder {
            session: Session::open()?,
            mprof: require(machine::venv("mprof"))?,
        })
    }

    fn mprof(&self, args: &[&str]) -> Ended {
        let mut command = Command::new(&self.mprof);
        Program::start(command.args(args).current_dir(self.session.dir())).finish()
    }

    fn ours(&self, args: &[&str]) -> Ended {
        self.session.start(args).finish()
    }

    /// Both answer the same on stdout, and well.
    #[track_caller]
    fn agree(&self, args: &[&str]) -> String {
        let theirs = self.mprof(args).expect_code(0).stdout;
        let ours = self.ours(args).expect_code(0);
        let chosen = theirs
            .split_once('\n')
            .filter(|(first, _)| first.starts_with(CHOICE));
        let answer = match chosen {
            Some((_, rest)) => {
                assert!(ours.stderr.contains(CHOICE), "{}", ours.stderr);
                rest
            }
            None => &theirs,
        };
        assert_eq!(ours.stdout, answer, "{args:?}");
        ours.stdout
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.session.dir()).expect("the scratch folder");
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
        names.sort();
        names
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.session.file(name), text).expect("write into the scratch folder");
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("paths of the workspace are UTF-8")
}

#[test]
fn answers_are_mprofs() {
    let Some(folder) = Folder::recorded() else {
        return;
    };
    let list = folder.agree(&["list"]);
    assert_eq!(list.lines().count(), 3, "{list}");
    assert!(
        list.contains(&format!("2 {OURS}.dat 03:04:05 02/01/2026\n")),
        "{list}"
    );
    let ours = format!("{OURS}.dat");
    for wanted in [
        &[][..],
        &["0"],
        &["-1", "0"],
        &["1", DECORATED, "1"],
        &[&ours, CHILDREN],
    ] {
        let peak = folder.agree(&[&["peak"], wanted].concat());
        assert!(peak.contains(" MiB\n"), "{peak}");
    }
    for file in [CHILDREN, &ours] {
        let peak = folder.agree(&["peak", file]);
        assert_eq!(peak.matches("\n  Child ").count(), 2, "{peak}");
    }
    // The recordings of mprof have no siblings: what is to go is the same.
    folder.write("mprofile_20250101000000_ts.dat", "FUNC f 1.0 1.0 1.0 1.0\n");
    for wanted in [&["0"][..], &["-3", CHILDREN], &["1", "0", "1"]] {
        let gone = folder.agree(&[&["rm", "--dry-run"], wanted].concat());
        assert!(gone.starts_with("Files to be removed: \n"), "{gone}");
    }
}

/// A capture holds what its .dat does.
#[test]
fn a_capture_has_the_peak_of_its_dat() {
    let Some(folder) = Folder::empty() else {
        return;
    };
    let Some(()) = folder.record_ours() else {
        return;
    };
    let [dat, capture] = ["dat", "memprof"].map(|ending| {
        let file = format!("{OURS}.{ending}");
        folder
            .ours(&["peak", &file])
            .expect_code(0)
            .stdout
            .replace(&file, "")
    });
    assert_eq!(dat, capture);
}

/// mprof takes only the samples inside the calls. Ours takes what the calls themselves say of
/// their begin and end too, so that it is never less, and knows calls that no sample fell into.
#[test]
fn the_peak_in_a_function_counts_its_ends_too() {
    let Some(folder) = Folder::with_decorated() else {
        return;
    };
    let dat = folder.session.read(DECORATED);
    let calls: Vec<Vec<&str>> = dat
        .lines()
        .filter(|line| line.starts_with("FUNC "))
        .map(|line| line.split(' ').collect())
        .collect();
    for name in ["__main__.inner", "__main__.outer"] {
        let args = ["peak", "--func", name, DECORATED];
        let theirs = value(&folder.mprof(&args).expect_code(0).stdout);
        let ends = calls.iter().filter(|call| call[1] == name);
        let ends = ends.flat_map(|call| [call[2], call[4]]);
        let ends = ends.map(|mib| mib.parse::<f64>().expect("MiB"));
        let expected = ends.fold(theirs, f64::max);
        let ours = folder.ours(&args).expect_code(0).stdout;
        assert_eq!(ours, format!("{DECORATED}\t{expected:.3} MiB\n"), "{name}");
        // Without its module it is the same function.
        let (_, short) = name.rsplit_once('.').expect("a dot");
        assert_eq!(
            folder.ours(&["peak", "--func", short, DECORATED]).stdout,
            ours
        );
    }
    // Between two samples: mprof's max() of nothing.
    let args = ["peak", "--func", "__main__.short", DECORATED];
    let theirs = folder.mprof(&args);
    assert!(theirs.stderr.contains("Traceback"), "{}", theirs.stderr);
    let short = value(&folder.ours(&args).expect_code(0).stdout);
    assert!(short > 1.0, "{short} MiB");
    // Both say NaN for a function that did not run; ours also that it is an error, and what did.
    let args = ["peak", "--func", "absent", DECORATED];
    let theirs = folder.mprof(&args).expect_code(0);
    let ours = folder.ours(&args);
    assert_eq!(ours.stdout, theirs.stdout);
    expect_error(ours, 1).expect_words(&["__main__.inner, __main__.outer, __main__.short"]);
}

/// `FILE\t12.345 MiB`
#[track_caller]
fn value(line: &str) -> f64 {
    let value = line
        .trim()
        .rsplit('\t')
        .next()
        .and_then(|text| text.strip_suffix(" MiB"));
    let value = value.and_then(|mib| mib.parse().ok());
    value.unwrap_or_else(|| panic!("no value in {line:?}"))
}

/// What makes a whole file unreadable to mprof costs a line at most here, and is told.
#[test]
fn what_mprof_cannot_read_is_read() {
    let Some(folder) = Folder::empty() else {
        return;
    };
    let head = "CMDLINE app\nMEM 10.000000 1700000000.0000\n";
    let tail = "MEM 20.250000 1700000000.1000\n";
    for (line, told) in [
        ("nonsense\n", true),
        ("\n", false),
        ("MEM\t11.0\t1700000000.05\n", false),
        ("MEM  11.0  1700000000.05\n", false),
        ("MEM eleven 1700000000.05\n", true),
        (
            "FUNC app.<lambda> x 10.0 1700000000.0 20.0 1700000000.1 0\n",
            false,
        ),
    ] {
        folder.write("broken.dat", &format!("{head}{line}{tail}"));
        let theirs = folder.mprof(&["peak", "broken.dat"]);
        assert!(
            theirs.stderr.contains("Error"),
            "mprof reads {line:?}: {}",
            theirs.stderr
        );
        let ours = folder.ours(&["peak", "broken.dat"]).expect_code(0);
        assert_eq!(ours.stdout, "broken.dat\t20.250 MiB\n", "{line:?}");
        assert_eq!(
            ours.stderr.contains("warning: "),
            told,
            "{line:?}: {}",
            ours.stderr
        );
    }
    // A number that a full disk cut: mprof takes 9 MiB for 95.
    folder.write("cut.dat", &format!("{head}{tail}MEM 9"));
    let ours = folder.ours(&["peak", "cut.dat"]).expect_code(0);
    assert_eq!(ours.stdout, "cut.dat\t20.250 MiB\n");
    assert!(
        ours.stderr.contains("the last line is cut"),
        "{}",
        ours.stderr
    );
    // No sample: mprof's max() of nothing.
    folder.write("none.dat", "CMDLINE app\n");
    let ours = folder.ours(&["peak", "none.dat"]);
    assert_eq!(ours.stdout, "none.dat\tNaN MiB\n");
    expect_error(ours, 1).expect_words(&["no sample"]);
    folder.write("foreign.dat", "x,y\n1,2\n");
    expect_error(folder.ours(&["peak", "foreign.dat"]), 1).expect_words(&["not a recording"]);
    expect_error(folder.ours(&["peak", "missing.dat"]), 1).expect_words(&["missing.dat"]);
}

/// mprof removes whatever it is given, and only that; ours what belongs to a recording, and
/// nothing else.
#[test]
fn rm_and_clean_take_runs_and_nothing_else() {
    let Some(folder) = Folder::recorded() else {
        return;
    };
    let kept = ["notes.txt", "own.dat"];
    folder.write("notes.txt", "mine");
    folder.write("own.dat", "MEM 1.000000 1700000000.0000\n");
    let all = folder.names();
    // The last, by its number, is our run: first its .dat, as mprof says it, then the rest of it.
    let theirs = folder
        .mprof(&["rm", "--dry-run", "-1"])
        .expect_code(0)
        .stdout;
    let ours = folder
        .ours(&["rm", "--dry-run", "-1"])
        .expect_code(0)
        .stdout;
    let rest = ["folded", "memprof", "svg"].map(|ending| format!("{OURS}.{ending}\n"));
    assert_eq!(ours, theirs + &rest.concat());
    let theirs = folder.mprof(&["clean", "--dry-run"]).expect_code(0).stdout;
    let ours = folder.ours(&["clean", "--dry-run"]).expect_code(0);
    assert_eq!(ours.stdout, theirs + &rest.concat());
    assert!(
        ours.stderr.contains("own.dat has a name of its own"),
        "{}",
        ours.stderr
    );
    assert_eq!(folder.names(), all, "a dry run");

    for (words, code) in [
        (&["rm", "notes.txt"][..], 1),
        (&["rm", "0", "notes.txt"], 1),
        (&["rm", "missing.dat"], 1),
        (&["rm", "3"], 2),
        (&["rm"], 2),
    ] {
        expect_error(folder.ours(words), code);
        assert_eq!(folder.names(), all, "{words:?} removes nothing");
    }
    assert_eq!(folder.ours(&["rm", "0"]).expect_code(0).stdout, "");
    assert!(!folder.session.file(DECORATED).exists());
    folder.ours(&["clean"]).expect_code(0);
    assert_eq!(folder.names(), kept);
    assert_eq!(folder.ours(&["list"]).expect_code(0).stdout, "");
    let said = expect_error(folder.ours(&["peak"]), 1);
    assert_eq!(said.hint, "memprof-ebpf peak own.dat");
    folder.ours(&["rm", "own.dat"]).expect_code(0);
    expect_error(folder.ours(&["peak"]), 1).expect_words(&["memprof-ebpf run"]);
}
