//! Page faults: remembers, for the thread, where the fault is; [`super::rss`] then says whether
//! it made a page resident.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use memprof_common::config::{RepState, fault};

use crate::{
    kernel::{Structure, meet, regs},
    maps,
};

#[btf_tracepoint(function = "page_fault_user")]
pub fn page_fault_user(ctx: BtfTracePointContext) {
    let id = bpf_get_current_pid_tgid();
    let Some(thread) = maps::thread(id as u32) else {
        return;
    };
    meet(thread, (id >> 32) as u32);
    let registers = Structure::argument(&ctx, 1);
    let left: u64 = registers.field(regs::CX);
    thread.fault_address = ctx.arg(0);
    thread.fault = fault::USER;
    thread.rep = RepState {
        ip: registers.field(regs::IP),
        sp: registers.field(regs::SP),
        end: registers.field::<u64>(regs::DI).wrapping_add(left),
        left,
    };
}

#[btf_tracepoint(function = "page_fault_kernel")]
pub fn page_fault_kernel(ctx: BtfTracePointContext) {
    let id = bpf_get_current_pid_tgid();
    let Some(thread) = maps::thread(id as u32) else {
        return;
    };
    meet(thread, (id >> 32) as u32);
    thread.fault_address = ctx.arg(0);
    thread.fault = fault::KERNEL;
}
