//! Where growth went, as one word an owner: the rows of the report and the brackets of the flame
//! graph, so that both call a thing by one name.

use crate::model::{Cause, Owner, PageKind};

/// What became of an owner's bytes. Each byte of growth is of exactly one kind.
///
/// What pages they are goes before who made them resident: a Python line that reads a mapped file
/// made file-backed pages. Whose hand it was goes before both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Anonymous memory that a Python stack touched.
    Python,
    /// Anonymous memory touched by a thread without a Python frame.
    NoPythonFrame,
    /// Anonymous memory of the interpreter itself: before its first frame, or between frames.
    Interpreter,
    /// Pages of mapped files, shared with the page cache.
    File,
    /// Shared memory: memfd, shm, System V, shared anonymous mappings.
    Shmem,
    /// Anonymous memory that the kernel filled for the program, inside a system call.
    Kernel,
    /// Put there by another process, or by the kernel unasked.
    OtherProcess,
    /// Not announced by any record, and found in the page tables.
    Found,
    /// Anonymous memory of a program that is not Python.
    NotPython,
    /// Anonymous memory whose stack could not be read.
    Unknown,
}

impl Kind {
    /// Every kind, in the order of the report.
    pub const ALL: [Kind; 10] = [
        Kind::Python,
        Kind::NoPythonFrame,
        Kind::Interpreter,
        Kind::File,
        Kind::Shmem,
        Kind::Kernel,
        Kind::OtherProcess,
        Kind::Found,
        Kind::NotPython,
        Kind::Unknown,
    ];

    /// The kind of an owner's bytes.
    pub fn of(owner: &Owner) -> Kind {
        match (owner.cause, owner.kind) {
            (Cause::OtherProcess, _) => Kind::OtherProcess,
            (Cause::Found, _) => Kind::Found,
            (_, PageKind::File) => Kind::File,
            (_, PageKind::Shmem) => Kind::Shmem,
            _ if owner.in_kernel => Kind::Kernel,
            (cause, PageKind::Anon) => Kind::who(cause),
        }
    }

    /// Who did it, whatever pages they are.
    pub const fn who(cause: Cause) -> Kind {
        match cause {
            Cause::Python => Kind::Python,
            Cause::Interpreter => Kind::Interpreter,
            Cause::NoPythonFrame => Kind::NoPythonFrame,
            Cause::NotPython => Kind::NotPython,
            Cause::OtherProcess => Kind::OtherProcess,
            Cause::Found => Kind::Found,
            Cause::Unknown => Kind::Unknown,
        }
    }

    /// The word in JSON.
    pub const fn key(self) -> &'static str {
        match self {
            Kind::Python => "python",
            Kind::NoPythonFrame => "no_python_frame",
            Kind::Interpreter => "interpreter",
            Kind::File => "file",
            Kind::Shmem => "shmem",
            Kind::Kernel => "kernel",
            Kind::OtherProcess => "other_process",
            Kind::Found => "found",
            Kind::NotPython => "not_python",
            Kind::Unknown => "unknown",
        }
    }

    /// The words for people; in brackets, the frame.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Python => "Python stack",
            Kind::NoPythonFrame => "no Python frame",
            Kind::Interpreter => "interpreter start-up",
            Kind::File => "file-backed",
            Kind::Shmem => "shared memory",
            Kind::Kernel => "kernel",
            Kind::OtherProcess => "another process",
            Kind::Found => "found in the page tables",
            Kind::NotPython => "not Python",
            Kind::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_names_are_told_apart() {
        for word in [Kind::key, Kind::name] {
            let mut words = Kind::ALL.map(word).to_vec();
            words.sort_unstable();
            words.dedup();
            assert_eq!(words.len(), Kind::ALL.len());
        }
    }
}
