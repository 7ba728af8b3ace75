//! What CPython means: which processes run it, where each version keeps its frames, and how a
//! code object and an instruction become a function and a line.
//!
//! `versions`, `layout`, `line_table` and `symbolize` do no I/O. A new CPython is one row in
//! `versions` and its fixture under `tests/fixtures/`.

pub mod calibrate;
pub mod code_object;
pub mod debug_offsets;
pub mod decorator;
pub mod detect;
pub mod functions;
mod greenlet;
mod identify;
pub mod image;
pub mod known;
pub mod layout;
pub mod line_table;
pub mod patterns;
pub mod roots;
pub mod symbolize;
pub mod tables;
pub mod tls;
pub mod tls_code;
pub mod versions;
pub mod walk;

pub use code_object::LiveCode;
pub use decorator::Decorator;
pub use detect::{Detection, Detector, Interpreter};
pub use functions::{FoundFunction, Functions};
pub use identify::supported_versions;
pub use known::Known;
pub use patterns::Pattern;
pub use symbolize::{FallbackReader, SymbolFrame, Symbols};
pub use tables::Tables;
