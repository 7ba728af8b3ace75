//! greenlet and gevent for the interpreters of the tests, unpacked under `target/greenlets/`, where
//! `PYTHONPATH` leads to them: the interpreters themselves stay as they are.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::command;
use crate::venv;
use crate::workspace;

/// What one version gets: the last release that has wheels for it.
struct Pins {
    /// The `N` of 3.N.
    minor: u8,
    packages: &'static [&'static str],
}

/// With what gevent needs, and as in tests/requirements.txt.
const NEWEST: &[&str] = &[
    "greenlet==3.5.6",
    "gevent==26.9.0",
    "zope.event==6.2",
    "zope.interface==8.7",
];

const PINS: [Pins; 10] = [
    pins(6, &["greenlet==2.0.2"]),
    pins(7, &["greenlet==3.1.1"]),
    pins(8, &["greenlet==3.1.1"]),
    pins(9, &["greenlet==3.2.5"]),
    pins(
        10,
        &[
            "greenlet==3.5.6",
            "gevent==26.9.0",
            "zope.event==6.2",
            "zope.interface==8.6",
        ],
    ),
    pins(11, NEWEST),
    pins(12, NEWEST),
    pins(13, NEWEST),
    pins(14, NEWEST),
    pins(15, NEWEST),
];

const fn pins(minor: u8, packages: &'static [&'static str]) -> Pins {
    Pins { minor, packages }
}

/// What wheels for glibc call themselves; the oldest ones first.
const PLATFORMS: [&str; 4] = [
    "manylinux2010_x86_64",
    "manylinux2014_x86_64",
    "manylinux_2_24_x86_64",
    "manylinux_2_28_x86_64",
];

/// Unpacks what is missing, by the pip of the tests' own environment.
pub fn install(venv: &Path) -> Result<()> {
    let root = workspace::target().join("greenlets");
    for Pins { minor, packages } in PINS {
        let folder = root.join(format!("3.{minor}"));
        // Written last: an interrupted installation is begun again.
        let done = folder.join("installed.txt");
        let wanted = packages.join("\n");
        if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
            continue;
        }
        let _ = fs::remove_dir_all(&folder);
        // Before 3.8 the name of the binary interface tells of the allocator.
        let abi = format!("cp3{minor}{}", if minor < 8 { "m" } else { "" });
        let mut pip = venv::pip(venv, "install");
        pip.args(["--no-deps", "--only-binary", ":all:"])
            .args(["--implementation", "cp"])
            .args(["--python-version", &format!("3.{minor}"), "--abi", &abi]);
        for platform in PLATFORMS {
            pip.args(["--platform", platform]);
        }
        command::run(pip.arg("--target").arg(&folder).args(packages))?;
        fs::write(&done, wanted)?;
    }
    Ok(())
}
