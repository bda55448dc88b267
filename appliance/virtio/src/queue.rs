//! Split virtqueues (virtio 1.2 §2.7) and validated descriptor chains.

use virtio_bindings::bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions};

use std::sync::atomic::Ordering;

/// A run of guest physical memory that was checked to exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Guest physical address of the first byte.
    pub address: u64,
    /// Length in bytes, not 0.
    pub len: u32,
}

/// The ring itself is corrupt: the device must stop and ask for a reset (1.2 §2.1.2).
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Rings outside guest memory, misaligned, of an impossible size, or an index that ran ahead.
    #[error("the virtqueue is corrupt")]
    Ring(#[source] virtio_queue::Error),
    /// The rings do not lie within guest memory.
    #[error("a ring of the virtqueue lies outside guest memory")]
    OutsideMemory,
}

/// What is wrong with a descriptor chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// It loops, points outside its table, is longer than the queue, or its table cannot be read.
    #[error("the descriptor chain is longer than the queue or does not end")]
    Endless,
    /// A device-readable descriptor follows a device-writable one (1.2 §2.7.4.2).
    #[error("a readable descriptor follows a writable one")]
    Order,
    /// A buffer is not guest memory.
    #[error("a descriptor points outside guest memory")]
    Address,
}

/// One descriptor chain, flattened. Reused from request to request to avoid allocation.
#[derive(Debug, Default)]
pub struct Chain {
    /// Index of the first descriptor: what the used ring reports.
    pub head: u16,
    /// What the device may read, in order.
    pub readable: Vec<Segment>,
    /// What the device may write, in order.
    pub writable: Vec<Segment>,
    /// What is wrong with it, if anything; the segments up to there are valid.
    pub defect: Option<ChainError>,
}

impl Chain {
    /// Bytes of `segments` together; a chain has less than 4 GiB.
    pub fn total(segments: &[Segment]) -> u64 {
        segments.iter().map(|s| u64::from(s.len)).sum()
    }

    fn push(&mut self, segment: Segment, write: bool) -> Result<(), ChainError> {
        if segment.len == 0 {
            return Ok(());
        }
        if !write && !self.writable.is_empty() {
            return Err(ChainError::Order);
        }
        if write {
            self.writable.push(segment)
        } else {
            self.readable.push(segment)
        }
        Ok(())
    }
}

/// Takes `len` bytes off the front of `segments`; `None`, with nothing taken, if there are fewer.
pub(crate) fn split_front(segments: &mut Vec<Segment>, len: u64) -> Option<Vec<Segment>> {
    if Chain::total(segments) < len {
        return None;
    }
    let mut left = len;
    let mut front = Vec::new();
    let mut whole = 0;
    for segment in segments.iter_mut() {
        if left == 0 {
            break;
        }
        let part = u32::try_from(left.min(u64::from(segment.len))).unwrap_or(segment.len);
        front.push(Segment {
            address: segment.address,
            len: part,
        });
        left -= u64::from(part);
        if part == segment.len {
            whole += 1;
        } else {
            segment.address += u64::from(part);
            segment.len -= part;
        }
    }
    segments.drain(..whole);
    Some(front)
}

/// Copies the first `N` bytes of `segments` out of guest memory.
pub(crate) fn read_array<M: GuestMemory, const N: usize>(
    mem: &M,
    segments: &[Segment],
) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut at = 0;
    for segment in segments {
        let len = usize::try_from(segment.len).ok()?.min(N - at);
        mem.read_slice(&mut bytes[at..at + len], GuestAddress(segment.address))
            .ok()?;
        at += len;
        if at == N {
            return Some(bytes);
        }
    }
    None
}

/// Writes `bytes` to the start of `segments`; returns how many fitted.
pub(crate) fn write_bytes<M: GuestMemory>(mem: &M, segments: &[Segment], bytes: &[u8]) -> usize {
    let mut at = 0;
    for segment in segments {
        let len = usize::try_from(segment.len)
            .unwrap_or(usize::MAX)
            .min(bytes.len() - at);
        if mem
            .write_slice(&bytes[at..at + len], GuestAddress(segment.address))
            .is_err()
        {
            break;
        }
        at += len;
    }
    at
}

/// A split virtqueue that the driver has set up.
#[derive(Debug)]
pub struct Virtqueue {
    ring: Queue,
}

impl Virtqueue {
    /// A queue of `size` descriptors (a power of two) with its rings at these guest physical addresses.
    ///
    /// # Errors
    /// The size or an alignment is wrong, or a ring lies outside `mem`.
    pub fn new<M: GuestMemory>(
        mem: &M,
        size: u16,
        descriptors: u64,
        available: u64,
        used: u64,
        event_idx: bool,
    ) -> Result<Self, QueueError> {
        let mut ring = Queue::new(size).map_err(QueueError::Ring)?;
        ring.try_set_desc_table_address(GuestAddress(descriptors))
            .map_err(QueueError::Ring)?;
        ring.try_set_avail_ring_address(GuestAddress(available))
            .map_err(QueueError::Ring)?;
        ring.try_set_used_ring_address(GuestAddress(used))
            .map_err(QueueError::Ring)?;
        ring.set_event_idx(event_idx);
        ring.set_ready(true);
        if !ring.is_valid(mem) {
            return Err(QueueError::OutsideMemory);
        }
        Ok(Virtqueue { ring })
    }

    /// Whether the driver has offered chains that were not taken yet, with or without a kick.
    pub fn has_offers<M: GuestMemory>(&self, mem: &M) -> bool {
        let offered = self.ring.avail_idx(mem, Ordering::Acquire);
        offered.is_ok_and(|index| index.0 != self.ring.next_avail())
    }

    /// The number of descriptors.
    pub fn size(&self) -> u16 {
        self.ring.size()
    }

    /// Takes the next available chain into `chain`; `false` if there is none.
    ///
    /// A chain with a [`defect`](Chain::defect) still has to be [returned](Self::add_used).
    ///
    /// # Errors
    /// The available ring is corrupt.
    pub fn pop<M: GuestMemory>(&mut self, mem: &M, chain: &mut Chain) -> Result<bool, QueueError> {
        chain.readable.clear();
        chain.writable.clear();
        chain.defect = None;
        let size = self.ring.size();
        let Some(descriptors) = self.ring.iter(mem).map_err(QueueError::Ring)?.next() else {
            return Ok(false);
        };
        chain.head = descriptors.head_index();
        if chain.head >= size {
            return Err(QueueError::Ring(
                virtio_queue::Error::InvalidDescriptorIndex,
            ));
        }
        // Ends without a last descriptor if the walk failed anywhere, so "ended" is only true at a proper end.
        let mut ended = false;
        for descriptor in descriptors.take(usize::from(size)) {
            ended = !descriptor.has_next();
            let write = descriptor.is_write_only();
            let (address, len) = (descriptor.addr(), descriptor.len());
            let access = if write {
                Permissions::Write
            } else {
                Permissions::Read
            };
            let bytes = usize::try_from(len).unwrap_or(usize::MAX);
            let pushed = if mem.check_range(address, bytes, access) {
                chain.push(
                    Segment {
                        address: address.0,
                        len,
                    },
                    write,
                )
            } else {
                Err(ChainError::Address)
            };
            if let Err(defect) = pushed {
                chain.defect = Some(defect);
                return Ok(true);
            }
        }
        if !ended {
            chain.defect = Some(ChainError::Endless);
        }
        Ok(true)
    }

    /// Puts the chain last taken back, so that the next [`pop`](Self::pop) yields it again.
    pub fn unpop(&mut self) {
        self.ring.go_to_previous_position();
    }

    /// Returns a chain to the driver, of which `written` bytes were written.
    ///
    /// # Errors
    /// The used ring cannot be written or `head` is not a descriptor.
    pub fn add_used<M: GuestMemory>(
        &mut self,
        mem: &M,
        head: u16,
        written: u32,
    ) -> Result<(), QueueError> {
        self.ring
            .add_used(mem, head, written)
            .map_err(QueueError::Ring)
    }

    /// Whether the driver wants an interrupt for what was returned since the last call.
    ///
    /// # Errors
    /// The available ring cannot be read.
    pub fn wants_interrupt<M: GuestMemory>(&mut self, mem: &M) -> Result<bool, QueueError> {
        let wanted = self
            .ring
            .needs_notification(mem)
            .map_err(QueueError::Ring)?;
        if self.ring.event_idx_enabled() {
            return Ok(wanted);
        }
        let flags: u16 = mem
            .load(GuestAddress(self.ring.avail_ring()), Ordering::Relaxed)
            .map_err(|e| QueueError::Ring(virtio_queue::Error::GuestMemory(e)))?;
        Ok(u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT == 0)
    }

    /// Asks the driver not to kick; a hint (with EVENT_IDX nothing needs doing).
    ///
    /// # Errors
    /// The used ring cannot be written.
    pub fn disable_kicks<M: GuestMemory>(&mut self, mem: &M) -> Result<(), QueueError> {
        self.ring
            .disable_notification(mem)
            .map_err(QueueError::Ring)
    }

    /// Asks the driver to kick for the next chain; `true` if one became available meanwhile, for which no
    /// kick may come: take it before waiting.
    ///
    /// # Errors
    /// A ring cannot be accessed.
    pub fn enable_kicks<M: GuestMemory>(&mut self, mem: &M) -> Result<bool, QueueError> {
        self.ring.enable_notification(mem).map_err(QueueError::Ring)
    }
}

#[cfg(test)]
#[path = "queue_test.rs"]
mod tests;
