//! Page faults: remembers, for the thread, where the fault is; [`super::rss`] then says whether
//! it made a page resident.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use memprof_common::config::fault;

use crate::{
    kernel::{field, regs},
    maps::THREADS,
};

#[btf_tracepoint(function = "page_fault_user")]
pub fn page_fault_user(ctx: BtfTracePointContext) {
    let tid = bpf_get_current_pid_tgid() as u32;
    let Some(thread) = THREADS.get_ptr_mut(tid) else {
        return;
    };
    let registers: *const u8 = ctx.arg(1);
    unsafe {
        (*thread).fault_address = ctx.arg::<u64>(0);
        (*thread).fault = fault::USER;
        let left: u64 = field(registers, regs::CX);
        (*thread).rep.ip = field(registers, regs::IP);
        (*thread).rep.sp = field(registers, regs::SP);
        (*thread).rep.end = field::<u64>(registers, regs::DI).wrapping_add(left);
        (*thread).rep.left = left;
    }
}

#[btf_tracepoint(function = "page_fault_kernel")]
pub fn page_fault_kernel(ctx: BtfTracePointContext) {
    let tid = bpf_get_current_pid_tgid() as u32;
    let Some(thread) = THREADS.get_ptr_mut(tid) else {
        return;
    };
    unsafe {
        (*thread).fault_address = ctx.arg::<u64>(0);
        (*thread).fault = fault::KERNEL;
    }
}
