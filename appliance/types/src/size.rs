//! Sizes in bytes, with the arithmetic that cannot wrap.

use std::{fmt, iter::Sum, ops::Add};

/// The unit of block addresses (virtio 1.2 §5.2): 512 bytes, whatever the disk's physical block.
pub const SECTOR_SIZE: ByteCount = ByteCount::new(512);

/// A number of bytes. Serialised as the plain number of bytes.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct ByteCount(u64);

impl ByteCount {
    /// No bytes.
    pub const ZERO: Self = Self(0);
    /// 1,024 bytes.
    pub const KIB: Self = Self(1 << 10);
    /// 1,024 KiB.
    pub const MIB: Self = Self(1 << 20);
    /// 1,024 MiB.
    pub const GIB: Self = Self(1 << 30);

    /// That many bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// That many MiB; saturates at the largest count there is.
    #[must_use]
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib.saturating_mul(Self::MIB.0))
    }

    /// That many GiB; saturates at the largest count there is.
    #[must_use]
    pub const fn from_gib(gib: u64) -> Self {
        Self(gib.saturating_mul(Self::GIB.0))
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Whole MiB, rounded down.
    #[must_use]
    pub const fn mib(self) -> u64 {
        self.0 / Self::MIB.0
    }

    /// Whole GiB, rounded down.
    #[must_use]
    pub const fn gib(self) -> u64 {
        self.0 / Self::GIB.0
    }

    /// Whole sectors, rounded down.
    #[must_use]
    pub const fn sectors(self) -> u64 {
        self.0 / SECTOR_SIZE.0
    }

    /// Whether it is a whole number of `unit`s. A zero unit divides nothing.
    #[must_use]
    pub const fn is_multiple_of(self, unit: Self) -> bool {
        unit.0 != 0 && self.0.is_multiple_of(unit.0)
    }

    /// The next multiple of `unit`, or itself; `None` when that overflows or `unit` is zero.
    #[must_use]
    pub const fn checked_next_multiple_of(self, unit: Self) -> Option<Self> {
        match self.0.checked_next_multiple_of(unit.0) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }

    /// The sum, or `None` on overflow.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }

    /// The difference, or zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// Saturates at the largest count there is.
impl Add for ByteCount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for ByteCount {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::ZERO, Add::add)
    }
}

/// In the largest binary unit that divides it: `1 GiB`, `1536 MiB`, `513 bytes`.
impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, name) in [(Self::GIB, "GiB"), (Self::MIB, "MiB"), (Self::KIB, "KiB")] {
            if self.0 >= unit.0 && self.is_multiple_of(unit) {
                return f.pad(&format!("{} {name}", self.0 / unit.0));
            }
        }
        f.pad(&format!("{} bytes", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_in_the_largest_unit_that_divides() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (513, "513 bytes"),
            (1024, "1 KiB"),
            (1536 << 20, "1536 MiB"),
            (1 << 30, "1 GiB"),
            ((1 << 30) + 1, "1073741825 bytes"),
        ] {
            assert_eq!(ByteCount::new(bytes).to_string(), text);
        }
    }

    #[test]
    fn arithmetic_never_wraps() {
        assert_eq!(ByteCount::from_gib(u64::MAX).bytes(), u64::MAX);
        assert_eq!(
            (ByteCount::new(u64::MAX) + ByteCount::MIB).bytes(),
            u64::MAX
        );
        assert_eq!(
            ByteCount::new(u64::MAX).checked_add(ByteCount::new(1)),
            None
        );
        assert_eq!(
            ByteCount::ZERO.saturating_sub(ByteCount::GIB),
            ByteCount::ZERO
        );
        assert_eq!(
            ByteCount::new(u64::MAX).checked_next_multiple_of(SECTOR_SIZE),
            None
        );
        assert!(!ByteCount::GIB.is_multiple_of(ByteCount::ZERO));
    }
}
