//! The command `memprof-ebpf`: parses, runs a verb, prints the one error, and exits.

use std::process::ExitCode;

fn main() -> ExitCode {
    memprof_user::cli::main()
}
