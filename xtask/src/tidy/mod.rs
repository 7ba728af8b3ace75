//! `cargo xtask tidy`: what a module must not know or do, checked by reading the sources.
//!
//! The compiler does not see these boundaries, and a review forgets them. A rule is one row of
//! [`rules::RULES`] with its reason; a file that breaks it is named with its line.

mod rules;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::workspace;
use source::Source;

/// What holds no sources of ours. (`.git` is a file in a worktree.)
const NOT_OURS: [&str; 3] = ["target", ".git", "__pycache__"];

/// Larger files are data (recorded memory images): a person did not type them.
const TEXT_BYTES: u64 = 1 << 20;

/// Checks every rule; an error when one is broken.
pub fn check() -> Result<()> {
    let mut files = Vec::new();
    collect(workspace::root(), &mut files)?;
    files.sort();
    let mut broken = 0;
    for path in &files {
        let Ok(text) = fs::read_to_string(path) else {
            continue; // not text
        };
        let source = Source::new(relative(path), &text);
        for rule in rules::RULES.iter().filter(|rule| (rule.applies)(&source)) {
            let lines = (rule.violations)(&source);
            if lines.is_empty() {
                continue;
            }
            eprintln!("{}\n    because {}", rule.says, rule.because);
            for line in &lines {
                eprintln!("    {}:{line}", source.path);
            }
            broken += lines.len();
        }
    }
    if broken > 0 {
        bail!("{broken} places break a rule of xtask/src/tidy/rules.rs");
    }
    eprintln!(
        "tidy: {} files keep {} rules",
        files.len(),
        rules::RULES.len()
    );
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if NOT_OURS.iter().any(|not_ours| name == *not_ours) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), files)?;
        } else if kind.is_file() && entry.metadata()?.len() <= TEXT_BYTES {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn relative(path: &Path) -> String {
    let relative = path.strip_prefix(workspace::root()).unwrap_or(path);
    relative.to_string_lossy().into_owned()
}
