//! What a person or a script reads about a profile: tables, a verdict in sentences, JSON.
//!
//! All of it is made from one tally, so that no two views of a run can disagree. Nothing here does
//! I/O: the caller prints.

mod columns;
mod filter;
mod human;
mod json;
mod kinds;
pub mod lines;
mod mapped;
mod native;
mod tally;
mod text;
mod verdict;

pub(crate) use columns::{Column, Table};
pub use filter::only_pid;
pub(crate) use human::count;
pub use human::{share, size};
pub use json::json;
pub use kinds::{FileRow, KindRow};
pub use native::NativeRow;
pub use tally::{Accounting, Amounts, FunctionKey, LineKey, Mapped, Place, Tally};
pub use text::{table, text};

pub use crate::sink::loss_line;

use crate::sink::View;

/// What a report shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportOptions {
    /// By which bytes rows are ranked.
    pub view: View,
    /// Rows of each ranked table; None: all in JSON, [`DEFAULT_ROWS`] in text.
    pub rows: Option<usize>,
}

/// Rows of each ranked table in text.
pub const DEFAULT_ROWS: usize = 20;
