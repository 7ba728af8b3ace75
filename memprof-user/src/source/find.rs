//! Looks for a source file: the recorded path, or its tail below a folder that the user names.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::fs::OFlags;

use super::{Missing, Source, encoding};

/// A larger file is not read: the largest source of CPython's library has 0.3 MiB, generated ones
/// a few.
const MOST_BYTES: u64 = 16 << 20;

/// The source file that a code object names `recorded`, the first that `fits`.
///
/// With a `root`, the longest tail of the path that is a file below it goes first: `/srv/app/x.py`
/// is `root/srv/app/x.py`, or `root/app/x.py`, or `root/x.py`. Then the path itself; a relative one
/// is looked for from the working directory.
pub fn find(
    recorded: &str,
    root: Option<&Path>,
    fits: impl Fn(&Source) -> bool,
) -> Result<Source, Missing> {
    if recorded.is_empty() || recorded.starts_with('<') {
        return Err(Missing::NoFile);
    }
    let below = root.map_or_else(Vec::new, |root| tails(recorded, root));
    let recorded = Path::new(recorded);
    let mut why = Missing::NotFound;
    for path in below.into_iter().chain([recorded.to_owned()]) {
        match read(&path) {
            Ok(source) if fits(&source) => return Ok(source),
            Ok(_) => why = Missing::Changed(path),
            Err(error) if is_absent(&error) => {}
            Err(error) => why = Missing::Unreadable(format!("{}: {error}", path.display())),
        }
    }
    match archive(recorded) {
        Some(archive) if why == Missing::NotFound => Err(Missing::Archive(archive)),
        _ => Err(why),
    }
}

/// `recorded` below `root`, with fewer and fewer of its first folders. `..` is left out: the path
/// comes from the target, and must not lead out of `root`.
fn tails(recorded: &str, root: &Path) -> Vec<PathBuf> {
    let names: Vec<Component<'_>> = Path::new(recorded)
        .components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect();
    let tail = |skipped: usize| names[skipped..].iter().collect::<PathBuf>();
    (0..names.len()).map(|n| root.join(tail(n))).collect()
}

fn read(path: &Path) -> io::Result<Source> {
    // The path comes from outside: a FIFO must not block, a device must not be touched.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed())
        .open(path)?;
    let metadata = file.metadata()?;
    refuse(&metadata)?;
    let mut bytes = Vec::new();
    File::take(file, MOST_BYTES).read_to_end(&mut bytes)?;
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH);
    Ok(Source {
        path: path.to_owned(),
        lines: encoding::lines(&bytes),
        modified_epoch_s: modified.map_or(0.0, |since| since.as_secs_f64()),
    })
}

fn refuse(metadata: &Metadata) -> io::Result<()> {
    let why = match metadata {
        file if !file.is_file() => "not a regular file".to_owned(),
        file if file.len() > MOST_BYTES => format!("larger than {} MiB", MOST_BYTES >> 20),
        _ => return Ok(()),
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// There is nothing under this name, or there can be nothing.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename
    )
}

/// The file that stands where `path` wants a folder: code in a zip archive is named so.
fn archive(path: &Path) -> Option<PathBuf> {
    let folders = path.ancestors().skip(1);
    folders
        .filter(|folder| folder.is_file())
        .map(Path::to_owned)
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn any(_: &Source) -> bool {
        true
    }

    #[test]
    fn the_longest_tail_below_the_root_that_fits_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("app")).unwrap();
        fs::write(root.join("app/x.py"), "long").unwrap();
        fs::write(root.join("x.py"), "short").unwrap();
        fs::write(folder.path().join("x.py"), "outside").unwrap();
        let first = |recorded: &str, fits: &dyn Fn(&Source) -> bool| {
            find(recorded, Some(&root), fits).map(|source| source.lines[0].clone())
        };
        assert_eq!(first("/srv/app/x.py", &any).unwrap(), "long");
        assert_eq!(first("./x.py", &any).unwrap(), "short");
        assert_eq!(first("../x.py", &any).unwrap(), "short");
        let fits = |source: &Source| source.lines[0] == "short";
        assert_eq!(first("/srv/app/x.py", &fits).unwrap(), "short");
        let changed = Missing::Changed(root.join("x.py"));
        assert_eq!(first("/srv/app/x.py", &|_| false).unwrap_err(), changed);
        assert_eq!(first("/srv/y.py", &any).unwrap_err(), Missing::NotFound);
    }

    #[test]
    fn what_is_no_file_says_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let missing = |recorded: &Path| find(recorded.to_str().unwrap(), None, any).unwrap_err();
        for name in ["<string>", "<frozen importlib._bootstrap>", ""] {
            assert_eq!(missing(Path::new(name)), Missing::NoFile);
        }
        let archive = folder.path().join("app.zip");
        fs::write(&archive, "PK").unwrap();
        assert_eq!(
            missing(&archive.join("pkg/x.py")),
            Missing::Archive(archive)
        );
        let why = missing(folder.path());
        assert!(why.to_string().contains("not a regular file"), "{why}");
        let why = missing(Path::new("/dev/zero"));
        assert!(why.to_string().contains("not a regular file"), "{why}");
    }
}
