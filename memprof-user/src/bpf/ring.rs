//! The ring buffer, read when the kernel side wakes us or a tick comes.

use aya::maps::{MapData, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};

use super::probes::{Loaded, stale_object};
use crate::decode::{DecodeError, Event, decode};
use crate::error::{Error, Result};

/// The reading end.
pub struct Ring {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Ring {
    /// Takes the ring out of the loaded object. Needs a tokio runtime.
    pub fn open(loaded: &mut Loaded) -> Result<Self> {
        let map = loaded.bpf.take_map("EVENTS").ok_or_else(stale_object)?;
        let ring = RingBuf::try_from(map).map_err(|_| stale_object())?;
        // SAFETY: the ring owns its map's descriptor and gives it out unchanged while it lives.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        let ring = ring.map_err(|e| {
            Error::failed(
                "cannot wait for the ring buffer",
                e,
                "check the limit of open files: ulimit -n",
            )
        })?;
        Ok(Ring { ring })
    }

    /// Waits until the kernel side says that something is there.
    pub async fn ready(&mut self) -> std::io::Result<()> {
        let mut guard = self.ring.readable_mut().await?;
        guard.clear_ready();
        Ok(())
    }

    /// Hands at most `limit` records to `take`; true when more may be waiting.
    pub fn drain(
        &mut self,
        limit: usize,
        mut take: impl FnMut(std::result::Result<Event, DecodeError>),
    ) -> bool {
        let ring = self.ring.get_mut();
        for _ in 0..limit {
            match ring.next() {
                Some(record) => take(decode(&record)),
                None => return false,
            }
        }
        true
    }
}
