//! Files are made anew, whole or not at all, and belong to the user who typed the command.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use memprof_user::output::{self, OutputBase, OutputFile};
use memprof_user::{Error, Exit};
use tempfile::{TempDir, tempdir};

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<String> = entries.map(|e| name(e).into_string().unwrap()).collect();
    names.sort();
    names
}

fn write(path: &Path, force: bool, text: &str) -> Result<(), Error> {
    output::write_file(path, force, |out| out.write_all(text.as_bytes()))
}

fn folder_with(name: &str, text: &str) -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn a_base_names_four_files() {
    let folder = tempdir().unwrap();
    let base = |name: &str| OutputBase::resolve(Some(folder.path().join(name)), false).unwrap();
    for name in ["run.v2", "run.v2.dat"] {
        let base = base(name);
        let paths = [base.dat(), base.folded(), base.memprof(), base.svg()];
        let names = paths.map(|path| path.file_name().unwrap().to_owned());
        assert_eq!(
            names,
            [
                "run.v2.dat",
                "run.v2.folded",
                "run.v2.memprof",
                "run.v2.svg"
            ]
        );
    }
    assert_eq!(names(folder.path()), [""; 0], "resolving makes no file");
}

#[test]
fn the_default_name_is_mprofs() {
    let base = OutputBase::resolve(None, false).unwrap();
    let name = base.dat().into_os_string().into_string().unwrap();
    let digits = name
        .strip_prefix("mprofile_")
        .and_then(|rest| rest.strip_suffix(".dat"));
    let digits = digits.unwrap_or_else(|| panic!("{name}"));
    assert_eq!(digits.len(), 14, "{name}");
    assert!(digits.bytes().all(|byte| byte.is_ascii_digit()), "{name}");
}

#[test]
fn an_existing_file_is_told_of_before_the_trace() {
    for extension in ["dat", "folded", "memprof"] {
        let (folder, _) = folder_with(&format!("run.{extension}"), "old");
        let base = Some(folder.path().join("run"));
        let error = OutputBase::resolve(base.clone(), false).unwrap_err();
        assert!(error.error.ends_with("exists already"), "{error}");
        assert!(error.hint.contains("--force"), "{error}");
        assert_eq!(error.exit, Exit::Failed);
        assert!(OutputBase::resolve(base, true).unwrap().force());
    }
}

#[test]
fn a_dangling_link_counts_as_existing() {
    let folder = tempdir().unwrap();
    symlink("nowhere", folder.path().join("run.memprof")).unwrap();
    assert!(OutputBase::resolve(Some(folder.path().join("run")), false).is_err());
}

#[test]
fn a_missing_folder_is_told_of_before_the_trace() {
    let folder = tempdir().unwrap();
    let missing = folder.path().join("no").join("run");
    let error = OutputBase::resolve(Some(missing), false).unwrap_err();
    assert!(error.hint.starts_with("mkdir -p "), "{error}");
    for path in ["/", "..", ""] {
        assert!(output::check(path.as_ref(), true).is_err(), "{path:?}");
    }
}

#[test]
fn a_folder_that_takes_no_files_is_told_of_before_the_trace() {
    // Nobody makes files there, root neither.
    let error = OutputBase::resolve(Some("/proc/self/run".into()), false).unwrap_err();
    assert!(error.error.starts_with("cannot write"), "{error}");
    assert!(error.hint.contains("-o NAME"), "{error}");
}

#[test]
fn nothing_is_overwritten_without_force() {
    let (folder, path) = folder_with("x.svg", "old");
    let error = write(&path, false, "new").unwrap_err();
    assert!(error.error.ends_with("exists already"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    write(&path, true, "new").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(names(folder.path()), ["x.svg"]);
}

#[test]
fn a_file_that_appeared_meanwhile_is_not_overwritten() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("x.svg");
    let mut out = OutputFile::create(&path, false).unwrap();
    out.write_all(b"ours").unwrap();
    fs::write(&path, "theirs").unwrap();
    let error = out.finish().unwrap_err();
    assert!(error.error.ends_with("exists already"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
    assert_eq!(names(folder.path()), ["x.svg"]);
}

#[test]
fn a_link_is_never_followed() {
    let (folder, victim) = folder_with("victim", "precious");
    let path = folder.path().join("x.dat");
    symlink(&victim, &path).unwrap();
    assert!(write(&path, false, "new").is_err());
    write(&path, true, "new").unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert!(fs::symlink_metadata(&path).unwrap().is_file());
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
}

#[test]
fn a_folder_is_not_replaced() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("x.svg");
    fs::create_dir(&path).unwrap();
    let error = output::check(&path, true).unwrap_err();
    assert!(error.cause.contains("not a plain file"), "{error}");
}

/// As /dev/stdout, whose loss is the whole machine's.
#[test]
fn a_link_to_what_is_no_file_is_not_replaced() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("x.svg");
    for target in ["/proc/self/fd/1", "/dev/null", "."] {
        symlink(target, &path).unwrap();
        for force in [false, true] {
            let error = write(&path, force, "new").unwrap_err();
            assert!(error.error.starts_with("cannot replace"), "{error}");
            assert!(error.cause.contains(target), "{error}");
            assert!(!error.hint.contains("--force"), "{error}");
        }
        assert_eq!(fs::read_link(&path).unwrap(), Path::new(target));
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_failed_write_leaves_nothing_and_the_old_file() {
    let (folder, path) = folder_with("x.svg", "old");
    let full = |out: &mut dyn Write| {
        out.write_all(&[b'x'; 100_000])?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    };
    let error = output::write_file(&path, true, full).unwrap_err();
    assert!(error.hint.contains("df -h"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(names(folder.path()), ["x.svg"]);
}

#[test]
fn what_a_killed_run_left_behind_is_in_nobodys_way() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("x.svg");
    std::mem::forget(OutputFile::create(&path, false).unwrap());
    assert_eq!(names(folder.path()).len(), 1);
    write(&path, false, "new").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(names(folder.path()).len(), 2);
}

/// Set for the child of the test below: the folder in which it makes its files.
const CHILD_FOLDER: &str = "MEMPROF_TEST_SUDO_FOLDER";
const SUDO_UID: u32 = 4321;
const SUDO_GID: u32 = 8765;

#[test]
fn under_sudo_files_belong_to_the_caller() {
    // The environment of a running test cannot be changed safely: this test starts itself.
    if let Some(folder) = std::env::var_os(CHILD_FOLDER) {
        let base = OutputBase::resolve(Some(Path::new(&folder).join("run")), false).unwrap();
        write(&base.folded(), false, "x").unwrap();
        return write(&base.dat(), false, "x").unwrap();
    }
    let folder = tempdir().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "under_sudo_files_belong_to_the_caller"])
        .env(CHILD_FOLDER, folder.path())
        .env("SUDO_UID", SUDO_UID.to_string())
        .env("SUDO_GID", SUDO_GID.to_string())
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stderr)
    );
    let own = fs::metadata(folder.path()).unwrap();
    // Not root: there was no sudo, whatever the environment says, and the files are one's own.
    let expected = if own.uid() == 0 {
        (SUDO_UID, SUDO_GID)
    } else {
        (own.uid(), own.gid())
    };
    for name in ["run.dat", "run.folded"] {
        let made = fs::metadata(folder.path().join(name)).unwrap();
        assert_eq!((made.uid(), made.gid()), expected, "{name}");
    }
}
