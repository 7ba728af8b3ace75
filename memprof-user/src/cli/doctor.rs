//! `doctor [-p PID]`: whether a trace would work here, and what mends it.

use std::process::ExitCode;

use super::args::DoctorArgs;
use super::print;
use crate::doctor;
use crate::error::Result;
use crate::session::existing;
use crate::sink::escape;
use crate::snapshot;

/// `doctor`
pub fn main(args: DoctorArgs) -> Result<ExitCode> {
    let kernel = doctor::kernel();
    print(&format!("This machine\n{}", doctor::text(&kernel)))?;
    let mut exit = doctor::exit(&kernel);
    for pid in args.pids {
        let target = existing(pid)?;
        let checks = doctor::process(&target);
        let role = escape::terminal(&target.role()).into_owned();
        print(&format!(
            "\nProcess {pid}: {role}\n{}",
            doctor::text(&checks)
        ))?;
        let amiss = doctor::exit(&checks);
        exit = exit.or(amiss);
        if amiss.is_none() {
            let stacks = snapshot::stacks_of(&target)?;
            print(&format!("\n{stacks}"))?;
        }
    }
    Ok(exit.map_or(ExitCode::SUCCESS, |exit| ExitCode::from(exit as u8)))
}
