//! Folded stacks: `ROOT;frame;…;frame BYTES`, sorted and merged, as flamegraph.pl, inferno and
//! speedscope read them.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::escape;
use super::{Kind, View};
use crate::model::{Native, Owner, PageKind, Process, Profile};

/// How stacks are named and merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FoldedOptions {
    /// ROOT without the pid: workers of one role become one.
    pub merge_processes: bool,
    /// Frames without the line.
    pub function: bool,
}

/// Stacks with their bytes under `view`, sorted by name. Zero weights are left out.
pub fn folded(profile: &Profile, view: View, options: FoldedOptions) -> Vec<(String, u64)> {
    let names = FrameNames::new(profile, options);
    let mut merged: BTreeMap<String, u64> = BTreeMap::new();
    for owner in &profile.owners {
        let bytes = view.weight(owner);
        if bytes == 0 {
            continue;
        }
        let total = merged.entry(names.stack(owner, view)).or_default();
        *total = total.saturating_add(bytes);
    }
    merged.into_iter().collect()
}

/// Writes [`folded`] stacks, one a line.
pub fn write(
    profile: &Profile,
    view: View,
    options: FoldedOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    for (stack, bytes) in folded(profile, view, options) {
        writeln!(out, "{stack} {bytes}")?;
    }
    Ok(())
}

/// Every name that stacks are put together from, made once.
struct FrameNames<'a> {
    profile: &'a Profile,
    roots: Vec<String>,
    frames: Vec<String>,
    natives: Vec<String>,
    files: Vec<String>,
}

impl<'a> FrameNames<'a> {
    fn new(profile: &'a Profile, options: FoldedOptions) -> Self {
        let roots = profile.processes.iter();
        let frames = 0..profile.frames.len();
        FrameNames {
            profile,
            roots: roots.map(|process| root(process, options)).collect(),
            frames: frames.map(|index| frame(profile, index, options)).collect(),
            natives: profile.natives.iter().map(native).collect(),
            files: profile
                .files
                .iter()
                .map(|file| self::file(&file.path))
                .collect(),
        }
    }

    fn stack(&self, owner: &Owner, view: View) -> String {
        let root = self.roots.get(owner.process as usize);
        let mut stack = root.map_or("[unknown]", String::as_str).to_owned();
        let mut push = |name: &str| {
            stack.push(';');
            stack.push_str(name);
        };
        let python = self.profile.stacks.get(owner.stack as usize);
        if python.is_some_and(|python| python.truncated) {
            push("[truncated]");
        }
        let indexes = python.map_or(&[][..], |python| &python.frames);
        for &index in indexes {
            let name = self.frames.get(index as usize);
            push(name.map_or("[unknown]", String::as_str));
        }
        if indexes.is_empty() {
            push(&bracket(match Kind::who(owner.cause) {
                // A stack that has gone missing.
                Kind::Python => Kind::Unknown,
                kind => kind,
            }));
        }
        if let Some(native) = python.and_then(|python| python.native) {
            let name = self.natives.get(native as usize);
            push(name.map_or("[unknown]", String::as_str));
        }
        let file = owner.file.and_then(|file| self.files.get(file as usize));
        let pages = match owner.kind {
            PageKind::Anon => None,
            PageKind::File => Some(Kind::File),
            PageKind::Shmem => Some(Kind::Shmem),
        };
        if let Some(kind) = pages {
            file.into_iter().for_each(|file| push(file));
            push(&bracket(kind));
        }
        if owner.in_kernel {
            push(&bracket(Kind::Kernel));
        }
        if view == View::Cow {
            push("[copy-on-write]");
        }
        stack
    }
}

/// The frame that stands for what is not Python.
fn bracket(kind: Kind) -> String {
    format!("[{}]", kind.name())
}

/// A file by the last part of its path, which is what fits into a frame: `[libssl.so.3]`.
fn file(path: &str) -> String {
    let path = escape::frame(path);
    if path.starts_with('[') && path.ends_with(']') {
        return path;
    }
    match path.rsplit('/').next() {
        Some(name) if !name.is_empty() => format!("[{name}]"),
        _ => "[unnamed]".to_owned(),
    }
}

/// Native code by its library's file and its function: `[libc.so.6: memset]`.
fn native(native: &Native) -> String {
    let library = file(&native.library);
    match (&native.symbol, library.strip_suffix(']')) {
        (Some(symbol), Some(library)) => format!("{library}: {}]", escape::frame(symbol)),
        _ => library,
    }
}

fn root(process: &Process, options: FoldedOptions) -> String {
    let role = match escape::frame(&process.role) {
        role if role.is_empty() => "[unnamed]".to_owned(),
        role => role,
    };
    if options.merge_processes {
        role
    } else {
        format!("{role} ({})", process.pid)
    }
}

fn frame(profile: &Profile, index: usize, options: FoldedOptions) -> String {
    let frame = profile.frames.get(index).copied().unwrap_or_default();
    let Some(function) = profile.functions.get(frame.function as usize) else {
        return "[unknown]".to_owned();
    };
    let name = match escape::frame(&function.name) {
        name if name.is_empty() => "<unnamed>".to_owned(),
        name => name,
    };
    let file = escape::frame(&function.file);
    // Line 0: the line table could not be read.
    if options.function || frame.line == 0 {
        format!("{name} ({file})")
    } else {
        format!("{name} ({file}:{})", frame.line)
    }
}
