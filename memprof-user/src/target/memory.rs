//! Reads of another process's memory, by process_vm_readv: it does not stop the process, and it
//! gives what is there or says that it cannot.

use std::io;

/// Something that holds a process's memory: the live process, or an image recorded from one.
pub trait ReadMemory {
    /// Fills the buffer from `address`; false when any byte of it cannot be had. The buffer's
    /// contents are then unspecified.
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool;

    /// A 64-bit word in the machine's byte order.
    fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)
            .then(|| u64::from_ne_bytes(bytes))
    }

    /// `len` bytes; the caller has bound `len`.
    fn bytes(&self, address: u64, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.read(address, &mut bytes).then_some(bytes)
    }
}

/// The memory of a live process.
#[derive(Clone, Copy, Debug)]
pub struct ProcessMemory {
    pid: libc::pid_t,
}

impl ProcessMemory {
    /// That of the process which has this pid whenever a read is made.
    pub fn new(pid: u32) -> Self {
        ProcessMemory {
            // A number too large for a pid names no process, and so does -1.
            pid: libc::pid_t::try_from(pid).unwrap_or(-1),
        }
    }

    /// Reads up to `buffer.len()` bytes from `address`; fewer when a page in between cannot be
    /// read, at least one.
    pub fn read_some(&self, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let local = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        let remote = libc::iovec {
            iov_base: address as usize as *mut libc::c_void,
            iov_len: buffer.len(),
        };
        // SAFETY: `local` describes `buffer`, which is writable, of that length, and borrowed
        // for the whole call; `remote` is an address of the other process that the kernel
        // checks and this process never dereferences.
        let read = unsafe { libc::process_vm_readv(self.pid, &local, 1, &remote, 1, 0) };
        match usize::try_from(read) {
            Ok(0) => Err(io::Error::from_raw_os_error(libc::EFAULT)),
            Ok(read) => Ok(read),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

impl ReadMemory for ProcessMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        buffer.is_empty()
            || self
                .read_some(address, buffer)
                .is_ok_and(|read| read == buffer.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_refuses_what_is_not() {
        let memory = ProcessMemory::new(std::process::id());
        let value = 0x1234_5678_9abc_def0_u64;
        assert_eq!(memory.word(&raw const value as u64), Some(value));
        assert_eq!(memory.word(8), None);
        assert_eq!(memory.word(u64::MAX - 3), None);
        assert!(memory.read(8, &mut []));
        assert_eq!(
            ProcessMemory::new(u32::MAX).word(&raw const value as u64),
            None
        );
    }

    #[test]
    fn a_read_over_the_end_of_a_mapping_is_partial() {
        let maps = crate::target::Mappings::read(std::process::id()).unwrap();
        let maps: Vec<_> = maps.iter().collect();
        let last = maps
            .windows(2)
            .find(|pair| pair[0].readable && pair[0].end < pair[1].start)
            .map(|pair| pair[0].end)
            .unwrap();
        let memory = ProcessMemory::new(std::process::id());
        let mut buffer = [0; 64];
        assert_eq!(memory.read_some(last - 16, &mut buffer).unwrap(), 16);
        assert!(!memory.read(last - 16, &mut buffer));
    }
}
