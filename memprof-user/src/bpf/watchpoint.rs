//! Hardware watchpoints: the kernel side's program on each write to a word of a target.
//!
//! aya opens such events too, but not ones that end at exec, and with them the debug registers
//! of a process's children would stay taken by addresses that mean nothing to them.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};

use aya::programs::PerfEvent;
use aya_obj::generated::{
    HW_BREAKPOINT_LEN_4, HW_BREAKPOINT_W, PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_SET_BPF,
    PERF_FLAG_FD_CLOEXEC, perf_event_attr, perf_type_id::PERF_TYPE_BREAKPOINT,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::probes::{Loaded, refused, stale_object};
use crate::error::Result;

/// The program that runs at each hit.
const PROGRAM: &str = "watchpoint";

/// Events kept at most: a process of a thousand threads with four functions.
const MOST: usize = 4096;

/// Every watchpoint that was opened. They go when this is dropped, and with our process.
pub struct Watchpoints {
    program: OwnedFd,
    /// Forked children have them too.
    follow: bool,
    /// By family, thread and address. Threads and processes that were made by a thread have its
    /// watchpoints only while its own stand here, even when it has gone.
    open: HashMap<(u32, u32, u64), OwnedFd>,
}

impl Watchpoints {
    /// Loads the program; nothing is watched yet. `follow`: forked children are.
    pub fn load(loaded: &mut Loaded, follow: bool) -> Result<Self> {
        let program = loaded.bpf.program_mut(PROGRAM).ok_or_else(stale_object)?;
        let program: &mut PerfEvent = program.try_into().map_err(|_| stale_object())?;
        program.load().map_err(|e| {
            refused(
                format!("the kernel refused the hook `{PROGRAM}`"),
                super::probes::verifier_summary(&anyhow::Error::from(e)),
            )
        })?;
        let fd = program.fd().map_err(|e| {
            refused(
                format!("cannot use the hook `{PROGRAM}`"),
                anyhow::Error::from(e),
            )
        })?;
        let program = fd
            .as_fd()
            .try_clone_to_owned()
            .map_err(|e| refused(format!("cannot use the hook `{PROGRAM}`"), e))?;
        Ok(Watchpoints {
            program,
            follow,
            open: HashMap::new(),
        })
    }

    /// Watches the four bytes at `address` in this thread, in the threads and processes that it
    /// makes from now on, and in theirs: all of one family, which is any number. ENOSPC: its debug
    /// registers are all taken.
    pub fn open(&mut self, family: u32, tid: u32, address: u64) -> io::Result<()> {
        if self.open.len() >= MOST {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let mut event = open_event(tid, address, self.follow);
        if has_errno(&event, libc::EMFILE) {
            // The usual limit is 1024. Only now: programs that we start inherit it.
            raise_file_limit()?;
            event = open_event(tid, address, self.follow);
        }
        let event = event?;
        let program = self.program.as_raw_fd();
        control(&event, PERF_EVENT_IOC_SET_BPF, program)?;
        control(&event, PERF_EVENT_IOC_ENABLE, 0)?;
        self.open.insert((family, tid, address), event);
        Ok(())
    }

    /// Takes the watchpoints on an address away from a family.
    pub fn close(&mut self, family: u32, address: u64) {
        self.open
            .retain(|(of, _, at), _| (*of, *at) != (family, address));
    }

    /// Takes the watchpoint on an address away from a thread, and from what it has made since.
    pub fn close_one(&mut self, family: u32, tid: u32, address: u64) {
        self.open.remove(&(family, tid, address));
    }

    /// Takes all of a family away.
    pub fn close_family(&mut self, family: u32) {
        self.open.retain(|(of, _, _), _| *of != family);
    }
}

fn has_errno<T>(result: &io::Result<T>, number: i32) -> bool {
    let error = result.as_ref().err();
    error.and_then(io::Error::raw_os_error) == Some(number)
}

/// Lets this process have as many open files as it may.
fn raise_file_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

fn open_event(tid: u32, address: u64, follow: bool) -> io::Result<OwnedFd> {
    // SAFETY: it consists of numbers and unions of numbers, of which zero is one.
    let mut attributes: perf_event_attr = unsafe { std::mem::zeroed() };
    attributes.type_ = PERF_TYPE_BREAKPOINT as u32;
    attributes.size = size_of::<perf_event_attr>() as u32;
    attributes.bp_type = HW_BREAKPOINT_W;
    attributes.__bindgen_anon_1.sample_period = 1;
    attributes.__bindgen_anon_3.bp_addr = address;
    attributes.__bindgen_anon_4.bp_len = HW_BREAKPOINT_LEN_4.into();
    // Enabled when the program is there.
    attributes.set_disabled(1);
    attributes.set_inherit(1);
    // Threads only.
    attributes.set_inherit_thread((!follow).into());
    attributes.set_remove_on_exec(1);
    attributes.set_exclude_kernel(1);
    attributes.set_exclude_hv(1);
    let tid = libc::pid_t::try_from(tid).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `attributes` is a whole perf_event_attr that says its size, and lives during the
    // call; the kernel checks the numbers.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            tid,
            -1,
            -1,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    match i32::try_from(fd) {
        // SAFETY: the call returned a new descriptor, which nobody else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn control(event: &OwnedFd, request: u32, argument: i32) -> io::Result<()> {
    // SAFETY: both requests take a number, no pointer.
    let failed = unsafe { libc::ioctl(event.as_raw_fd(), request.into(), argument) } < 0;
    match failed {
        true => Err(io::Error::last_os_error()),
        false => Ok(()),
    }
}
