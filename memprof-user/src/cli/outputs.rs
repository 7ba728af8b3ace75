//! What trace and run leave behind: the files, and the closing words on the screen.
//!
//! What was gathered is shown whatever happens to the files: a full disk costs the file, not the
//! result.

use std::path::{Path, PathBuf};

use super::args::CommonArgs;
use crate::error::{Error, Result};
use crate::model::Profile;
use crate::output::{self, OutputBase};
use crate::session::{Ending, Outcome};
use crate::sink::{DatOptions, FoldedOptions, Format, SinkOptions, escape};
use crate::{capture, report};

/// Where the results of a run go; settled and checked before anything is traced.
pub struct Outputs {
    base: OutputBase,
    /// As it was typed; without a name it is BASE.svg.
    flamegraph: Option<Option<PathBuf>>,
    force: bool,
    dat: DatOptions,
    folded: FoldedOptions,
    quiet: bool,
}

impl Outputs {
    /// Fails when a file exists or could not be written.
    pub fn prepare(args: &CommonArgs) -> Result<Self> {
        let base = OutputBase::resolve(args.output.clone(), args.force)?;
        if let Some(svg) = svg(&args.flamegraph, &base) {
            output::check(&svg, args.force)?;
        }
        Ok(Outputs {
            base,
            flamegraph: args.flamegraph.clone(),
            force: args.force,
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
        let (base, saved) = self.save(profile);
        note(&base.memprof(), saved);
        let svg = svg(&self.flamegraph, &base);
        let options = SinkOptions {
            dat: self.dat,
            folded: self.folded,
            ..SinkOptions::default()
        };
        let formats = [
            (Format::Dat, base.dat(), base.force()),
            (Format::Folded, base.folded(), base.force()),
        ];
        let picture = svg.iter().cloned();
        let picture = picture.map(|svg| (Format::Flamegraph, svg, self.force));
        for (format, path, force) in formats.into_iter().chain(picture) {
            let result =
                output::write_file(&path, force, |out| format.write(profile, &options, out));
            note(&path, result);
        }
        self.say(outcome, &written, &failures, (&base, svg.as_deref()));
        match failures.into_iter().next() {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// Writes the capture, first: every other file can be made from it. Gives the base that the
    /// files have in the end: a name of our choice may have been taken while we traced.
    fn save(&self, profile: &Profile) -> (OutputBase, Result<()>) {
        let mut base = self.base.clone().free();
        loop {
            let saved = output::write_file(&base.memprof(), base.force(), |out| {
                capture::write(profile, out)
            });
            let next = base.clone().free();
            if saved.is_ok() || next == base {
                return (base, saved);
            }
            base = next;
        }
    }

    fn say(
        &self,
        outcome: &Outcome,
        written: &[String],
        failures: &[Error],
        (base, svg): (&OutputBase, Option<&Path>),
    ) {
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
            let memprof = escape::shell(&base.memprof());
            eprintln!("next:    memprof-ebpf report {memprof}");
            eprintln!("         memprof-ebpf plot {memprof}");
            match svg {
                Some(svg) => eprintln!("         open {} in a browser", escape::shell(svg)),
                None => eprintln!(
                    "         memprof-ebpf flamegraph {memprof} -o {}",
                    escape::shell(&base.svg())
                ),
            }
        }
    }
}

fn svg(flamegraph: &Option<Option<PathBuf>>, base: &OutputBase) -> Option<PathBuf> {
    let named = flamegraph.clone()?;
    Some(named.unwrap_or_else(|| base.svg()))
}
