//! The hooks, one family a file. Each program is named after what it hooks; all are BTF
//! tracepoints, which need neither tracefs nor kprobes.

mod address_space;
mod fault;
mod lifecycle;
mod mapping;
mod mark;
mod rss;
mod watchpoint;
