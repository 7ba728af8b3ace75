//! Every chore of memprof-ebpf behind one door: `cargo xtask <chore>`.
//!
//! A chore is a file; this one is the list of them. A build that needs a second compiler, a
//! linker from crates.io and root for some of its tests would otherwise live in a page of
//! instructions, and instructions are not tested.

mod bench;
mod bpf_linker;
mod build_ebpf;
mod command;
mod demo;
mod interpreters;
mod outcome;
mod packages;
mod pictures;
mod setup;
mod test;
mod tidy;
mod toolchain;
mod venv;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of memprof-ebpf")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install what is missing for building the BPF object
    Setup {
        /// Change nothing: say what is there and fail when something is missing
        #[arg(long)]
        check: bool,
    },
    /// Build the BPF object into target/bpf/memprof-probes.o
    BuildEbpf,
    /// Measure what tracing adds to a page fault
    Bench(bench::Options),
    /// From a clean clone to a flame graph: set up, build, trace a bundled service that leaks
    Demo,
    /// Everything that must hold: format, clippy, tidy, unit, golden and end-to-end tests
    Test(test::Options),
    /// Unpack the interpreters of the tests
    Interpreters,
    /// Remake the plots in docs/ from the service of the tests
    Pictures,
    /// Check what modules must not know or do
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Setup { check: true } => setup::check(),
        Chore::Setup { check: false } => setup::install().map(drop),
        Chore::BuildEbpf => build_ebpf::build().map(drop),
        Chore::Bench(options) => bench::run(&options),
        Chore::Demo => demo::run(),
        Chore::Test(options) => test::run(&options),
        Chore::Interpreters => interpreters::install(),
        Chore::Pictures => pictures::run(),
        Chore::Tidy => tidy::check(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
