//! The walk over memory made for the purpose: chains that no interpreter would leave, and the
//! edges of the window. Real stacks are walked in memprof-user's tests.

use std::collections::BTreeMap;

use memprof_common::PythonLayout;
use memprof_common::layout::thread_source;
use memprof_common::records::RawFrame;
use memprof_common::walk::{
    BOUND_GILSTATE, MAX_FRAMES, MAX_PTHREAD_KEY, Memory, NoFrame, Step, WINDOW_BYTES, Walk, finish,
    innermost_frame, likely_frame, thread_state,
};

/// Words by address; what is between reads as zero, pages without a word are refused.
#[derive(Default)]
struct Words {
    words: BTreeMap<u64, u64>,
    window: Vec<u8>,
    fills: Vec<(u64, u32)>,
}

impl Words {
    fn set(&mut self, address: u64, value: u64) {
        self.words.insert(address, value);
    }
}

impl Memory for Words {
    fn fill(&mut self, address: u64, len: u32) -> bool {
        assert!(len as usize <= WINDOW_BYTES);
        self.fills.push((address, len));
        let Some(end) = address.checked_add(len.into()) else {
            return false;
        };
        let pages = (address & !0xfff..end).step_by(4096);
        let has_page = |page| self.words.range(page..page + 4096).next().is_some();
        if !pages.into_iter().all(has_page) {
            return false;
        }
        self.window = vec![0; len as usize];
        for (&at, word) in self.words.range(address.saturating_sub(7)..end) {
            for (i, byte) in word.to_ne_bytes().into_iter().enumerate() {
                let at = (at + i as u64).wrapping_sub(address) as usize;
                if let Some(slot) = self.window.get_mut(at) {
                    *slot = byte;
                }
            }
        }
        true
    }

    fn word(&self, base: u64, field: u64) -> u64 {
        let offset = (base + field) as usize;
        let bytes = self.window.get(offset..offset + 8);
        bytes.map_or(0xdead, |bytes| {
            u64::from_ne_bytes(bytes.try_into().unwrap())
        })
    }
}

/// Frames like those of 3.12.
const LAYOUT: PythonLayout = PythonLayout {
    thread_source: thread_source::PTHREAD_KEY,
    version: 0x030c,
    source_address: 0x1000,
    current_address: 0,
    finalizing_address: 0,
    image_start: 0,
    image_end: 0,
    pthread_data: 0x318,
    tstate_start: 24,
    tstate_len: 120,
    tstate_frame: 56,
    tstate_thread_id: 136,
    has_cframe: 1,
    cframe_current_frame: 0,
    frame_bytes: 72,
    frame_page_mask: 0xfff,
    frame_code: 0,
    frame_previous: 8,
    frame_instr: 56,
    frame_instr_unused_bits: 0,
    frame_owner: 70,
    frame_owner_mask: 0xff,
    frame_shim_owner: 3,
    code_tag_mask: 0,
    code_bytes: 144,
    code_firstlineno: 68,
    code_flags: 48,
    code_filename: 112,
    code_name: 128,
    code_linetable: 136,
    code_adaptive: 192,
    unicode_length: 16,
    unicode_state: 32,
    unicode_ascii_data: 40,
    unicode_compact_data: 56,
    bytes_size: 16,
    bytes_data: 32,
    tstate_status: 24,
    tstate_interp: 16,
    code_generation: 0,
    code_version: 92,
    _padding: 0,
};

fn frame(memory: &mut Words, address: u64, code: u64, previous: u64, instr: u64, owner: u8) {
    memory.set(address, code);
    memory.set(address + 8, previous);
    memory.set(address + 56, instr);
    memory.set(address + 64, u64::from(owner) << 48);
}

/// All frames from `first` on, and how it ended.
fn walk(layout: &PythonLayout, memory: &mut Words, first: u64) -> (Vec<RawFrame>, Step, Walk) {
    let mut walk = Walk::new(layout, first, 1);
    let mut frames = Vec::new();
    while frames.len() < MAX_FRAMES as usize {
        let mut out = RawFrame::default();
        match walk.step(memory, &mut out) {
            Step::Frame => frames.push(out),
            end => return (frames, end, walk),
        }
    }
    (frames, Step::Frame, walk)
}

#[test]
fn neighbours_in_a_page_are_read_once() {
    let mut memory = Words::default();
    let base = 0x7000_0000;
    for i in 0..40 {
        let previous = if i == 0 { 0 } else { base + (i - 1) * 80 };
        frame(&mut memory, base + i * 80, 0x100 + i, previous, i, 0);
    }
    let (frames, end, _) = walk(&LAYOUT, &mut memory, base + 39 * 80);
    assert_eq!((frames.len(), end), (40, Step::End));
    let codes: Vec<u64> = frames.iter().map(|f| f.code_address()).collect();
    assert_eq!(codes, (0..40).rev().map(|i| 0x100 + i).collect::<Vec<_>>());
    assert_eq!(memory.fills, [(base, 39 * 80 + 72)]);
}

#[test]
fn a_frame_across_two_pages_and_one_elsewhere() {
    let mut memory = Words::default();
    // From the last word of a page, to a generator's frame, back to the page.
    frame(&mut memory, 0x7000_0ff8, 0x10, 0x5000_0808, 1, 0);
    frame(&mut memory, 0x5000_0808, 0x20, 0x7000_0100, 2, 1);
    frame(&mut memory, 0x7000_0100, 0x30, 0, 3, 3);
    let (frames, end, _) = walk(&LAYOUT, &mut memory, 0x7000_0ff8);
    assert_eq!(end, Step::End);
    let seen: Vec<_> = frames
        .iter()
        .map(|f| (f.code_address(), f.instr, f.owner()))
        .collect();
    assert_eq!(seen, [(0x10, 1, 0), (0x20, 2, 1), (0x30, 3, 3)]);
}

#[test]
fn damaged_chains_end() {
    let mut memory = Words::default();
    frame(&mut memory, 0x7000_0000, 1, 0x7000_0000, 1, 0);
    let (frames, end, _) = walk(&LAYOUT, &mut memory, 0x7000_0000);
    assert_eq!((frames.len(), end), (0, Step::Failed));

    // A loop of two ends at the limit.
    frame(&mut memory, 0x7000_0000, 1, 0x7000_0100, 1, 0);
    frame(&mut memory, 0x7000_0100, 1, 0x7000_0000, 1, 0);
    let (frames, end, _) = walk(&LAYOUT, &mut memory, 0x7000_0000);
    assert_eq!((frames.len(), end), (MAX_FRAMES as usize, Step::Frame));

    for nowhere in [8, 0x6000_0000, u64::MAX, u64::MAX - 71, 1 << 63] {
        frame(&mut memory, 0x7000_0000, 1, nowhere, 1, 0);
        let (frames, end, walk) = walk(&LAYOUT, &mut memory, 0x7000_0000);
        assert_eq!((frames.len(), end), (1, Step::Failed), "{nowhere:#x}");
        assert_eq!(walk.frame, nowhere);
    }
}

#[test]
fn tags_and_signed_offsets_are_cleared() {
    let tagged = PythonLayout {
        code_tag_mask: 3,
        ..LAYOUT
    };
    let mut memory = Words::default();
    frame(&mut memory, 0x7000_0000, 0x5555_1233, 0, 7, 2);
    let (frames, ..) = walk(&tagged, &mut memory, 0x7000_0000);
    assert_eq!(
        (frames[0].code_address(), frames[0].owner()),
        (0x5555_1230, 2)
    );

    // f_lasti of 3.10 is an int; what lies behind it is another field.
    let old = PythonLayout {
        frame_instr_unused_bits: 32,
        frame_page_mask: 0,
        frame_owner_mask: 0,
        ..LAYOUT
    };
    frame(
        &mut memory,
        0x7000_0000,
        0x1230,
        0,
        0x0000_0042_ffff_ffff,
        9,
    );
    let (frames, ..) = walk(&old, &mut memory, 0x7000_0000);
    assert_eq!((frames[0].instr, frames[0].owner()), (0xffff_ffff, 0));
    assert_eq!(memory.fills.last(), Some(&(0x7000_0000, 72)));
}

#[test]
fn different_stacks_have_different_hashes() {
    let mut memory = Words::default();
    frame(&mut memory, 0x7000_0000, 1, 0, 1, 0);
    frame(&mut memory, 0x7000_0100, 2, 0x7000_0000, 1, 0);
    frame(&mut memory, 0x7000_0200, 2, 0x7000_0000, 2, 0);
    let mut hash = |first, seed| {
        let mut walk = Walk::new(&LAYOUT, first, seed);
        while walk.step(&mut memory, &mut RawFrame::default()) == Step::Frame {}
        finish(walk.hash)
    };
    let hashes = [
        hash(0x7000_0000, 1),
        hash(0x7000_0000, 2),
        hash(0x7000_0100, 1),
        hash(0x7000_0200, 1),
    ];
    for (i, a) in hashes.iter().enumerate() {
        assert!(*a != 0 && !hashes[i + 1..].contains(a));
    }
    assert_eq!(hashes[0], hash(0x7000_0000, 1));
    assert_ne!(finish(0), 0);
}

#[test]
fn the_thread_state_comes_from_the_thread_s_own_slot() {
    let (pointer, tstate, cframe) = (0x2000, 0x3000, 0x4000);
    let key = 5;
    let mut memory = Words::default();
    let source = LAYOUT.source_address;
    let state = |memory: &mut Words| thread_state(&LAYOUT, pointer, memory);
    // The page of the runtime is not there before the interpreter writes to it.
    assert_eq!(state(&mut memory), Err(NoFrame::NoThreadState));
    memory.set(source, key << 32);
    assert_eq!(state(&mut memory), Err(NoFrame::NoThreadState));
    memory.set(source, u64::from(MAX_PTHREAD_KEY) << 32 | 1);
    assert_eq!(state(&mut memory), Err(NoFrame::Failed));
    memory.set(source, key << 32 | 1);
    assert_eq!(state(&mut memory), Err(NoFrame::Failed));
    memory.set(pointer + 0x318 + 16 * key, tstate);
    assert_eq!(state(&mut memory), Ok(tstate));

    let frame = |memory: &mut Words| innermost_frame(&LAYOUT, tstate, pointer, memory);
    assert_eq!(frame(&mut memory), Err(NoFrame::Failed));
    memory.set(tstate + 136, pointer + 1);
    assert_eq!(frame(&mut memory), Err(NoFrame::NoThreadState));
    memory.set(tstate + 136, pointer);
    assert_eq!(frame(&mut memory), Err(NoFrame::NoFrame));
    memory.set(tstate + 56, cframe);
    assert_eq!(frame(&mut memory), Err(NoFrame::Failed));
    memory.set(cframe + 16, 1);
    assert_eq!(frame(&mut memory), Err(NoFrame::NoFrame));
    memory.set(cframe, 0x7000_0000);
    assert_eq!(frame(&mut memory), Ok(0x7000_0000));
}

#[test]
fn the_last_thread_state_is_taken_again_only_while_its_thread_has_it() {
    let layout = PythonLayout {
        has_cframe: 0,
        ..LAYOUT
    };
    let (pointer, tstate, first) = (0x2000, 0x3000, 0x7000_0000);
    let mut memory = Words::default();
    let frame = |memory: &mut Words, layout, last| likely_frame(layout, last, pointer, memory);
    let other = Err(NoFrame::NoThreadState);
    // Never seen; freed, with its page.
    assert_eq!(frame(&mut memory, &layout, 0), other);
    assert_eq!(frame(&mut memory, &layout, tstate), other);
    memory.set(tstate + 56, first);
    memory.set(tstate + 136, pointer);
    memory.set(tstate + 24, !BOUND_GILSTATE);
    assert_eq!(frame(&mut memory, &layout, tstate), other);
    memory.set(tstate + 24, BOUND_GILSTATE);
    assert_eq!(frame(&mut memory, &layout, tstate), Ok(first));
    memory.set(tstate + 56, 0);
    assert_eq!(frame(&mut memory, &layout, tstate), Err(NoFrame::NoFrame));
    memory.set(tstate + 136, pointer + 1);
    assert_eq!(frame(&mut memory, &layout, tstate), other);

    // 3.11 has no status, but a pointer to the one that holds the GIL: the last one is no evidence.
    memory.set(tstate + 56, first);
    memory.set(tstate + 136, pointer);
    let old = PythonLayout {
        tstate_status: 0,
        ..layout
    };
    assert_eq!(frame(&mut memory, &old, tstate), other);
    let current = PythonLayout {
        current_address: 0x5000,
        ..old
    };
    memory.set(0x5000, 0);
    assert_eq!(frame(&mut memory, &current, tstate), other);
    memory.set(0x5000, tstate);
    assert_eq!(frame(&mut memory, &current, 0), Ok(first));
}

#[test]
fn a_fixed_tls_offset_may_be_negative() {
    let layout = PythonLayout {
        thread_source: thread_source::TLS_OFFSET,
        source_address: (-40_i64) as u64,
        ..LAYOUT
    };
    let mut memory = Words::default();
    memory.set(0x2000 - 40, 0x3000);
    assert_eq!(thread_state(&layout, 0x2000, &mut memory), Ok(0x3000));
    let none = PythonLayout::default();
    assert_eq!(
        thread_state(&none, 0x2000, &mut memory),
        Err(NoFrame::NoLayout)
    );
}
