//! The maps as the user side sees them: traced processes and threads, loss counters.

use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use memprof_common::{
    Fault, ImageKey, KnownImage, LayoutOffer, Loss, Process, PythonLayout, Thread, Watches,
    config::FAULT_SLOTS,
    layout::thread_source,
    records::{Growth, flag, member},
    watch::count_key,
};

use super::probes::{Loaded, stale_object};
use crate::error::{Error, Result};
use crate::model::LossTotals;

/// Lets aya copy our records to and from maps.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Pod<T: Copy>(pub T);

// SAFETY: only used with the `#[repr(C)]` types of memprof-common, which are integers and arrays
// of integers with visible padding: every bit pattern is valid.
unsafe impl<T: Copy + 'static> aya::Pod for Pod<T> {}

/// `BPF_NOEXIST` (include/uapi/linux/bpf.h)
const NO_EXIST: u64 = 1;

/// The causes that are records dropped.
const RING: [Loss; 3] = [Loss::RingGrowth, Loss::RingControl, Loss::RingStack];

/// Whether an insertion was new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// It was not traced before.
    New,
    /// The kernel side had it already (it was forked by a traced process meanwhile).
    Already,
}

/// What the kernel side knows of a process's interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing yet.
    Unknown,
    /// All but where greenlet is, whose library was mapped.
    AwaitsGreenlet,
    /// All.
    Known,
}

/// How a process stands in the kernel side at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    /// Changes of its count of pages; wraps. While it stands still, so does RSS.
    pub events: u32,
    /// Changes and losses after which only the page tables know what is resident; wraps.
    pub unexplained: u32,
    /// The range that still grows and has not been sent.
    pending: Option<Growth>,
}

impl Pulse {
    /// Where the range is that has not been sent.
    pub fn pending_range(&self) -> Option<std::ops::Range<u64>> {
        self.pending.map(|growth| growth.start..growth.end)
    }

    /// The same, of growth: what is believed to be there has gone, unseen so far.
    pub fn growing_range(&self) -> Option<std::ops::Range<u64>> {
        let growth = self.pending?;
        (growth.header.flags & flag::UNSHARED == 0).then_some(growth.start..growth.end)
    }

    /// Bytes of growth that have not been sent: of anonymous memory, or of all other.
    pub fn pending_bytes(&self, anon: bool) -> u64 {
        let counts = |growth: &Growth| {
            growth.header.flags & flag::UNSHARED == 0 && (growth.member == member::ANON) == anon
        };
        let pending = self.pending.filter(counts);
        pending.map_or(0, |growth| {
            u64::from(growth.pages) * memprof_common::PAGE_BYTES
        })
    }
}

/// How the kernel side reads Python frames. Only `cargo xtask bench` asks for another than the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FrameReads {
    /// Many at once, where they lie together (3.11+).
    #[default]
    Window,
    /// One by one.
    Single,
    /// Not at all: what is left is the cost of everything but the walk.
    None,
}

impl FrameReads {
    /// The layout by which the kernel side then walks.
    fn layout(self, found: &PythonLayout) -> PythonLayout {
        match self {
            FrameReads::Window => *found,
            FrameReads::Single => PythonLayout {
                frame_page_mask: 0,
                ..*found
            },
            FrameReads::None => PythonLayout::default(),
        }
    }
}

/// Typed access to the maps.
pub struct Tables {
    frame_reads: FrameReads,
    processes: HashMap<MapData, u32, Pod<Process>>,
    threads: HashMap<MapData, u32, Pod<Thread>>,
    faults: Array<MapData, Pod<Fault>>,
    layouts: HashMap<MapData, u32, Pod<LayoutOffer>>,
    images: HashMap<MapData, Pod<ImageKey>, Pod<KnownImage>>,
    watches: HashMap<MapData, u32, Pod<Watches>>,
    counts: HashMap<MapData, u64, u32>,
    armed: HashMap<MapData, u32, u32>,
    loss: PerCpuArray<MapData, u64>,
}

fn map_error(what: &str, e: impl std::fmt::Display) -> Error {
    Error::failed(
        format!("cannot {what}"),
        e,
        "trace fewer processes at once, or check the memory limit of this cgroup: cat /sys/fs/cgroup/memory.max",
    )
}

impl Tables {
    /// Takes the maps out of the loaded object.
    pub fn open(loaded: &mut Loaded, frame_reads: FrameReads) -> Result<Self> {
        let mut take = |name: &str| loaded.bpf.take_map(name).ok_or_else(stale_object);
        Ok(Tables {
            frame_reads,
            processes: HashMap::try_from(take("PROCESSES")?).map_err(|_| stale_object())?,
            threads: HashMap::try_from(take("THREADS")?).map_err(|_| stale_object())?,
            faults: Array::try_from(take("FAULTS")?).map_err(|_| stale_object())?,
            layouts: HashMap::try_from(take("LAYOUTS")?).map_err(|_| stale_object())?,
            images: HashMap::try_from(take("IMAGES")?).map_err(|_| stale_object())?,
            watches: HashMap::try_from(take("WATCHES")?).map_err(|_| stale_object())?,
            counts: HashMap::try_from(take("COUNTS")?).map_err(|_| stale_object())?,
            armed: HashMap::try_from(take("ARMED")?).map_err(|_| stale_object())?,
            loss: PerCpuArray::try_from(take("LOSS")?).map_err(|_| stale_object())?,
        })
    }

    /// Begins to trace a process; its threads follow by [`Tables::add_thread`]. `generation`
    /// tells its stacks' ids from those of an earlier process with its pid.
    pub fn add_process(
        &mut self,
        pid: u32,
        generation: u32,
        layout: &PythonLayout,
    ) -> Result<Attached> {
        let process = Process {
            layout: self.frame_reads.layout(layout),
            generation,
            ..Process::default()
        };
        match self.processes.insert(pid, Pod(process), NO_EXIST) {
            Ok(()) => Ok(Attached::New),
            Err(_) if self.processes.get(&pid, 0).is_ok() => Ok(Attached::Already),
            Err(e) => Err(map_error("trace another process", e)),
        }
    }

    /// Begins to trace a thread of a traced process.
    pub fn add_thread(&mut self, pid: u32, tid: u32) -> Result<Attached> {
        self.watch(tid)?;
        let thread = Thread {
            pid,
            ..Thread::default()
        };
        match self.threads.insert(tid, Pod(thread), NO_EXIST) {
            Ok(()) => Ok(Attached::New),
            Err(_) if self.threads.get(&tid, 0).is_ok() => Ok(Attached::Already),
            Err(e) => Err(map_error("trace another thread", e)),
        }
    }

    /// Has the hooks look at the faults of `tid`.
    fn watch(&mut self, tid: u32) -> Result<()> {
        let slot = tid % FAULT_SLOTS;
        // A slot in use stays as it is: its thread may be in a fault.
        if self
            .faults
            .get(&slot, 0)
            .is_ok_and(|Pod(fault)| fault.watched != 0)
        {
            return Ok(());
        }
        let fault = Fault {
            watched: 1,
            ..Fault::default()
        };
        self.faults
            .set(slot, Pod(fault), 0)
            .map_err(|e| map_error("trace another thread", e))
    }

    /// Stops tracing a process that could not be attached.
    pub fn remove_process(&mut self, pid: u32) {
        let _ = self.processes.remove(&pid);
    }

    /// Tells the kernel side where a process that is traced already keeps its Python frames.
    /// `generation` comes from the record of its last exec.
    pub fn offer_layout(&mut self, pid: u32, generation: u32, layout: &PythonLayout) -> Result<()> {
        let offer = LayoutOffer {
            layout: self.frame_reads.layout(layout),
            generation,
            _padding: 0,
        };
        self.layouts
            .insert(pid, Pod(offer), 0)
            .map_err(|e| map_error("tell the kernel side of another interpreter", e))
    }

    /// What the kernel side knows of where this process keeps its Python frames.
    pub fn standing(&self, pid: u32) -> Standing {
        match self.processes.get(&pid, 0) {
            Ok(Pod(process)) if process.layout.thread_source == thread_source::NONE => {
                Standing::Unknown
            }
            Ok(Pod(process)) if process.awaits_greenlet != 0 => Standing::AwaitsGreenlet,
            Ok(_) => Standing::Known,
            Err(_) => Standing::Unknown,
        }
    }

    /// Lets the kernel side recognise an interpreter by its file from now on. False when the table
    /// is full: it is then recognised by a look at the process, some milliseconds later.
    pub fn add_image(&mut self, key: ImageKey, image: &KnownImage) -> bool {
        let image = KnownImage {
            layout: self.frame_reads.layout(&image.layout),
            ..*image
        };
        self.images.insert(Pod(key), Pod(image), 0).is_ok()
    }

    /// The watched functions of a process.
    pub fn watches(&self, pid: u32) -> Option<Watches> {
        self.watches.get(&pid, 0).ok().map(|Pod(watches)| watches)
    }

    /// Has the kernel side take the calls of these functions. False: the table is full.
    pub fn set_watches(&mut self, pid: u32, watches: &Watches) -> bool {
        self.watches.insert(pid, Pod(*watches), 0).is_ok()
    }

    /// Has it take none of a process.
    pub fn forget_watches(&mut self, pid: u32) {
        let _ = self.watches.remove(&pid);
    }

    /// The reference count of a watched code object, as last seen; 0: it has died.
    pub fn count(&self, pid: u32, slot: usize) -> Option<u32> {
        self.counts.get(&count_key(pid, slot), 0).ok()
    }

    /// What it is to begin with. False: the table is full.
    pub fn set_count(&mut self, pid: u32, slot: usize, count: u32) -> bool {
        self.counts.insert(count_key(pid, slot), count, 0).is_ok()
    }

    /// Of which watched functions a thread has a watchpoint, its own or an inherited one: a bit
    /// each.
    pub fn armed(&self, tid: u32) -> u32 {
        self.armed.get(&tid, 0).unwrap_or(0)
    }

    /// Notes which it has. False: the table is full.
    pub fn set_armed(&mut self, tid: u32, armed: u32) -> bool {
        self.armed.insert(tid, armed, 0).is_ok()
    }

    /// Forgets an offer that nobody took.
    pub fn withdraw_layout(&mut self, pid: u32) {
        let _ = self.layouts.remove(&pid);
    }

    /// How a traced process stands in the kernel side now; None when it is not there.
    pub fn pulse(&self, pid: u32) -> Option<Pulse> {
        let Pod(process) = self.processes.get(&pid, 0).ok()?;
        let pending = process.pending;
        Some(Pulse {
            events: process.events,
            unexplained: process.unexplained,
            pending: (pending.tid != 0).then(|| pending.growth(pid)),
        })
    }

    /// The range of a process that has not been sent yet.
    pub fn pending_growth(&self, pid: u32) -> Option<Growth> {
        let Pod(process) = self.processes.get(&pid, 0).ok()?;
        (process.pending.tid != 0).then(|| process.pending.growth(pid))
    }

    /// Every process that the kernel side traces now.
    pub fn traced(&self) -> Vec<u32> {
        self.processes.keys().filter_map(|pid| pid.ok()).collect()
    }

    /// The ranges that were still growing when the hooks were taken out.
    pub fn pending(&self) -> Vec<Growth> {
        self.processes
            .iter()
            .filter_map(|entry| entry.ok())
            .filter(|(_, Pod(process))| process.pending.tid != 0)
            .map(|(pid, Pod(process))| process.pending.growth(pid))
            .collect()
    }

    /// Records that found no room in the ring so far.
    pub fn dropped(&self) -> u64 {
        RING.iter().map(|loss| self.lost(*loss)).sum()
    }

    /// One loss counter, summed over the CPUs.
    fn lost(&self, loss: Loss) -> u64 {
        self.loss
            .get(&(loss as u32), 0)
            .map_or(0, |values| values.iter().sum())
    }

    /// All loss counters; `undecoded` are records that the user side could not read.
    pub fn loss(&self, undecoded: u64) -> LossTotals {
        let named = [Loss::StackTruncated, Loss::StackFailed, Loss::UnknownThread];
        LossTotals {
            events_lost: self.dropped() + undecoded,
            stacks_truncated: self.lost(Loss::StackTruncated),
            stacks_failed: self.lost(Loss::StackFailed),
            unknown_threads: self.lost(Loss::UnknownThread),
            other: Loss::ALL
                .iter()
                .filter(|loss| !RING.contains(loss) && !named.contains(loss))
                .map(|loss| (loss.name().to_string(), self.lost(*loss)))
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }
}
