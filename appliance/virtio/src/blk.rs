//! The block device (virtio 1.2 §5.2): configuration, and requests as the driver frames them.
//!
//! A driver may spread header, data and status over descriptors as it likes (§2.7.4.1), so a request is read as two
//! byte streams: 16 bytes of header, then data out; data in, then 1 byte of status.

use vm_memory::{Bytes, GuestAddress, GuestMemory};

use crate::queue::{read_array, split_front, write_bytes};
use crate::{Chain, Segment, feature};

/// Sectors are 512 bytes whatever the logical block size (§5.2.4).
pub const SECTOR_BYTES: u64 = 512;
/// Length of a serial number (§5.2.6).
pub const SERIAL_BYTES: usize = 20;
/// Default size of each request queue.
pub const QUEUE_SIZE: u16 = 256;
/// Ranges one discard or write-zeroes request may name.
pub const MAX_DISCARD_SEGMENTS: u32 = 1;

const HEADER_BYTES: u64 = 16;
const DISCARD_SEGMENT_BYTES: usize = 16;
const CONFIG_BYTES: usize = 60;
const CONFIG_WRITEBACK: usize = 32;
const DISCARD_UNMAP: u32 = 1;

const TYPE_IN: u32 = 0;
const TYPE_OUT: u32 = 1;
const TYPE_FLUSH: u32 = 4;
const TYPE_GET_ID: u32 = 8;
const TYPE_DISCARD: u32 = 11;
const TYPE_WRITE_ZEROES: u32 = 13;

/// What the status byte says (§5.2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// Failed.
    IoError = 1,
    /// The device does not know this request.
    Unsupported = 2,
}

/// The properties of a disk, from which configuration and features follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlkConfig {
    /// Capacity in 512-byte sectors.
    pub sectors: u64,
    /// Logical block in bytes, a power of two.
    pub logical_block: u32,
    /// Physical block in bytes, a power of two, at least `logical_block`.
    pub physical_block: u32,
    /// Alignment of useful discards, in bytes.
    pub discard_granularity: u32,
    /// Longest discard or write-zeroes range, in bytes.
    pub max_discard: u64,
    /// Writes are refused.
    pub read_only: bool,
    /// Number of request queues, at least 1.
    pub queues: u16,
    /// Size of each queue, a power of two, at least 4.
    pub queue_size: u16,
    /// Serial number, padded with zero bytes.
    pub serial: [u8; SERIAL_BYTES],
}

impl BlkConfig {
    /// Feature bits offered.
    pub fn features(&self) -> u64 {
        let mut bits = feature::RING
            | feature::BLK_SEG_MAX
            | feature::BLK_BLK_SIZE
            | feature::BLK_FLUSH
            | feature::BLK_TOPOLOGY
            | feature::BLK_CONFIG_WCE;
        if self.read_only {
            bits |= feature::BLK_RO;
        } else {
            bits |= feature::BLK_DISCARD | feature::BLK_WRITE_ZEROES;
        }
        if self.queues > 1 {
            bits |= feature::BLK_MQ;
        }
        bits
    }

    /// Whether completed writes must already be durable: the driver chose write-through, or cannot flush (§5.2.5.2,
    /// §5.2.6.2). `writeback` is the configuration's field of that name.
    pub fn write_through(features: u64, writeback: bool) -> bool {
        if features & feature::BLK_CONFIG_WCE != 0 {
            !writeback
        } else {
            features & feature::BLK_FLUSH == 0
        }
    }

    /// Most data segments of a request: a chain has at most as many descriptors as the queue, two of them are not data.
    pub fn max_segments(&self) -> u32 {
        u32::from(self.queue_size.saturating_sub(2)).max(1)
    }

    /// Reads the configuration structure (§5.2.4).
    pub fn read(&self, writeback: bool, offset: u64, data: &mut [u8]) {
        let image = self.image(writeback);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, byte) in data.iter_mut().enumerate() {
            *byte = image.get(start.saturating_add(index)).copied().unwrap_or(0);
        }
    }

    /// What a write to the configuration sets `writeback` to, if it is one the driver may make (§5.2.5).
    pub fn writeback_after(offset: u64, data: &[u8], features: u64) -> Option<bool> {
        let allowed = features & feature::BLK_CONFIG_WCE != 0;
        match data {
            [value] if allowed && offset == CONFIG_WRITEBACK as u64 => Some(*value != 0),
            _ => None,
        }
    }

    fn image(&self, writeback: bool) -> [u8; CONFIG_BYTES] {
        let mut image = [0; CONFIG_BYTES];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        let sectors = |bytes: u64| {
            u32::try_from(bytes / SECTOR_BYTES)
                .unwrap_or(u32::MAX)
                .to_le_bytes()
        };
        let exponent = (self.physical_block / self.logical_block.max(1))
            .max(1)
            .ilog2();
        put(0, &self.sectors.to_le_bytes());
        put(12, &self.max_segments().to_le_bytes());
        put(20, &self.logical_block.to_le_bytes());
        put(24, &[u8::try_from(exponent).unwrap_or(0), 0]);
        put(
            26,
            &u16::try_from(1u32 << exponent.min(15))
                .unwrap_or(1)
                .to_le_bytes(),
        );
        put(CONFIG_WRITEBACK, &[u8::from(writeback)]);
        put(34, &self.queues.to_le_bytes());
        if !self.read_only {
            put(36, &sectors(self.max_discard));
            put(40, &MAX_DISCARD_SEGMENTS.to_le_bytes());
            put(44, &sectors(u64::from(self.discard_granularity)));
            put(48, &sectors(self.max_discard));
            put(52, &MAX_DISCARD_SEGMENTS.to_le_bytes());
            put(56, &[1]);
        }
        image
    }

    /// Reads what `chain` asks for and checks it against the disk. On a read or write the data segments are left in
    /// `chain`. Every chain gives a request; [`Request::command`] says whether there is anything to do.
    pub fn parse<M: GuestMemory>(&self, mem: &M, features: u64, chain: &mut Chain) -> Request {
        let writable = Chain::total(&chain.writable);
        let status_at = match chain.writable.last_mut() {
            // Only the end of a sound chain is known to be the status byte.
            Some(last) if chain.defect.is_none() => {
                last.len -= 1;
                Some(last.address + u64::from(last.len))
            }
            _ => None,
        };
        if chain.writable.last().is_some_and(|s| s.len == 0) {
            chain.writable.pop();
        }
        let command = match status_at {
            None => Command::Answer(Status::IoError),
            Some(_) => self.command(mem, features, chain),
        };
        // Only reads and the serial number write data, both over all the driver offers or up to the serial's end.
        let data_in = match command {
            Command::Read { .. } => writable.saturating_sub(1),
            Command::Answer(Status::Ok) => SERIAL_BYTES as u64,
            _ => 0,
        };
        let data_in = u32::try_from(data_in).unwrap_or(u32::MAX);
        Request {
            head: chain.head,
            status_at,
            data_in,
            command,
        }
    }

    fn command<M: GuestMemory>(&self, mem: &M, features: u64, chain: &mut Chain) -> Command {
        let failed = Command::Answer(Status::IoError);
        let Some(header) = read_array::<M, 16>(mem, &chain.readable) else {
            return failed;
        };
        if split_front(&mut chain.readable, HEADER_BYTES).is_none() {
            return failed;
        }
        let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = header;
        let sector = u64::from_le_bytes(sector);
        let negotiated = |bit: u64| features & bit != 0;
        match u32::from_le_bytes([t0, t1, t2, t3]) {
            TYPE_IN => match self.range(sector, Chain::total(&chain.writable)) {
                Some(offset) => Command::Read { offset },
                None => failed,
            },
            TYPE_OUT if self.read_only => failed,
            TYPE_OUT => match self.range(sector, Chain::total(&chain.readable)) {
                Some(offset) => Command::Write { offset },
                None => failed,
            },
            TYPE_FLUSH => Command::Flush,
            TYPE_GET_ID => {
                let written = write_bytes(mem, &chain.writable, &self.serial);
                if written == SERIAL_BYTES {
                    Command::Answer(Status::Ok)
                } else {
                    failed
                }
            }
            TYPE_DISCARD if negotiated(feature::BLK_DISCARD) => {
                match self.discard_segment(mem, chain) {
                    // A discard must not set the unmap flag (§5.2.6.2).
                    Some((offset, len, 0)) => Command::Discard { offset, len },
                    Some(_) => Command::Answer(Status::Unsupported),
                    None => failed,
                }
            }
            TYPE_WRITE_ZEROES if negotiated(feature::BLK_WRITE_ZEROES) => match self
                .discard_segment(mem, chain)
            {
                Some((offset, len, flags)) if flags & !DISCARD_UNMAP == 0 => Command::WriteZeroes {
                    offset,
                    len,
                    unmap: flags & DISCARD_UNMAP != 0,
                },
                Some(_) => Command::Answer(Status::Unsupported),
                None => failed,
            },
            _ => Command::Answer(Status::Unsupported),
        }
    }

    /// The byte offset of a transfer, if it is whole sectors within the disk.
    fn range(&self, sector: u64, len: u64) -> Option<u64> {
        let sectors = len / SECTOR_BYTES;
        let whole = len.is_multiple_of(SECTOR_BYTES) && len > 0;
        let inside = sector
            .checked_add(sectors)
            .is_some_and(|end| end <= self.sectors);
        (whole && inside)
            .then_some(sector)?
            .checked_mul(SECTOR_BYTES)
    }

    /// Offset, length and flags of the one segment a discard or write-zeroes may have (§5.2.6).
    fn discard_segment<M: GuestMemory>(&self, mem: &M, chain: &Chain) -> Option<(u64, u64, u32)> {
        if self.read_only || Chain::total(&chain.readable) != DISCARD_SEGMENT_BYTES as u64 {
            return None;
        }
        let bytes = read_array::<M, DISCARD_SEGMENT_BYTES>(mem, &chain.readable)?;
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, f @ ..] = bytes;
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let len = u64::from(u32::from_le_bytes([n0, n1, n2, n3])) * SECTOR_BYTES;
        if len > self.max_discard {
            return None;
        }
        Some((self.range(sector, len)?, len, u32::from_le_bytes(f)))
    }
}

/// One request of the driver, ready to be served and then [answered](Request::answer).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The chain to return.
    pub head: u16,
    /// What to do.
    pub command: Command,
    status_at: Option<u64>,
    data_in: u32,
}

/// What a request asks for. Offsets and lengths are in bytes, inside the disk and whole sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Fill the chain's writable segments.
    Read {
        /// Where from.
        offset: u64,
    },
    /// Store the chain's readable segments.
    Write {
        /// Where to.
        offset: u64,
    },
    /// Make completed writes durable.
    Flush,
    /// Forget a range.
    Discard {
        /// Where.
        offset: u64,
        /// How much.
        len: u64,
    },
    /// Zero a range.
    WriteZeroes {
        /// Where.
        offset: u64,
        /// How much.
        len: u64,
        /// Space may be given back.
        unmap: bool,
    },
    /// Nothing is left to do but to answer.
    Answer(Status),
}

impl Request {
    /// Writes the status byte and returns the length for the used ring. A chain without a place for the status
    /// is returned with length 0.
    pub fn answer<M: GuestMemory>(&self, mem: &M, status: Status) -> u32 {
        let Some(at) = self.status_at else { return 0 };
        // The address was checked when the chain was taken; memory does not shrink.
        if mem.write_obj(status as u8, GuestAddress(at)).is_err() {
            return 0;
        }
        let data = if status == Status::Ok {
            self.data_in
        } else {
            0
        };
        data.saturating_add(1)
    }
}

/// The data segments of a request's command in the chain it came from.
pub fn data_segments(command: Command, chain: &Chain) -> &[Segment] {
    match command {
        Command::Read { .. } => &chain.writable,
        Command::Write { .. } => &chain.readable,
        _ => &[],
    }
}

#[cfg(test)]
#[path = "blk_test.rs"]
mod tests;
