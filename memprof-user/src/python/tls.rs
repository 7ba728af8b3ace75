//! Finds the thread-local variable that holds each thread's `PyThreadState`, by looking at the
//! threads of a live process: the one word at the same distance below every thread pointer that
//! is that thread's own state. No symbol, no disassembly of the loader's work is needed.

use super::calibrate::ThreadState;
use super::tls_code::TlsCode;
use crate::target::ReadMemory;

/// How far below the thread pointer is searched. Static TLS begins right there; of threads other
/// than the first, what lies further down is their C stack, full of accidental copies.
const SEARCH_BYTES: u64 = 4096;
/// Threads looked at: more would not say more.
const THREADS: usize = 64;
/// Looks at a thread: while it holds the GIL, two variables have the same value.
const LOOKS: usize = 4;

/// Distance from the thread pointer to `_Py_tss_gilstate`, as a two's complement number.
///
/// A place counts when it holds in every thread that can be looked at. With more than one place
/// (the process's only thread held the GIL at every look), what the code says decides.
pub fn offset(
    memory: &impl ReadMemory,
    threads: &[ThreadState],
    code: Option<&TlsCode>,
) -> Option<u64> {
    let mut places: Option<Vec<i64>> = None;
    for _ in 0..LOOKS {
        for pointer in pointers(threads).into_iter().take(THREADS) {
            let own: Vec<u64> = threads
                .iter()
                .filter(|thread| thread.thread_id == pointer)
                .map(|thread| thread.address)
                .collect();
            // A thread that ended meanwhile has no storage.
            let found = places_in(memory, pointer, &own);
            // One that has not bound its state yet has no place at all.
            let Some(found) = found.filter(|found| !found.is_empty()) else {
                continue;
            };
            match &mut places {
                None => places = Some(found),
                Some(places) => places.retain(|place| found.contains(place)),
            }
        }
        if places.as_ref().is_some_and(|places| places.len() == 1) {
            break;
        }
    }
    let place = match places?[..] {
        [] => None,
        [place] => Some(place),
        ref places => decided(places, code?),
    };
    place.map(|place| place as u64)
}

/// The threads, each once; the oldest first, which is the program's main one.
fn pointers(threads: &[ThreadState]) -> Vec<u64> {
    let mut pointers = Vec::new();
    for thread in threads.iter().rev() {
        if !pointers.contains(&thread.thread_id) && pointers.len() < THREADS {
            pointers.push(thread.thread_id);
        }
    }
    pointers
}

/// Distances of the words below `pointer` that are one of `own`.
fn places_in(memory: &impl ReadMemory, pointer: u64, own: &[u64]) -> Option<Vec<i64>> {
    // What is mapped below may be less than is searched.
    let start = [SEARCH_BYTES, SEARCH_BYTES / 4, SEARCH_BYTES / 16]
        .into_iter()
        .find_map(|len| {
            let bytes = memory.bytes(pointer.checked_sub(len)?, len as usize)?;
            Some((len as i64, bytes))
        });
    let (len, bytes) = start?;
    let words = bytes.chunks_exact(8).map(|word| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        u64::from_ne_bytes(bytes)
    });
    let distances = (-len..0).step_by(8);
    let found = words.zip(distances).filter(|(word, _)| own.contains(word));
    Some(found.map(|(_, distance)| distance).collect())
}

/// Of several places, the one that the code means.
fn decided(places: &[i64], code: &TlsCode) -> Option<i64> {
    let (gilstate, tstate) = (i64::from(code.gilstate), i64::from(code.tstate));
    if code.from_thread_pointer {
        return places.contains(&gilstate).then_some(gilstate);
    }
    let mut pairs = places
        .iter()
        .filter(|&&place| places.contains(&(place + tstate - gilstate)));
    // One pair, or it is a guess.
    match (pairs.next(), pairs.next()) {
        (Some(&place), None) => Some(place),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two threads' storage, one page each, ending at 0x11000 and 0x21000.
    struct Storage(Vec<(u64, u64)>);

    impl ReadMemory for Storage {
        fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
            let end = address + buffer.len() as u64;
            let pages = [0x10000_u64..0x11000, 0x20000..0x21000];
            if !pages.iter().any(|p| p.start <= address && end <= p.end) {
                return false;
            }
            buffer.fill(0);
            for &(at, value) in &self.0 {
                if address <= at && at + 8 <= end {
                    let at = (at - address) as usize;
                    buffer[at..at + 8].copy_from_slice(&value.to_ne_bytes());
                }
            }
            true
        }
    }

    const FIRST: u64 = 0x11000;
    const SECOND: u64 = 0x21000;

    fn thread(address: u64, thread_id: u64) -> ThreadState {
        ThreadState { address, thread_id }
    }

    fn found(words: &[(u64, u64)], threads: &[ThreadState], code: Option<TlsCode>) -> Option<i64> {
        let storage = Storage(words.to_vec());
        offset(&storage, threads, code.as_ref()).map(|offset| offset as i64)
    }

    #[test]
    fn the_place_that_all_threads_share_counts() {
        let both = [thread(0x500, SECOND), thread(0x400, FIRST)];
        let words = [
            (FIRST - 40, 0x400),
            (FIRST - 32, 0x400), // holds the GIL
            (SECOND - 40, 0x500),
            (SECOND - 2112, 0x500), // a copy on its stack
        ];
        assert_eq!(found(&words, &both, None), Some(-40));
        assert_eq!(found(&words[..2], &both[..1], None), None);
        // A thread that is about to end has nothing, and one that has gone cannot be read.
        let gone = [thread(0x600, 0x99000), both[0], both[1]];
        assert_eq!(found(&words, &gone, None), Some(-40));
        assert_eq!(found(&words[2..3], &both, None), Some(-40));
    }

    #[test]
    fn of_two_the_code_decides() {
        let one = [thread(0x400, FIRST)];
        let words = [(FIRST - 40, 0x400), (FIRST - 8, 0x400)];
        let code = |gilstate, tstate, from_thread_pointer| TlsCode {
            gilstate,
            tstate,
            from_thread_pointer,
        };
        assert_eq!(found(&words, &one, None), None);
        assert_eq!(found(&words, &one, Some(code(-40, -32, true))), Some(-40));
        assert_eq!(found(&words, &one, Some(code(-24, -32, true))), None);
        assert_eq!(found(&words, &one, Some(code(0x28, 8, false))), Some(-8));
        assert_eq!(found(&words, &one, Some(code(8, 0x28, false))), Some(-40));
        assert_eq!(found(&words, &one, Some(code(8, 16, false))), None);
    }
}
