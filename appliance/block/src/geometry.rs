//! Sizes and limits of a disk.

use crate::ErrorKind;
use crate::Operation;

/// The unit in which virtio and this product address disks, in bytes.
pub const SECTOR_BYTES: u64 = 512;

/// Size and limits of a disk; lengths in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Capacity in 512-byte sectors.
    pub sectors: u64,
    /// Smallest unit of a transfer; a power of two, at least 512.
    pub logical_block: u32,
    /// Unit the storage works in, to which guests should align; a power of two, at least `logical_block`.
    pub physical_block: u32,
    /// Unit in which discards free space; a multiple of `logical_block`.
    pub discard_granularity: u32,
    /// Longest discard or write-zeroes range the disk takes at once.
    pub max_discard: u64,
    /// Writes, discards and write-zeroes fail.
    pub read_only: bool,
}

/// A [`Geometry`] that contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// See the message.
    #[error("a disk needs at least one sector")]
    Empty,
    /// See the message.
    #[error("a disk of {0} sectors has more bytes than a 63-bit file offset can address")]
    TooLarge(u64),
    /// See the message.
    #[error("logical block {0} must be a power of two of at least 512 bytes")]
    LogicalBlock(u32),
    /// See the message.
    #[error("physical block {0} must be a power of two and no smaller than the logical block")]
    PhysicalBlock(u32),
    /// See the message.
    #[error("discard granularity {0} must be a multiple of the logical block")]
    DiscardGranularity(u32),
}

impl Geometry {
    /// A writable disk of `sectors` with 512-byte logical and 4096-byte physical blocks.
    pub fn of_sectors(sectors: u64) -> Geometry {
        Geometry {
            sectors,
            logical_block: 512,
            physical_block: 4096,
            discard_granularity: 4096,
            max_discard: 1 << 30,
            read_only: false,
        }
    }

    /// Capacity in bytes.
    pub fn bytes(&self) -> u64 {
        self.sectors.saturating_mul(SECTOR_BYTES)
    }

    /// Checks that the fields agree with each other.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn validate(&self) -> Result<(), GeometryError> {
        if self.sectors == 0 {
            return Err(GeometryError::Empty);
        }
        if self.sectors > (i64::MAX as u64) / SECTOR_BYTES {
            return Err(GeometryError::TooLarge(self.sectors));
        }
        if !self.logical_block.is_power_of_two() || self.logical_block < 512 {
            return Err(GeometryError::LogicalBlock(self.logical_block));
        }
        if !self.physical_block.is_power_of_two() || self.physical_block < self.logical_block {
            return Err(GeometryError::PhysicalBlock(self.physical_block));
        }
        if self.discard_granularity == 0
            || !self.discard_granularity.is_multiple_of(self.logical_block)
        {
            return Err(GeometryError::DiscardGranularity(self.discard_granularity));
        }
        Ok(())
    }

    /// Checks one operation against size and access mode: what every channel does before it touches anything.
    ///
    /// # Errors
    /// [`ErrorKind::ReadOnly`], [`ErrorKind::OutOfRange`] (also on arithmetic overflow).
    pub fn admit(&self, operation: &Operation<'_>) -> Result<(), ErrorKind> {
        let reads = matches!(operation, Operation::Read { .. } | Operation::Flush);
        if self.read_only && !reads {
            return Err(ErrorKind::ReadOnly);
        }
        match operation.range() {
            Some((offset, len)) if offset.checked_add(len).is_none_or(|end| end > self.bytes()) => {
                Err(ErrorKind::OutOfRange)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Segment;

    #[test]
    fn contradictions_are_named() {
        let good = Geometry::of_sectors(8);
        assert_eq!(good.validate(), Ok(()));
        let cases = [
            (Geometry { sectors: 0, ..good }, GeometryError::Empty),
            (
                Geometry {
                    sectors: u64::MAX,
                    ..good
                },
                GeometryError::TooLarge(u64::MAX),
            ),
            (
                Geometry {
                    logical_block: 256,
                    ..good
                },
                GeometryError::LogicalBlock(256),
            ),
            (
                Geometry {
                    logical_block: 768,
                    ..good
                },
                GeometryError::LogicalBlock(768),
            ),
            (
                Geometry {
                    logical_block: 8192,
                    ..good
                },
                GeometryError::PhysicalBlock(4096),
            ),
            (
                Geometry {
                    discard_granularity: 100,
                    ..good
                },
                GeometryError::DiscardGranularity(100),
            ),
        ];
        for (geometry, error) in cases {
            assert_eq!(geometry.validate(), Err(error));
        }
    }

    #[test]
    fn operations_outside_the_disk_are_refused() {
        let g = Geometry::of_sectors(2);
        let segment = [Segment {
            address: 0,
            len: 512,
        }];
        let read = |offset| Operation::Read {
            offset,
            segments: &segment,
        };
        assert_eq!(g.admit(&read(512)), Ok(()));
        assert_eq!(g.admit(&read(513)), Err(ErrorKind::OutOfRange));
        assert_eq!(g.admit(&read(u64::MAX)), Err(ErrorKind::OutOfRange));
        assert_eq!(
            g.admit(&Operation::Discard {
                offset: 1,
                len: u64::MAX
            }),
            Err(ErrorKind::OutOfRange)
        );
        let ro = Geometry {
            read_only: true,
            ..g
        };
        assert_eq!(
            ro.admit(&Operation::Discard {
                offset: 0,
                len: 512
            }),
            Err(ErrorKind::ReadOnly)
        );
        assert_eq!(ro.admit(&Operation::Flush), Ok(()));
    }
}
