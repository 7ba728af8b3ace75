//! Pictures of memory over time: curves with the marks of functions, and the flame of marked
//! calls, as SVG, as PNG, and in letters on a terminal.
//!
//! [`data`] says what is drawn, [`picture()`] lays it out into a [`scene::Scene`] once, and
//! [`svg()`] and [`png()`] copy that. No I/O: the same recording gives the same bytes.

mod axis;
mod brackets;
mod chart;
mod content;
mod data;
mod flame;
mod font;
mod legend;
mod names;
mod png;
mod scene;
mod svg;
mod terminal;
mod theme;

pub use axis::Range;
pub use chart::picture;
pub use content::PlotOptions;
pub use data::{Call, Curve, Data, Part, Point};
pub use png::{missing_letters, png};
pub use scene::Scene;
pub use svg::{Colours, svg};
pub use terminal::{Terminal, text};
pub use theme::Theme;
