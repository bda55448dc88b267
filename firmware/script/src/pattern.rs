//! The data a disk is filled with: every sector differs, and says so.

/// Bytes of a sector.
pub const SECTOR: usize = 512;

const WORDS: u64 = (SECTOR / 8) as u64;

/// What a range of sectors should contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Words that depend on the seed, the sector and the place in it.
    Seed(u64),
    /// Zeroes.
    Zero,
}

/// A well-spread 64-bit value of another one (the finaliser of SplitMix64).
pub fn mix(value: u64) -> u64 {
    let mut value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

impl Pattern {
    fn word(self, sector: u64, index: u64) -> u64 {
        match self {
            Self::Seed(seed) => mix(mix(seed) ^ sector.wrapping_mul(WORDS).wrapping_add(index)),
            Self::Zero => 0,
        }
    }

    /// Fills whole sectors from `first` on; a rest shorter than a sector is left alone.
    pub fn fill(self, first: u64, bytes: &mut [u8]) {
        for (sector, content) in (first..).zip(bytes.chunks_exact_mut(SECTOR)) {
            for (index, word) in (0..).zip(content.chunks_exact_mut(8)) {
                word.copy_from_slice(&self.word(sector, index).to_le_bytes());
            }
        }
    }

    /// The first of these sectors, from `first` on, that differs.
    pub fn first_difference(self, first: u64, bytes: &[u8]) -> Option<u64> {
        (first..)
            .zip(bytes.chunks_exact(SECTOR))
            .find_map(|(sector, content)| {
                let same = (0..)
                    .zip(content.chunks_exact(8))
                    .all(|(index, word)| word == self.word(sector, index).to_le_bytes());
                (!same).then_some(sector)
            })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;

    #[test]
    fn finds_the_first_bad_sector() {
        let mut bytes = vec![0; 8 * SECTOR];
        Pattern::Seed(7).fill(100, &mut bytes);
        assert_eq!(Pattern::Seed(7).first_difference(100, &bytes), None);
        bytes[5 * SECTOR + 511] ^= 1;
        bytes[6 * SECTOR] ^= 1;
        assert_eq!(Pattern::Seed(7).first_difference(100, &bytes), Some(105));
    }

    #[test]
    fn seed_and_sector_both_matter() {
        let mut bytes = vec![0; SECTOR];
        Pattern::Seed(1).fill(3, &mut bytes);
        assert_eq!(Pattern::Seed(2).first_difference(3, &bytes), Some(3));
        assert_eq!(Pattern::Seed(1).first_difference(4, &bytes), Some(4));
        assert_eq!(Pattern::Zero.first_difference(3, &bytes), Some(3));
        Pattern::Zero.fill(3, &mut bytes);
        assert_eq!(Pattern::Zero.first_difference(9, &bytes), None);
    }
}
