//! `flamegraph FILE -o OUT.svg`: the picture of a capture.

use std::process::ExitCode;

use super::args::FlamegraphArgs;
use super::report;
use crate::error::Result;
use crate::output;
use crate::recording::Folder;
use crate::sink::{FlamegraphOptions, FoldedOptions, Format, SinkOptions};

/// `flamegraph`
pub fn main(args: FlamegraphArgs) -> Result<ExitCode> {
    output::check(&args.output, args.force)?;
    let file = match args.file {
        Some(file) => file,
        None => Folder::here()?.last_capture()?,
    };
    let profile = report::open(&file)?;
    let options = SinkOptions {
        view: args.view.into(),
        folded: FoldedOptions {
            merge_processes: args.merge_processes,
            function: args.function,
        },
        flamegraph: FlamegraphOptions {
            reverse: args.reverse,
            title: args.title,
        },
        ..SinkOptions::default()
    };
    output::write_file(&args.output, args.force, |out| {
        Format::Flamegraph.write(&profile, &options, out)
    })?;
    eprintln!("written: {}", args.output.display());
    Ok(ExitCode::SUCCESS)
}
