#![no_std]
#![forbid(unsafe_code)]
//! Reading what a machine says of itself: the PVH start info and the ACPI tables.
//!
//! Pure: memory comes through [`Memory`], so everything here is tested on the host. Nothing is trusted: a table
//! that is cut short or has nonsense lengths is as good as absent.

mod acpi;
mod start_info;

pub use acpi::{Acpi, Ecam, IoApic, MAX_CPUS, Override};
pub use start_info::{Range, StartInfo};

/// Physical memory to read tables from.
pub trait Memory {
    /// The bytes at a physical address, or `None` where there is no such memory.
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]>;

    /// A little-endian number of `N` (1 to 8) bytes.
    fn number<const N: usize>(&self, address: u64) -> Option<u64> {
        Some(little_endian(self.bytes(address, N)?))
    }
}

/// The little-endian number in up to 8 bytes.
pub(crate) fn little_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

#[cfg(test)]
pub(crate) mod test_memory {
    extern crate std;
    use std::vec::Vec;

    /// Memory that starts at address 0.
    pub(crate) struct Flat(pub(crate) Vec<u8>);

    impl crate::Memory for Flat {
        fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
            let from = usize::try_from(address).ok()?;
            self.0.get(from..from.checked_add(length)?)
        }
    }

    impl Flat {
        pub(crate) fn put(&mut self, address: usize, bytes: &[u8]) {
            self.0[address..address + bytes.len()].copy_from_slice(bytes);
        }
    }
}
