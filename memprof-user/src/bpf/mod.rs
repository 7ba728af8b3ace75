//! The one door to the kernel side: loads the object, attaches the hooks, reads the ring and the
//! maps. No other module names aya.

mod btf;
mod kernel_config;
mod log;
mod maps;
mod privilege;
mod probes;
mod ring;
mod watchpoint;

pub use kernel_config::{KernelOptions, kernel_config};
pub use maps::{Attached, FrameReads, Pulse, Standing, Tables};
pub use privilege::check as check_privileges;
pub use probes::{Loaded, PROBES, Probe};
pub use ring::Ring;
pub use watchpoint::Watchpoints;
