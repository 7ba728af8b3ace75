//! The registry of what the kernel side could not take: one counter a cause.
//!
//! The counters live in a per-CPU array map indexed by [`Loss`]; the user side sums them and puts
//! them into every output.

/// Why something is missing. The discriminant is the index into the `LOSS` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Loss {
    /// A growth record found no room in the ring buffer.
    RingGrowth = 0,
    /// An address-space or life-cycle record or a mark found no room in the ring buffer.
    RingControl = 1,
    /// A stack or code record found no room in the ring buffer.
    RingStack = 2,
    /// A stack deeper than [`crate::walk::MAX_FRAMES`]: cut at the root side.
    StackTruncated = 3,
    /// A read of the Python thread state or of a frame failed: the stack is incomplete.
    StackFailed = 4,
    /// A thread of a traced process had no entry in the thread map.
    UnknownThread = 5,
    /// A code object could not be read.
    CodeFailed = 6,
    /// An insertion into a map failed because it was full.
    MapFull = 7,
    /// The pending range of a process stayed locked while a flush was wanted.
    Contended = 8,
    /// The reference count of a watched code object had moved by more than one: calls were missed.
    MarkMissed = 9,
}

impl Loss {
    /// Every cause, in the order of the map's indexes.
    pub const ALL: [Loss; 10] = [
        Loss::RingGrowth,
        Loss::RingControl,
        Loss::RingStack,
        Loss::StackTruncated,
        Loss::StackFailed,
        Loss::UnknownThread,
        Loss::CodeFailed,
        Loss::MapFull,
        Loss::Contended,
        Loss::MarkMissed,
    ];

    /// The counter's name in outputs.
    pub const fn name(self) -> &'static str {
        match self {
            Loss::RingGrowth => "growth records dropped",
            Loss::RingControl => "control records dropped",
            Loss::RingStack => "stack records dropped",
            Loss::StackTruncated => "stacks truncated",
            Loss::StackFailed => "stacks failed",
            Loss::UnknownThread => "unknown threads",
            Loss::CodeFailed => "code objects unreadable",
            Loss::MapFull => "map entries refused",
            Loss::Contended => "late flushes",
            Loss::MarkMissed => "marks missed",
        }
    }
}
