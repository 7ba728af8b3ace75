//! Opens a file that another process has mapped: also a deleted one, also one in a container,
//! and never one that the process only points at.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::Mapping;

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileKey {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl From<&Metadata> for FileKey {
    fn from(metadata: &Metadata) -> Self {
        FileKey {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Flags for files whose kind is not known yet: a FIFO must not block, a terminal must not
/// become ours.
const CAREFUL: OFlags = OFlags::NONBLOCK
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// The regular file behind a mapping.
///
/// First by /proc/PID/map_files, which leads to the very inode whatever its name says now; that
/// takes CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE. Then by name inside the process's own root,
/// which symbolic links do not leave.
pub fn mapped_file(pid: u32, mapping: &Mapping) -> io::Result<File> {
    by_mapping(pid, mapping).or_else(|_| by_name(pid, mapping))
}

/// The regular file that was behind a mapping, when another one may be at its addresses by now, or
/// the process may have gone. In that case, by its name in our own root, if that is the same file.
pub fn once_mapped_file(pid: u32, mapping: &Mapping) -> io::Result<File> {
    let still = |file| match is_named(pid, mapping) {
        true => Ok(file),
        false => Err(another()),
    };
    by_mapping(pid, mapping)
        .and_then(still)
        .or_else(|_| by_name(pid, mapping))
        .or_else(|_| {
            let file = inside(&File::open("/")?, &mapping.path)?;
            match file.metadata()?.ino() == mapping.inode {
                true => Ok(file),
                false => Err(another()),
            }
        })
}

/// What is at the addresses of a mapping has its name.
fn is_named(pid: u32, mapping: &Mapping) -> bool {
    std::fs::read_link(map_files(pid, mapping)).is_ok_and(|link| {
        let name = link.as_os_str().as_encoded_bytes();
        let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
        name == mapping.path.as_os_str().as_encoded_bytes()
    })
}

fn another() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "another file has its place")
}

fn map_files(pid: u32, mapping: &Mapping) -> String {
    let Mapping { start, end, .. } = mapping;
    format!("/proc/{pid}/map_files/{start:x}-{end:x}")
}

fn by_mapping(pid: u32, mapping: &Mapping) -> io::Result<File> {
    let path = map_files(pid, mapping);
    // A mapped device is not opened at all: that alone may do something.
    if !std::fs::metadata(&path)?.is_file() {
        return Err(not_regular());
    }
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(CAREFUL.bits() as i32)
        .open(path)?;
    regular(file)
}

fn by_name(pid: u32, mapping: &Mapping) -> io::Result<File> {
    if mapping.deleted {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the file has been deleted, and /proc/PID/map_files cannot be read",
        ));
    }
    inside(&File::open(format!("/proc/{pid}/root"))?, &mapping.path)
}

/// Opens a path as a process with this root directory would: absolute links and `..` stay in it.
fn inside(root: &File, path: &Path) -> io::Result<File> {
    let file = openat2(
        root,
        path.strip_prefix("/").unwrap_or(path),
        OFlags::RDONLY | CAREFUL,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )?;
    regular(File::from(file))
}

fn regular(file: File) -> io::Result<File> {
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(not_regular()),
    }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Mappings;

    #[test]
    fn both_ways_lead_to_this_program() {
        let pid = std::process::id();
        let maps = Mappings::read(pid).unwrap();
        let mine = maps.at(both_ways_lead_to_this_program as fn() as usize as u64);
        let want = std::fs::metadata(std::env::current_exe().unwrap()).unwrap();
        let file = by_name(pid, mine.unwrap()).unwrap();
        assert_eq!(file.metadata().unwrap().ino(), want.ino());
        let file = mapped_file(pid, mine.unwrap()).unwrap();
        assert_eq!(file.metadata().unwrap().ino(), want.ino());
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let mapping = Mapping {
            path: "/dev/null".into(),
            ..Mapping::default()
        };
        assert!(by_name(std::process::id(), &mapping).is_err());
        let mapping = Mapping {
            path: "/proc/self/exe".into(),
            ..Mapping::default()
        };
        assert!(by_name(std::process::id(), &mapping).is_err());
    }

    #[test]
    fn links_do_not_leave_the_root() {
        use std::io::Read;
        use std::os::unix::fs::symlink;
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("root");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(directory.path().join("file"), "outside").unwrap();
        std::fs::write(inner.join("file"), "inside").unwrap();
        let outside = directory.path().join("file");
        symlink(&outside, inner.join("absolute")).unwrap();
        symlink("../file", inner.join("relative")).unwrap();
        symlink("/file", inner.join("own")).unwrap();
        let root = File::open(&inner).unwrap();
        let text = |name: &str| {
            let mut text = String::new();
            inside(&root, Path::new(name))?.read_to_string(&mut text)?;
            io::Result::Ok(text)
        };
        assert_eq!(text("/file").unwrap(), "inside");
        assert_eq!(text("/own").unwrap(), "inside");
        // `..` at the root is the root.
        assert_eq!(text("/relative").unwrap(), "inside");
        assert_eq!(text("/../file").unwrap(), "inside");
        assert!(text("/absolute").is_err());
    }
}
