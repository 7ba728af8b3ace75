//! Page faults: remembers, for the thread, where the fault is; [`super::rss`] then says whether
//! it made a page resident.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use memprof_common::config::fault;

use crate::{
    kernel::{current, ids_of, meet},
    maps,
    unshare::{self, may_unshare},
};

#[btf_tracepoint(function = "page_fault_user")]
pub fn page_fault_user(ctx: BtfTracePointContext) {
    remember(ctx.arg(0), ctx.arg(2), fault::USER);
}

#[btf_tracepoint(function = "page_fault_kernel")]
pub fn page_fault_kernel(ctx: BtfTracePointContext) {
    remember(ctx.arg(0), ctx.arg(2), fault::KERNEL);
}

#[inline(always)]
fn remember(address: u64, error_code: u64, kind: u32) {
    let (pid, tid) = ids_of(current());
    let Some(fault) = maps::fault(tid) else {
        return;
    };
    if fault.tid != tid {
        // This thread's first fault, or a thread with which it shares the entry came between.
        let Some((process, pid)) = maps::memory_of(pid) else {
            return;
        };
        meet(process, pid);
        fault.tid = tid;
        fault.written_page = 0;
    }
    if fault.written_page != 0 || may_unshare(error_code) {
        let Some((process, pid)) = maps::memory_of(pid) else {
            return;
        };
        unshare::settle(process, fault, pid);
        if may_unshare(error_code) {
            unshare::written(process, fault, pid, address, kind);
        }
    }
    // Last: a read of the walk may have faulted itself.
    fault.kind = kind;
    fault.error_code = error_code as u32;
    fault.address = address;
}
