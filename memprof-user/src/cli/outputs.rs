//! What trace and run leave behind: the files, and the closing words on the screen.
//!
//! What was gathered is shown whatever happens to the files: a full disk costs the file, not the
//! result.

use std::path::{Path, PathBuf};

use super::args::CommonArgs;
use crate::error::{Error, Result};
use crate::output::{self, OutputBase};
use crate::session::{Ending, Outcome};
use crate::sink::{DatOptions, FoldedOptions, Format, SinkOptions};
use crate::{capture, report};

/// Where the results of a run go; settled and checked before anything is traced.
pub struct Outputs {
    base: OutputBase,
    svg: Option<PathBuf>,
    dat: DatOptions,
    folded: FoldedOptions,
    quiet: bool,
}

impl Outputs {
    /// Fails when a file exists or could not be written.
    pub fn prepare(args: &CommonArgs) -> Result<Self> {
        let base = OutputBase::resolve(args.output.clone(), args.force)?;
        let svg = args
            .flamegraph
            .as_ref()
            .map(|path| path.clone().unwrap_or_else(|| base.svg()));
        if let Some(svg) = &svg {
            output::check(svg, args.force)?;
        }
        Ok(Outputs {
            base,
            svg,
            dat: args.dat(),
            folded: FoldedOptions {
                merge_processes: args.merge_processes,
                function: args.function,
            },
            quiet: args.quiet,
        })
    }

    /// What the files' names begin with.
    pub fn base(&self) -> PathBuf {
        self.base.path().to_owned()
    }

    /// Writes all files, then says what happened. The first error is returned after everything
    /// that still works is done.
    pub fn write(&self, outcome: &Outcome) -> Result<()> {
        let mut written = Vec::new();
        let mut failures = Vec::new();
        let mut note = |path: &Path, result: Result<()>| match result {
            Ok(()) => written.push(path.display().to_string()),
            Err(error) => failures.push(error),
        };
        let profile = &outcome.profile;
        let force = self.base.force();
        let memprof = self.base.memprof();
        // The capture first: every other file can be made from it.
        let saved = output::write_file(&memprof, force, |out| capture::write(profile, out));
        note(&memprof, saved);
        let options = SinkOptions {
            dat: self.dat,
            folded: self.folded,
            ..SinkOptions::default()
        };
        let svg = self.svg.clone().map(|svg| (Format::Flamegraph, svg));
        let formats = [
            (Format::Dat, self.base.dat()),
            (Format::Folded, self.base.folded()),
        ];
        for (format, path) in formats.into_iter().chain(svg) {
            let result =
                output::write_file(&path, force, |out| format.write(profile, &options, out));
            note(&path, result);
        }
        self.say(outcome, &written, &failures);
        match failures.into_iter().next() {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    fn say(&self, outcome: &Outcome, written: &[String], failures: &[Error]) {
        for warning in &outcome.warnings {
            eprintln!("warning: {warning}");
        }
        if outcome.ending == Ending::Interrupted {
            eprintln!("warning: interrupted twice: what the kernel side still held was dropped");
        }
        if self.quiet && failures.is_empty() {
            return;
        }
        eprint!("{}", report::table(&outcome.profile));
        eprintln!("{}", report::loss_line(&outcome.profile.loss));
        if !written.is_empty() {
            eprintln!("written: {}", written.join(", "));
        }
        if failures.is_empty() {
            let memprof = self.base.memprof();
            eprintln!("next:    memprof-ebpf report {}", memprof.display());
            eprintln!("         memprof-ebpf plot {}", memprof.display());
            match &self.svg {
                Some(svg) => eprintln!("         open {} in a browser", svg.display()),
                None => eprintln!(
                    "         memprof-ebpf flamegraph {} -o {}",
                    memprof.display(),
                    self.base.svg().display()
                ),
            }
        }
    }
}
