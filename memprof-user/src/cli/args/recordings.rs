//! What can be typed after the verbs that look at recordings.

use std::path::PathBuf;

use clap::Args;

#[derive(Args, Debug)]
pub struct PeakArgs {
    /// Only while this function ran: module.qualname, or its end from a dot on
    #[arg(long, value_name = "NAME")]
    pub func: Option<String>,
    /// Files (.dat, mprof's too, or .memprof) or numbers from list [default: the last]
    #[arg(value_name = "FILE|N", allow_negative_numbers = true)]
    pub recordings: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub struct RmArgs {
    /// Tell what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Numbers from list (-1 is the last) or files
    #[arg(value_name = "N|FILE", required = true, allow_negative_numbers = true)]
    pub recordings: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub struct CleanArgs {
    /// Tell what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
}
