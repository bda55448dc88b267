//! Sets of platform configuration registers.

use std::fmt;

use crate::wire::{Missing, Reader, Writer};

/// Registers of a PC's TPM (TCG PC Client Platform TPM Profile §4.6).
pub const PCR_COUNT: u8 = 24;
const SHA256: u16 = 0x000b;
const MASK_BYTES: u8 = 3;

/// Some registers of the SHA-256 bank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pcrs(u32);

impl Pcrs {
    /// PCR 7, the Secure Boot policy; the crate's description says why.
    pub const DEFAULT: Self = Self(1 << 7);

    /// Registers 0–23; `None` when one is beyond or there is none.
    #[must_use]
    pub fn new(registers: &[u8]) -> Option<Self> {
        let mask = registers
            .iter()
            .try_fold(0, |mask, r| (*r < PCR_COUNT).then(|| mask | 1 << r))?;
        (mask != 0).then_some(Self(mask))
    }

    /// In ascending order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..PCR_COUNT).filter(move |r| self.0 & 1 << r != 0)
    }

    pub(crate) fn mask(self) -> u32 {
        self.0
    }

    pub(crate) fn from_mask(mask: u32) -> Option<Self> {
        (mask != 0 && mask < 1 << PCR_COUNT).then_some(Self(mask))
    }

    /// TPML_PCR_SELECTION with the one bank, Part 2 §10.9.7.
    pub(crate) fn write(self, writer: Writer) -> Writer {
        let [low, middle, high, _] = self.0.to_le_bytes();
        writer
            .u32(1)
            .u16(SHA256)
            .u8(MASK_BYTES)
            .bytes(&[low, middle, high])
    }

    /// The registers of the bank in a TPML_PCR_SELECTION; `None` when none is selected.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Missing> {
        let what = "the selection of PCRs";
        let mut mask = 0;
        // A TPM has a bank per hash algorithm it knows, Part 2 §10.9.7.
        let banks = Some(reader.u32(what)?).filter(|n| *n <= 16).ok_or(what)?;
        for _ in 0..banks {
            let bank = reader.u16(what)?;
            let length = reader.u8(what)?;
            let bytes = reader.take(usize::from(length), what)?;
            if bank == SHA256 {
                for (n, byte) in bytes.iter().take(usize::from(MASK_BYTES)).enumerate() {
                    mask |= u32::from(*byte) << (8 * n);
                }
            }
        }
        Ok(Self::from_mask(mask))
    }
}

impl fmt::Display for Pcrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: Vec<String> = self.iter().map(|r| r.to_string()).collect();
        write!(f, "PCR {}", text.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_written_as_they_are_read() {
        for registers in [&[7][..], &[0, 7, 23], &[8, 15, 16]] {
            let pcrs = Pcrs::new(registers).expect("registers that exist");
            assert!(pcrs.iter().eq(registers.iter().copied()));
            let bytes = pcrs.write(Writer::default()).finish();
            assert_eq!(bytes.len(), 10);
            assert_eq!(Pcrs::read(&mut Reader::new(&bytes)), Ok(Some(pcrs)));
        }
        assert_eq!(Pcrs::DEFAULT, Pcrs::new(&[7]).expect("a register"));
        assert_eq!(
            Pcrs::new(&[0, 7]).expect("registers").to_string(),
            "PCR 0, 7"
        );
    }

    #[test]
    fn registers_that_do_not_exist_are_refused() {
        assert_eq!(Pcrs::new(&[]), None);
        assert_eq!(Pcrs::new(&[7, 24]), None);
        assert_eq!(Pcrs::from_mask(1 << 24), None);
        assert_eq!(Pcrs::from_mask(0), None);
    }
}
