//! Address space that a thread asks for: mmap, brk, mremap that grows, and shmat, told on return
//! with the Python stack that asked. Called by [`super::address_space`], which has the hooks.

use memprof_common::{
    Process, Thread,
    records::{Header, Mapping, flag, kind, member, space_op},
};

use super::address_space::{MAP_ANONYMOUS, call, pages_up, state};
use crate::{
    emit,
    kernel::{Structure, current, file_of_descriptor, filesystem_magic, mapping_at, mm_of, regs},
    maps::config,
    stack::Captured,
};

/// `MAP_TYPE`: `MAP_SHARED` (1), `MAP_PRIVATE` (2) or `MAP_SHARED_VALIDATE` (3)
/// (include/uapi/linux/mman.h).
const MAP_TYPE: u64 = 0xf;
/// `MAP_PRIVATE`
const MAP_PRIVATE: u64 = 2;
/// `MREMAP_DONTUNMAP` (include/uapi/linux/mman.h)
const MREMAP_DONTUNMAP: u64 = 4;
/// `TMPFS_MAGIC` (include/uapi/linux/magic.h): /dev/shm, memfd_create, and the kernel's own mount
/// behind shared anonymous memory.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// The op of what a call takes away: madvise takes pages only.
#[inline(always)]
pub fn unmap_op(id: i64) -> u16 {
    if id == call::MADVISE {
        space_op::DISCARD
    } else {
        space_op::UNMAP
    }
}

/// The op of a move by mremap with these flags.
#[inline(always)]
pub fn move_op(mremap_flags: u64) -> u16 {
    if mremap_flags & MREMAP_DONTUNMAP != 0 {
        space_op::MOVE_PAGES
    } else {
        space_op::MOVE
    }
}

/// Keeps what the return of the call will not show any more: where the heap ended, in the place
/// of brk's second argument, which it does not have.
#[inline(always)]
pub fn entered(thread: &mut Thread, id: i64) {
    if id == call::BRK {
        thread.arguments[1] = mm_of(current()).field(config!(mm_brk) as usize);
    }
}

/// What a call added to the address space. An `Option` of it is nothing for the verifier, which
/// wants to see every field written.
#[derive(Clone, Copy, Default)]
pub struct Added {
    start: u64,
    /// Bytes; 0: nothing.
    pub len: u64,
    member: u32,
    flags: u32,
}

/// What the pages of an mmap are going to count as.
#[inline(always)]
fn member_of(map_flags: u64, descriptor: u64) -> u32 {
    let private = map_flags & MAP_TYPE == MAP_PRIVATE;
    if map_flags & MAP_ANONYMOUS != 0 {
        return if private { member::ANON } else { member::SHMEM };
    }
    match filesystem_magic(file_of_descriptor(current(), descriptor)) {
        TMPFS_MAGIC => member::SHMEM,
        _ => member::FILE,
    }
}

/// What a call that succeeded added.
#[inline(always)]
pub fn added(thread: &Thread, registers: Structure, id: i64, result: u64) -> Added {
    let [_, second, third, fourth] = thread.arguments;
    let (start, len, member) = match id {
        call::MMAP => {
            let descriptor: u64 = registers.field(regs::R8);
            (result, pages_up(second), member_of(fourth, descriptor))
        }
        call::BRK => {
            let (old, new) = (pages_up(second), pages_up(result));
            // A failed brk returns where the heap ends.
            (old, new.saturating_sub(old), member::ANON)
        }
        call::MREMAP => {
            let (old, new) = (pages_up(second), pages_up(third));
            if fourth & MREMAP_DONTUNMAP != 0 {
                // The old range stays, so all of the new one is further address space.
                (result, new, member::ANON)
            } else if old == 0 {
                // A second mapping of shared memory; nothing else may be asked for so.
                (result, new, member::SHMEM)
            } else {
                let more = new.saturating_sub(old);
                (result.wrapping_add(old), more, Mapping::LIKE_BEFORE)
            }
        }
        call::SHMAT => {
            // Gone again: another thread was faster.
            let (_, end) = mapping_at(current(), result).unwrap_or_default();
            let len = end.saturating_sub(result);
            (result, len, member::SHMEM)
        }
        _ => (0, 0, 0),
    };
    // PROT_NONE is 0 (include/uapi/asm-generic/mman-common.h).
    let reserved = id == call::MMAP && third == 0;
    Added {
        start,
        len,
        member,
        flags: if reserved { flag::RESERVED } else { 0 },
    }
}

/// Tells what a call added, and who called.
#[inline(always)]
pub fn tell(process: &Process, (pid, tid): (u32, u32), added: &Added, captured: Captured) {
    emit::mapping(&Mapping {
        header: Header {
            kind: kind::MAPPING,
            op: captured.op,
            pid,
            tid,
            flags: added.flags | state(process),
            time_ns: emit::now(),
        },
        start: added.start,
        len: added.len,
        stack: captured.id,
        member: added.member,
        _padding: 0,
    });
}
