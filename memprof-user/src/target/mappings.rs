//! What a process has mapped: /proc/PID/maps, parsed.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::read_bounded;

/// vm.max_map_count is 65530 by default; lines are about 100 bytes, paths at most 4096.
const MAPS_BYTES: u64 = 64 << 20;

/// One line of /proc/PID/maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// Offset of `start` in the file.
    pub offset: u64,
    /// Device of the file, as (major, minor). On some file systems not the one that stat says.
    pub device: (u32, u32),
    /// Inode of the file; 0 without one.
    pub inode: u64,
    /// May be read.
    pub readable: bool,
    /// May be written.
    pub writable: bool,
    /// May be executed.
    pub executable: bool,
    /// Writes go to the file, not to a private copy.
    pub shared: bool,
    /// The file, or the kernel's name in brackets (`[heap]`); empty for anonymous memory.
    pub path: PathBuf,
    /// The file has been unlinked. (The kernel marks it in the name only, so a file can lie.)
    pub deleted: bool,
}

impl Mapping {
    /// True when it maps a file.
    pub fn is_file(&self) -> bool {
        self.inode != 0
    }

    /// True for shared memory, which the kernel counts apart from files: shared anonymous
    /// memory, memfd, System V segments, and POSIX shared memory where it usually is.
    pub fn is_shared_memory(&self) -> bool {
        let path = self.path.as_os_str().as_encoded_bytes();
        [&b"/dev/zero"[..], b"/memfd:", b"/SYSV", b"/dev/shm/"]
            .iter()
            .any(|start| path.starts_with(start))
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Never true for what the kernel says; for completeness.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// True when the pages of a mapping count as shared memory: its file lies on a tmpfs, which the
/// kernel's own files of shared memory do too. By the mapping's name when the file cannot be asked
/// (no privilege, gone).
pub fn is_on_tmpfs(pid: u32, mapping: &Mapping) -> bool {
    let file = format!(
        "/proc/{pid}/map_files/{:x}-{:x}",
        mapping.start, mapping.end
    );
    match rustix::fs::statfs(file) {
        Ok(system) => system.f_type == TMPFS_MAGIC,
        Err(_) => mapping.is_shared_memory(),
    }
}

/// `TMPFS_MAGIC` (include/uapi/linux/magic.h).
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;

/// All mappings of a process at one time, by ascending address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mappings(Vec<Mapping>);

impl Mappings {
    /// Those of a live process. An empty list: a zombie or a kernel thread.
    pub fn read(pid: u32) -> io::Result<Self> {
        let bytes = read_bounded(&format!("/proc/{pid}/maps"), MAPS_BYTES)?;
        Ok(Self::parse(&bytes))
    }

    /// Parses the text of /proc/PID/maps; lines that are not of its form are left out.
    pub fn parse(text: &[u8]) -> Self {
        Mappings(text.split(|&b| b == b'\n').filter_map(line).collect())
    }

    /// In order of address.
    pub fn iter(&self) -> std::slice::Iter<'_, Mapping> {
        self.0.iter()
    }

    /// The one that holds this address.
    pub fn at(&self, address: u64) -> Option<&Mapping> {
        let after = self.0.partition_point(|mapping| mapping.start <= address);
        let mapping = self.0.get(after.checked_sub(1)?)?;
        (address < mapping.end).then_some(mapping)
    }
}

impl<'a> IntoIterator for &'a Mappings {
    type Item = &'a Mapping;
    type IntoIter = std::slice::Iter<'a, Mapping>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// `start-end rwxp offset major:minor inode      path` (Documentation/filesystems/proc.rst).
fn line(line: &[u8]) -> Option<Mapping> {
    // The path may hold blanks, so the first five fields are cut off one by one.
    let mut rest = line;
    let mut field = || {
        let end = rest.iter().position(|&b| b == b' ').unwrap_or(rest.len());
        let field = std::str::from_utf8(&rest[..end]).ok()?;
        rest = rest.get(end + 1..).unwrap_or_default();
        Some(field)
    };
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = field()?.split_once('-')?;
    let permissions = field()?.as_bytes();
    let offset = hex(field()?)?;
    let (major, minor) = field()?.split_once(':')?;
    let inode = field()?.parse().ok()?;
    let &[r, w, x, s] = permissions else {
        return None;
    };
    let (start, end) = (hex(start)?, hex(end)?);
    if end < start {
        return None;
    }
    let (path, deleted) = path(rest.trim_ascii_start());
    Some(Mapping {
        start,
        end,
        offset,
        device: (hex(major)? as u32, hex(minor)? as u32),
        inode,
        readable: r == b'r',
        writable: w == b'w',
        executable: x == b'x',
        shared: s == b's',
        path,
        deleted,
    })
}

/// The kernel escapes a line feed in a name as `\012` and marks unlinked files.
fn path(field: &[u8]) -> (PathBuf, bool) {
    let (name, deleted) = match field.strip_suffix(b" (deleted)") {
        Some(name) => (name, true),
        None => (field, false),
    };
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, tail)) = rest.split_first() {
        match rest.strip_prefix(b"\\012") {
            Some(tail) => {
                bytes.push(b'\n');
                rest = tail;
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    (PathBuf::from(OsString::from_vec(bytes)), deleted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    const TEXT: &[u8] = b"\
00400000-0041f000 r--p 00000000 08:01 1234                               /usr/bin/python3.11
0041f000-006d2000 r-xp 0001f000 08:01 1234                               /usr/bin/python3.11
01000000-01021000 rw-p 00000000 00:00 0                                  [heap]
7f0000000000-7f0000001000 rw-s 00000000 00:05 99                         /dev/shm/a\\012b c (deleted)
7f0000002000-7f0000003000 ---p 00000000 00:00 0 
nonsense
7fffffffe000-7ffffffff000 rw-p 00000000 00:00 0                          [stack]
";

    #[test]
    fn parses_names_and_permissions() {
        let maps = Mappings::parse(TEXT);
        let all: Vec<_> = maps.iter().collect();
        assert_eq!(all.len(), 6);
        assert_eq!(all[1].path, Path::new("/usr/bin/python3.11"));
        assert_eq!((all[1].offset, all[1].inode), (0x1f000, 1234));
        assert!(all[1].executable && !all[1].writable && !all[1].shared);
        assert_eq!(all[3].path, Path::new("/dev/shm/a\nb c"));
        assert!(all[3].deleted && all[3].shared && all[3].is_file());
        assert_eq!(all[3].device, (0, 5));
        assert_eq!(all[4].path, Path::new(""));
        assert!(!all[4].readable && !all[2].is_file());
    }

    #[test]
    fn finds_by_address() {
        let maps = Mappings::parse(TEXT);
        assert_eq!(maps.at(0x41f000).unwrap().start, 0x41f000);
        assert_eq!(maps.at(0x41efff).unwrap().start, 0x400000);
        assert_eq!(maps.at(0x6d2000), None);
        assert_eq!(maps.at(0), None);
        assert_eq!(maps.at(u64::MAX), None);
    }

    #[test]
    fn this_process_maps_its_own_code() {
        let maps = Mappings::read(std::process::id()).unwrap();
        let here = maps.at(this_process_maps_its_own_code as fn() as usize as u64);
        assert!(here.unwrap().executable);
        assert_eq!(here.unwrap().path, std::env::current_exe().unwrap());
    }

    proptest! {
        #[test]
        fn garbage_is_never_a_panic(text in prop::collection::vec(any::<u8>(), 0..300)) {
            Mappings::parse(&text);
        }
    }
}
