//! Who owns which resident page, and what that adds up to. Does no I/O and reads no clock.
//!
//! Records go into a [`Model`]; a [`Profile`]'s processes, owners and samples come out. The map
//! of one address space is `residency`, the sums are `ledger`, a process's life is
//! `process`; `accounting` ties them together. Who asked for which address space, touched or not,
//! is `mapped`, with its sums in `requests`.

mod accounting;
mod anomalies;
mod cause;
mod checkpoint;
mod ledger;
mod mapped;
mod marking;
mod marks;
mod process;
mod processes;
mod profile;
mod ranges;
mod reading;
mod reconciliation;
mod requests;
mod residency;
mod timeline;

#[cfg(test)]
mod accounting_tests;

pub use accounting::{Attach, Model, Status};
pub use anomalies::Anomalies;
pub use checkpoint::{Checkpoint, Kinds};
pub use ledger::{Caller, FileIndex, StackIndex};
pub use marks::{FINEST_S, coarsen};
pub use process::Look;
pub use profile::*;
pub use ranges::Ranges;
pub use timeline::{Timed, Timeline};
