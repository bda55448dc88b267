//! Virtio block device (§5.2): up to 128 requests on their way.
//!
//! Every request has a slot of fixed memory: header, status, and three descriptors (header, data, status), in an
//! indirect table where the device takes one, else three of the queue's own. Submitting writes the slot; nothing is
//! allocated.

use alloc::vec::Vec;

use super::queue::{DESCRIPTOR, INDIRECT, NEXT, Queue, WRITE, describe};
use super::{Device, Error, FEATURE_INDIRECT};
use crate::memory::Buffer;
use crate::pci::Function;

/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// Most requests on their way.
const MAX_DEPTH: u16 = 128;

const READ_ONLY: u64 = 1 << 5;
const FLUSH: u64 = 1 << 9;
const DISCARD: u64 = 1 << 13;
const WRITE_ZEROES: u64 = 1 << 14;

/// Offsets in the device configuration (§5.2.4).
const CONFIG_CAPACITY: u64 = 0;
const CONFIG_MAX_DISCARD: u64 = 36;
const CONFIG_MAX_WRITE_ZEROES: u64 = 48;

/// Layout of a slot.
const SLOT: usize = 128;
const STATUS: usize = 16;
const RANGE: usize = 24;
const TABLE: usize = 48;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Reads sectors into memory.
    Read {
        /// First sector.
        sector: u64,
        /// Physical address of the memory.
        address: u64,
        /// Bytes, a multiple of 512.
        bytes: u32,
    },
    /// Writes sectors from memory.
    Write {
        /// First sector.
        sector: u64,
        /// Physical address of the memory.
        address: u64,
        /// Bytes, a multiple of 512.
        bytes: u32,
    },
    /// Makes completed writes durable.
    Flush,
    /// Gives sectors up.
    Discard {
        /// First sector.
        sector: u64,
        /// How many.
        count: u32,
    },
    /// Makes sectors read as zeroes.
    WriteZeroes {
        /// First sector.
        sector: u64,
        /// How many.
        count: u32,
        /// The device may give their space up.
        unmap: bool,
    },
    /// Reads the device's serial number: 20 bytes.
    Identify {
        /// Physical address of the memory.
        address: u64,
    },
}

/// A completed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// The slot [`Block::submit`] returned.
    pub slot: u16,
    /// Status (§5.2.6): 0 ok, 1 I/O error, 2 unsupported.
    pub status: u8,
}

/// A disk.
#[derive(Debug)]
pub struct Block {
    device: Device,
    queue: Queue,
    slots: Buffer,
    free: Vec<u16>,
    in_flight: Vec<bool>,
    indirect: bool,
    capacity: u64,
    max_discard: u32,
    max_write_zeroes: u32,
}

impl Block {
    /// Starts the device.
    pub fn new(function: &Function) -> Result<Self, Error> {
        let mut device = Device::start(function, READ_ONLY | FLUSH | DISCARD | WRITE_ZEROES)?;
        let queue = device.queue(0, 256)?;
        let indirect = device.has(FEATURE_INDIRECT);
        let depth = if indirect {
            queue.size()
        } else {
            queue.size() / 3
        }
        .min(MAX_DEPTH);
        let capacity = u64::from(device.config_u32(CONFIG_CAPACITY))
            | u64::from(device.config_u32(CONFIG_CAPACITY + 4)) << 32;
        let max_discard = if device.has(DISCARD) {
            device.config_u32(CONFIG_MAX_DISCARD)
        } else {
            0
        };
        let max_write_zeroes = if device.has(WRITE_ZEROES) {
            device.config_u32(CONFIG_MAX_WRITE_ZEROES)
        } else {
            0
        };
        device.ready();
        Ok(Self {
            device,
            queue,
            slots: Buffer::new(usize::from(depth) * SLOT),
            free: (0..depth).rev().collect(),
            in_flight: (0..depth).map(|_| false).collect(),
            indirect,
            capacity,
            max_discard,
            max_write_zeroes,
        })
    }

    /// Its PCI function.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Size in sectors.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Most requests that can be on their way.
    pub fn depth(&self) -> u16 {
        u16::try_from(self.in_flight.len()).unwrap_or(MAX_DEPTH)
    }

    /// Entries of its queue.
    pub fn queue_size(&self) -> u16 {
        self.queue.size()
    }

    /// Whether writing is refused.
    pub fn read_only(&self) -> bool {
        self.device.has(READ_ONLY)
    }

    /// Whether it has a cache to flush.
    pub fn can_flush(&self) -> bool {
        self.device.has(FLUSH)
    }

    /// Most sectors of one discard; 0 if it cannot.
    pub fn max_discard(&self) -> u32 {
        self.max_discard
    }

    /// Most sectors of one write-zeroes; 0 if it cannot.
    pub fn max_write_zeroes(&self) -> u32 {
        self.max_write_zeroes
    }

    /// Kicks so far.
    pub fn kicks(&self) -> u64 {
        self.queue.kicks
    }

    /// Prepares a request; the device sees it at the next [`Self::kick`]. `None` if all slots are taken. The
    /// operation's memory belongs to the device until the completion.
    pub fn submit(&mut self, operation: Operation) -> Option<u16> {
        let slot = self.free.pop()?;
        self.in_flight[usize::from(slot)] = true;
        let at = usize::from(slot) * SLOT;
        let base = self.slots.address() + at as u64;
        let range = base + RANGE as u64;
        let (kind, sector, data) = match operation {
            Operation::Read {
                sector,
                address,
                bytes,
            } => (0, sector, Some((address, bytes, WRITE))),
            Operation::Write {
                sector,
                address,
                bytes,
            } => (1, sector, Some((address, bytes, 0))),
            Operation::Flush => (4, 0, None),
            Operation::Identify { address } => (8, 0, Some((address, 20, WRITE))),
            Operation::Discard { sector, count } => {
                self.set_range(at, sector, count, false);
                (11, 0, Some((range, 16, 0)))
            }
            Operation::WriteZeroes {
                sector,
                count,
                unmap,
            } => {
                self.set_range(at, sector, count, unmap);
                (13, 0, Some((range, 16, 0)))
            }
        };
        self.slots.write_u32(at, kind);
        self.slots.write_u32(at + 4, 0);
        self.slots.write_u64(at + 8, sector);
        self.slots.write_u8(at + STATUS, 0xFF);
        let chain = [
            Some((base, 16, 0)),
            data,
            Some((base + STATUS as u64, 1, WRITE)),
        ];
        let head = self.chain(slot, chain.into_iter().flatten());
        self.queue.add(head);
        Some(slot)
    }

    /// Writes a slot's descriptors and returns the first of the queue's table.
    fn chain(&mut self, slot: u16, parts: impl Iterator<Item = (u64, u32, u16)>) -> u16 {
        let parts: [Option<(u64, u32, u16)>; 3] = {
            let mut parts = parts.fuse();
            [parts.next(), parts.next(), parts.next()]
        };
        let count = parts.iter().flatten().count();
        let table = usize::from(slot) * SLOT + TABLE;
        let first = if self.indirect { 0 } else { 3 * slot };
        for (index, (address, length, flags)) in parts.into_iter().flatten().enumerate() {
            let last = index + 1 == count;
            let flags = flags | if last { 0 } else { NEXT };
            let next = if last { 0 } else { first + index as u16 + 1 };
            if self.indirect {
                describe(
                    &self.slots,
                    table + index * DESCRIPTOR,
                    address,
                    length,
                    flags,
                    next,
                );
            } else {
                self.queue
                    .describe(first + index as u16, address, length, flags, next);
            }
        }
        if !self.indirect {
            return first;
        }
        let address = self.slots.address() + table as u64;
        self.queue
            .describe(slot, address, (count * DESCRIPTOR) as u32, INDIRECT, 0);
        slot
    }

    /// The one range of a discard or write-zeroes (§5.2.6).
    fn set_range(&mut self, at: usize, sector: u64, count: u32, unmap: bool) {
        self.slots.write_u64(at + RANGE, sector);
        self.slots.write_u32(at + RANGE + 8, count);
        self.slots.write_u32(at + RANGE + 12, u32::from(unmap));
    }

    /// Whether no request is on its way.
    pub fn is_idle(&self) -> bool {
        self.free.len() == self.in_flight.len()
    }

    /// Hands everything submitted to the device.
    pub fn kick(&mut self) {
        self.queue.kick();
    }

    /// The next completed request.
    pub fn take(&mut self) -> Option<Completion> {
        loop {
            let (head, _) = self.queue.take()?;
            let slot = if self.indirect { head } else { head / 3 };
            // A device that completes what it was not given is ignored.
            if let Some(in_flight @ true) = self.in_flight.get_mut(usize::from(slot)) {
                *in_flight = false;
                self.free.push(slot);
                return Some(Completion {
                    slot,
                    status: self.slots.read_u8(usize::from(slot) * SLOT + STATUS),
                });
            }
        }
    }

    /// Asks for an interrupt at the next completion; false if there is one to take already.
    pub fn ask_interrupt(&mut self) -> bool {
        self.queue.ask_interrupt()
    }

    /// Asks for no interrupts for now.
    pub fn refuse_interrupts(&mut self) {
        self.queue.refuse_interrupts();
    }
}
