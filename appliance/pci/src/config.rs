//! Configuration space of a type 0 function (PCI Local Bus 3.0 §6.1, §6.2.5, §6.7).

use crate::DecodedBar;

const SPACE: usize = 256;
const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const REVISION: usize = 0x08;
const CLASS: usize = 0x09;
const BAR_FIRST: usize = 0x10;
const BAR_REGISTERS: usize = 6;
const SUBSYSTEM: usize = 0x2C;
const CAPABILITIES_POINTER: usize = 0x34;
const CAPABILITIES_FIRST: usize = 0x40;

const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_BUS_MASTER: u16 = 1 << 2;
const COMMAND_INTX_DISABLE: u16 = 1 << 10;
const STATUS_CAPABILITIES: u16 = 1 << 4;

const BAR_TYPE_64: u64 = 0b100;
const BAR_PREFETCHABLE: u64 = 0b1000;
const BAR_FLAGS: u64 = 0xF;

/// Capability id of MSI-X.
pub const CAPABILITY_MSIX: u8 = 0x11;
/// Capability id of vendor-specific capabilities; virtio uses it (virtio 1.2 §4.1.4).
pub const CAPABILITY_VENDOR: u8 = 0x09;

const MSIX_ENABLE: u16 = 1 << 15;
const MSIX_FUNCTION_MASK: u16 = 1 << 14;

/// The fixed identification registers of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Revision id.
    pub revision: u8,
    /// Class code, 24 bits: base class, sub-class, programming interface.
    pub class: u32,
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem id.
    pub subsystem: u16,
}

/// Why a configuration space could not be laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The BAR index and width need registers that do not exist or are taken.
    #[error("BAR {0} does not exist or is already in use")]
    BarTaken(u8),
    /// The BAR's size is not a power of two of at least 16 bytes.
    #[error("a BAR of {0} bytes: the size must be a power of two, at least 16")]
    BarSize(u64),
    /// No room below 256 bytes for this capability.
    #[error("capability {0:#04x} does not fit below offset 256")]
    CapabilityTooLong(u8),
    /// An MSI-X table needs 1 to 2048 vectors and offsets that are multiples of 8 within 32 bits.
    #[error("MSI-X needs 1 to 2048 vectors and table offsets that are multiples of 8 below 4 GiB")]
    MsixLayout,
}

/// A BAR that is decoded elsewhere than before a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarMove {
    /// Index of the BAR's first register.
    pub bar: u8,
    /// Where it was decoded, if it was.
    pub from: Option<u64>,
    /// Where it is decoded now, if it is.
    pub to: Option<u64>,
}

/// What a write to configuration space changed, for the function to act upon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigWrite {
    /// BARs that moved, appeared or vanished: pass each to the function's [`crate::BarListener`].
    pub moves: Vec<BarMove>,
    /// The MSI-X message control register was written: pass on to [`crate::MsixTable::set_control`].
    pub msix_control: Option<u16>,
}

/// Offset of the register of BAR `bar`, 0 to 5.
pub(crate) fn bar_register(bar: u8) -> u16 {
    0x10 + 4 * u16::from(bar)
}

#[derive(Debug, Clone, Copy)]
struct Bar {
    first: u8,
    size: u64,
    wide: bool,
    decoded: Option<u64>,
}

/// Configuration space of one type 0 function: 256 bytes with a write mask, memory BARs, a capability list.
/// The extended space from 256 to 4095 is empty and reads as zero.
///
/// Memory decoding is on from the start (a BAR counts as decoded once it has a non-zero address).
#[derive(Debug, Clone)]
pub struct FunctionConfig {
    bytes: [u8; SPACE],
    writable: [u8; SPACE],
    bars: Vec<Bar>,
    next_capability: usize,
    last_capability: usize,
    msix: Option<usize>,
}

impl FunctionConfig {
    /// A type 0 header without BARs and capabilities, no interrupt pin.
    pub fn new(identity: Identity) -> Self {
        let mut config = Self {
            bytes: [0; SPACE],
            writable: [0; SPACE],
            bars: Vec::new(),
            next_capability: CAPABILITIES_FIRST,
            last_capability: 0,
            msix: None,
        };
        config.put(0, &identity.vendor.to_le_bytes());
        config.put(2, &identity.device.to_le_bytes());
        config.put(REVISION, &[identity.revision]);
        config.put(CLASS, &identity.class.to_le_bytes()[..3]);
        config.put(SUBSYSTEM, &identity.subsystem_vendor.to_le_bytes());
        config.put(SUBSYSTEM + 2, &identity.subsystem.to_le_bytes());
        config.put(COMMAND, &COMMAND_MEMORY.to_le_bytes());
        let command = COMMAND_MEMORY | COMMAND_BUS_MASTER | COMMAND_INTX_DISABLE;
        config.allow(COMMAND, &command.to_le_bytes());
        // Cache line size and interrupt line are scratch registers that software expects to keep what it wrote.
        config.allow(0x0C, &[0xFF]);
        config.allow(0x3C, &[0xFF]);
        config
    }

    /// Adds a memory BAR at register `bar` of `size` bytes, 64-bit (`wide`, takes two registers) or 32-bit.
    ///
    /// # Errors
    /// The registers are taken, or the size is not a power of two of at least 16 bytes (below 4 GiB for a
    /// 32-bit one).
    pub fn add_memory_bar(
        &mut self,
        bar: u8,
        size: u64,
        wide: bool,
        prefetchable: bool,
    ) -> Result<(), ConfigError> {
        let registers = if wide { 2 } else { 1 };
        let (from, to) = (usize::from(bar), usize::from(bar) + registers);
        let taken = self.bars.iter().any(|other| {
            let start = usize::from(other.first);
            let end = start + if other.wide { 2 } else { 1 };
            from < end && start < to
        });
        if taken || to > BAR_REGISTERS {
            return Err(ConfigError::BarTaken(bar));
        }
        if !size.is_power_of_two() || size < 16 || (!wide && size > 1 << 31) {
            return Err(ConfigError::BarSize(size));
        }
        let kind =
            if wide { BAR_TYPE_64 } else { 0 } | if prefetchable { BAR_PREFETCHABLE } else { 0 };
        let at = BAR_FIRST + 4 * from;
        let mask = !(size - 1) & !BAR_FLAGS;
        self.put(at, &kind.to_le_bytes()[..4 * registers]);
        self.allow(at, &mask.to_le_bytes()[..4 * registers]);
        self.bars.push(Bar {
            first: bar,
            size,
            wide,
            decoded: None,
        });
        Ok(())
    }

    /// Appends a capability: `body` is what follows the id and next-pointer bytes; a set bit in `writable`
    /// (same indexing, may be shorter) lets the guest change that bit. Returns the offset of the capability's
    /// id byte, so the body starts 2 bytes later.
    ///
    /// # Errors
    /// The capability does not fit below offset 256.
    pub fn add_capability(
        &mut self,
        id: u8,
        body: &[u8],
        writable: &[u8],
    ) -> Result<u8, ConfigError> {
        let at = self.next_capability;
        let end = at + 2 + body.len();
        let (Ok(offset), true) = (
            u8::try_from(at),
            end <= SPACE && writable.len() <= body.len(),
        ) else {
            return Err(ConfigError::CapabilityTooLong(id));
        };
        self.put(at, &[id, 0]);
        self.put(at + 2, body);
        self.allow(at + 2, writable);
        if self.last_capability == 0 {
            self.put(CAPABILITIES_POINTER, &[offset]);
            self.put(STATUS, &STATUS_CAPABILITIES.to_le_bytes());
        } else {
            self.put(self.last_capability + 1, &[offset]);
        }
        self.last_capability = at;
        self.next_capability = end.next_multiple_of(4);
        Ok(offset)
    }

    /// Appends the MSI-X capability (PCI 3.0 §6.8.2) for `vectors` vectors whose table and pending bits lie
    /// at these offsets of BAR `bar`. Returns the capability's offset.
    ///
    /// # Errors
    /// The number of vectors or an offset is out of range, or no room is left.
    pub fn add_msix(
        &mut self,
        vectors: u16,
        bar: u8,
        table_offset: u32,
        pba_offset: u32,
    ) -> Result<u8, ConfigError> {
        let aligned = table_offset.is_multiple_of(8) && pba_offset.is_multiple_of(8);
        if !(1..=2048).contains(&vectors) || !aligned || usize::from(bar) >= BAR_REGISTERS {
            return Err(ConfigError::MsixLayout);
        }
        let mut body = [0; 10];
        body[..2].copy_from_slice(&(vectors - 1).to_le_bytes());
        body[2..6].copy_from_slice(&(table_offset | u32::from(bar)).to_le_bytes());
        body[6..].copy_from_slice(&(pba_offset | u32::from(bar)).to_le_bytes());
        let control = (MSIX_ENABLE | MSIX_FUNCTION_MASK).to_le_bytes();
        let offset = self.add_capability(CAPABILITY_MSIX, &body, &control)?;
        self.msix = Some(usize::from(offset));
        Ok(offset)
    }

    /// Reads; past the end of the 4096 bytes gives ones, the extended space gives zeroes.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        for (index, byte) in data.iter_mut().enumerate() {
            let at = usize::from(offset) + index;
            *byte = match self.bytes.get(at) {
                Some(value) => *value,
                None if at < 4096 => 0,
                None => 0xFF,
            };
        }
    }

    /// Writes what the masks allow and tells what that changed.
    pub fn write(&mut self, offset: u16, data: &[u8]) -> ConfigWrite {
        let start = usize::from(offset);
        for (index, value) in data.iter().enumerate() {
            if let (Some(byte), Some(mask)) = (
                self.bytes.get_mut(start + index),
                self.writable.get(start + index),
            ) {
                *byte = (*byte & !mask) | (value & mask);
            }
        }
        let touches =
            |from: usize, length: usize| start < from + length && from < start + data.len();
        let mut outcome = ConfigWrite::default();
        if touches(COMMAND, 2) || touches(BAR_FIRST, 4 * BAR_REGISTERS) {
            outcome.moves = self.decode();
        }
        if let Some(msix) = self.msix.filter(|msix| touches(msix + 2, 2)) {
            outcome.msix_control = Some(self.get16(msix + 2));
        }
        outcome
    }

    /// Sets bytes whatever the masks say (device-driven registers, the data window of
    /// virtio's PCI-cfg capability). Bytes past 256 are dropped. Not for BARs, command or MSI-X control.
    pub fn set(&mut self, offset: usize, data: &[u8]) {
        for (index, value) in data.iter().enumerate() {
            if let Some(byte) = self.bytes.get_mut(offset.saturating_add(index)) {
                *byte = *value;
            }
        }
    }

    /// The memory BARs decoded now.
    pub fn bars(&self) -> Vec<DecodedBar> {
        let decoded = |bar: &Bar| {
            bar.decoded.map(|base| DecodedBar {
                bar: bar.first,
                base,
                size: bar.size,
            })
        };
        self.bars.iter().filter_map(decoded).collect()
    }

    /// Whether the guest lets the function reach memory (bus master enable).
    pub fn bus_master(&self) -> bool {
        self.get16(COMMAND) & COMMAND_BUS_MASTER != 0
    }

    /// Sets the power-on value of bytes.
    fn put(&mut self, offset: usize, data: &[u8]) {
        for (index, value) in data.iter().enumerate() {
            self.bytes[offset + index] = *value;
        }
    }

    fn allow(&mut self, offset: usize, mask: &[u8]) {
        for (index, value) in mask.iter().enumerate() {
            self.writable[offset + index] = *value;
        }
    }

    fn get16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    /// Compares where each BAR is decoded with where it was.
    fn decode(&mut self) -> Vec<BarMove> {
        let enabled = self.get16(COMMAND) & COMMAND_MEMORY != 0;
        let mut moves = Vec::new();
        for bar in &mut self.bars {
            let at = BAR_FIRST + 4 * usize::from(bar.first);
            let length = if bar.wide { 8 } else { 4 };
            let mut register = [0; 8];
            register[..length].copy_from_slice(&self.bytes[at..at + length]);
            let base = u64::from_le_bytes(register) & !BAR_FLAGS;
            // Half a register of ones is what a guest writes to learn the size; zero is "unassigned".
            let ones = !(bar.size - 1) & 0xFFFF_FFFF;
            let sizing = base & 0xFFFF_FFFF == ones && ones != 0 || base >> 32 == 0xFFFF_FFFF;
            let decoded = (enabled && base != 0 && !sizing).then_some(base);
            if decoded != bar.decoded {
                moves.push(BarMove {
                    bar: bar.first,
                    from: bar.decoded,
                    to: decoded,
                });
                bar.decoded = decoded;
            }
        }
        moves
    }
}
