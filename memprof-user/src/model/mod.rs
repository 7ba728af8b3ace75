//! Who owns which resident page, and what that adds up to. Does no I/O and reads no clock.

mod profile;

pub use profile::*;
