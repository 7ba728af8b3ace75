//! Files for other tools, made from a profile: one module a format, one row a format in [`Format`].
//!
//! A sink sees only the finished [`Profile`]: no process, no kernel, no clock. Where a file comes
//! to lie and whom it belongs to is [`output`]'s business alone, so that no format can forget it.

pub mod clock;
pub mod dat;
pub mod escape;
pub mod flamegraph;
pub mod folded;
mod kind;
mod loss;
mod view;

use std::io::{self, Write};

pub use dat::{DatOptions, DatWriter};
pub use flamegraph::FlamegraphOptions;
pub use folded::FoldedOptions;
pub use kind::Kind;
pub use loss::loss_line;
pub use view::View;

pub use crate::model::Metric;
use crate::model::Profile;

/// A file format that a profile can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// mprof's time series.
    Dat,
    /// Folded stacks.
    Folded,
    /// A flame graph.
    Flamegraph,
}

/// What each format is to show.
#[derive(Clone, Debug, Default)]
pub struct SinkOptions {
    /// For [`Format::Dat`].
    pub dat: DatOptions,
    /// Which bytes stacks are weighed by, in [`Format::Folded`] and [`Format::Flamegraph`].
    pub view: View,
    /// How stacks are named and merged, in both.
    pub folded: FoldedOptions,
    /// For [`Format::Flamegraph`].
    pub flamegraph: FlamegraphOptions,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 3] = [Format::Dat, Format::Folded, Format::Flamegraph];

    /// The name by which users ask for it, and the extension of its files.
    pub const fn extension(self) -> &'static str {
        match self {
            Format::Dat => "dat",
            Format::Folded => "folded",
            Format::Flamegraph => "svg",
        }
    }

    /// Writes `profile` in this format.
    pub fn write(
        self,
        profile: &Profile,
        options: &SinkOptions,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        match self {
            Format::Dat => dat::write(profile, options.dat, out),
            Format::Folded => folded::write(profile, options.view, options.folded, out),
            Format::Flamegraph => flamegraph::write(
                profile,
                options.view,
                options.folded,
                &options.flamegraph,
                out,
            ),
        }
    }
}
