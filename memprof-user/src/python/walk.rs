//! The frame walk over memory read from outside: a live process that waits somewhere, or an
//! image recorded from one. The code that walks is the kernel side's own.

use memprof_common::PythonLayout;
use memprof_common::records::RawFrame;
use memprof_common::walk::{
    MAX_FRAMES, Memory, NoFrame, Step, WINDOW_BYTES, Walk, innermost_frame, likely_frame,
    thread_state,
};

use crate::target::ReadMemory;

/// The walk's window over any memory.
pub struct Window<'a, M> {
    memory: &'a M,
    bytes: Box<[u8; WINDOW_BYTES + 8]>,
}

impl<'a, M: ReadMemory> Window<'a, M> {
    /// An empty window.
    pub fn new(memory: &'a M) -> Self {
        Window {
            memory,
            bytes: Box::new([0; WINDOW_BYTES + 8]),
        }
    }
}

impl<M: ReadMemory> Memory for Window<'_, M> {
    fn fill(&mut self, address: u64, len: u32) -> bool {
        match self.bytes.get_mut(..len as usize) {
            Some(buffer) if len as usize <= WINDOW_BYTES => self.memory.read(address, buffer),
            _ => false,
        }
    }

    fn word(&self, base: u64, field: u64) -> u64 {
        let start = ((base + field) as usize).min(WINDOW_BYTES);
        let mut word = [0; 8];
        word.copy_from_slice(&self.bytes[start..start + 8]);
        u64::from_ne_bytes(word)
    }
}

/// The frames of one thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawStack {
    /// Leaf first.
    pub frames: Vec<RawFrame>,
    /// Cut at the root side: too deep, or a read failed.
    pub truncated: bool,
}

/// Walks the stack of the thread with this thread pointer.
pub fn walk(
    layout: &PythonLayout,
    thread_pointer: u64,
    memory: &impl ReadMemory,
) -> Result<RawStack, NoFrame> {
    let mut window = Window::new(memory);
    let frame = match likely_frame(layout, 0, thread_pointer, &mut window) {
        Err(NoFrame::NoThreadState) => {
            let tstate = thread_state(layout, thread_pointer, &mut window)?;
            innermost_frame(layout, tstate, thread_pointer, &mut window)?
        }
        found => found?,
    };
    let mut walk = Walk::new(layout, frame, 0);
    let mut stack = RawStack::default();
    while stack.frames.len() < MAX_FRAMES as usize {
        let mut frame = RawFrame::default();
        match walk.step(&mut window, &mut frame) {
            Step::Frame => stack.frames.push(frame),
            Step::End => return Ok(stack),
            Step::Failed => break,
        }
    }
    stack.truncated = stack.frames.len() < MAX_FRAMES as usize || walk.frame != 0;
    Ok(stack)
}
