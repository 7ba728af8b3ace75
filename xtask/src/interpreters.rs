//! The interpreters that the tests run and the machine lacks: from Debian's archive, unpacked
//! under `target/interpreters/`, installed nowhere.
//!
//! apt resolves and downloads them as for an empty system, so their C library comes with them;
//! the programs are then told to start through that one's loader. The mirror is the one that the
//! machine's own apt uses.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::command;
use crate::packages;
use crate::workspace;

/// A release of Debian, and what of it is unpacked.
struct Suite {
    name: &'static str,
    /// Versions of CPython.
    versions: &'static [&'static str],
}

/// sid has the newest; bullseye's are the oldest that the archive still holds.
const NEWEST: Suite = Suite {
    name: "sid",
    versions: &["3.13", "3.14", "3.15"],
};
const OLDEST: Suite = Suite {
    name: "bullseye",
    versions: &["3.9", "2.7"],
};

/// Changes the loader that a program names.
const PATCHELF: &str = "patchelf";
/// What Debian signs its releases with.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The libraries inside an unpacked release; before Debian 12 some are not under `usr`.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
/// The loader, in one of them.
const LOADER: &str = "ld-linux-x86-64.so.2";

/// Where the interpreters are: `python3.N`.
pub fn folder() -> PathBuf {
    workspace::target().join("interpreters/bin")
}

/// Unpacks what is missing.
pub fn install() -> Result<()> {
    ensure!(
        packages::available(),
        "the newest interpreters come from Debian's archive, and this system has no apt\n\
         hint: put python3.13, python3.14 and python3.15 into {}",
        folder().display()
    );
    unpack(&NEWEST)?;
    // What pyenv has, the tests use from there.
    if !OLDEST.versions.iter().all(|version| pyenv_has(version)) {
        unpack(&OLDEST)?;
    }
    Ok(())
}

fn pyenv_has(version: &str) -> bool {
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")));
    let versions = root.and_then(|root| fs::read_dir(root.join("versions")).ok());
    let prefix = format!("{version}.");
    versions
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
}

/// Downloads and unpacks a release's interpreters, unless they are there.
fn unpack(suite: &Suite) -> Result<()> {
    let home = workspace::target().join("interpreters").join(suite.name);
    // Written last: an interrupted installation is begun again.
    let done = home.join("installed.txt");
    let wanted = package_names(suite).join("\n");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    packages::install(&[PATCHELF])?;
    let _ = fs::remove_dir_all(&home);
    let archives = download(suite, &home.join("apt"))?;
    let root = home.join("root");
    fs::create_dir_all(&root)?;
    for archive in &archives {
        command::run(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&root))?;
    }
    fs::create_dir_all(folder())?;
    for version in suite.versions {
        let python = root.join(format!("usr/bin/python{version}"));
        relocate(&python, &root)?;
        let link = folder().join(format!("python{version}"));
        let _ = fs::remove_file(&link);
        symlink(&python, &link).with_context(|| format!("cannot link {}", link.display()))?;
    }
    // What apt needed is no longer of use.
    fs::remove_dir_all(home.join("apt"))?;
    fs::write(&done, wanted)?;
    Ok(())
}

/// The programs, and the libraries for programs that embed them.
fn package_names(suite: &Suite) -> Vec<String> {
    let names = |version: &&str| [format!("python{version}"), format!("libpython{version}")];
    suite.versions.iter().flat_map(names).collect()
}

/// The archives of a release's interpreters and of all that they need.
fn download(suite: &Suite, apt: &Path) -> Result<Vec<PathBuf>> {
    let archives = apt.join("cache/archives");
    for folder in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(folder))?;
    }
    // An empty system: everything is missing, the C library too.
    fs::write(apt.join("status"), "")?;
    let signed_by = match Path::new(KEYRING).is_file() {
        true => format!("[signed-by={KEYRING}] "),
        false => String::new(),
    };
    let source = format!("deb {signed_by}{} {} main\n", mirror()?, suite.name);
    fs::write(apt.join("sources.list"), source)?;
    command::run(apt_get(apt).args(["update", "-q"]))?;
    let names = package_names(suite);
    command::run(
        apt_get(apt)
            .args(["install", "-q", "-y", "--no-install-recommends"])
            .arg("--download-only")
            .args(&names),
    )
    .with_context(|| format!("{} does not offer {}", suite.name, names.join(", ")))?;
    let mut found: Vec<PathBuf> = fs::read_dir(&archives)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    found.retain(|path| path.extension().is_some_and(|end| end == "deb"));
    ensure!(!found.is_empty(), "apt has downloaded nothing");
    Ok(found)
}

/// apt with lists, sources and a state of its own, and with the machine's proxy and passwords.
fn apt_get(apt: &Path) -> Command {
    let mut command = Command::new("apt-get");
    for (option, value) in [
        ("Dir::Etc::SourceList", "sources.list"),
        ("Dir::State::Lists", "lists"),
        ("Dir::State::status", "status"),
        ("Dir::Cache", "cache"),
    ] {
        let value = apt.join(value);
        command
            .arg("-o")
            .arg(format!("{option}={}", value.display()));
    }
    for option in [
        "Dir::Etc::SourceParts=/dev/null",
        "Debug::NoLocking=true",
        "APT::Sandbox::User=root",
    ] {
        command.args(["-o", option]);
    }
    command
}

/// The mirror that the machine's apt has Debian from.
fn mirror() -> Result<String> {
    let targets = command::answer(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(ORIGIN)|$(CODENAME)|$(RELEASE)|$(COMPONENT)|$(REPO_URI)",
        "Created-By: Packages",
    ]));
    let targets = targets.unwrap_or_default();
    let found = targets.lines().find_map(|line| {
        let mut fields = line.splitn(5, '|');
        let (origin, codename) = (fields.next()?, fields.next()?);
        let (release, component) = (fields.next()?, fields.next()?);
        let is_main = origin == "Debian" && component == "main";
        // Not the archive of security fixes, nor that of updates.
        let is_release = codename == release && !release.contains('-');
        (is_main && is_release).then(|| fields.next())?
    });
    match found {
        Some(uri) => Ok(uri.to_owned()),
        None => bail!("apt names no mirror of Debian\nhint: apt-get update"),
    }
}

/// Has a program start through the loader and with the libraries that were unpacked with it.
fn relocate(program: &Path, root: &Path) -> Result<()> {
    let folders = LIBRARIES.map(|folder| root.join(folder));
    let loader = folders
        .iter()
        .find_map(|folder| fs::canonicalize(folder.join(LOADER)).ok())
        .context("the release has no loader")?;
    let folders = folders.map(|folder| folder.display().to_string()).join(":");
    command::run(
        Command::new(PATCHELF)
            .arg("--set-interpreter")
            .arg(loader)
            // Unlike a runpath it holds for what the extension modules need, too.
            .args(["--force-rpath", "--set-rpath", &folders])
            .arg(program),
    )
}
