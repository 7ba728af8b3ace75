//! What the end-to-end tests share: real interpreters, workloads with a known answer, hand-shakes,
//! and readers for the files that memprof-ebpf writes.
//!
//! Everything here panics with a sentence when something is not as it should be: it is test code.
//! A wait is always a wait for a condition, with a limit; no test sleeps and hopes.
//!
//! The machine is described by the environment: `MEMPROF_BIN` (else `target/release` or
//! `target/debug` of the workspace), `MEMPROF_VENV` (else `target/venv`), `CHROMIUM`, `PYENV_ROOT`.
//! A test whose requirement is missing fails under `CI=true`; elsewhere it writes one line
//! `skipped: TEST: WHY` to stderr, so that skips can be counted.

pub mod browser;
pub mod cgroup;
pub mod checkpoint;
pub mod copies;
pub mod dat;
pub mod errors;
pub mod folded;
pub mod gate;
pub mod http;
pub mod judge;
pub mod line_tables;
pub mod looker;
pub mod machine;
pub mod off;
pub mod pages;
pub mod picture;
pub mod process;
pub mod program;
pub mod report;
pub mod residue;
pub mod service;
pub mod session;
pub mod torture;
pub mod truth;
