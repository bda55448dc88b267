//! PCI functions through ECAM, their memory BARs, and MSI-X (PCI Local Bus 3.0 §6, PCIe 5.0 §7.2.2).

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use tables::Ecam;

use crate::cpu;
use crate::io::Mmio;

const COMMAND: u64 = 0x04;
const HEADER_TYPE: u64 = 0x0C;
const BAR0: u64 = 0x10;
const CAPABILITIES: u64 = 0x34;
/// Memory space, bus master, no INTx.
const COMMAND_ON: u32 = 0x0406;
const CAPABILITY_MSIX: u8 = 0x11;
/// A list of capabilities cannot be longer: each takes at least 4 of 192 bytes.
const MAX_CAPABILITIES: usize = 48;
/// Unassigned BARs are put here, upwards, below the usual place of the ECAM.
const WINDOW: u32 = 0xD000_0000;

static NEXT_BAR: AtomicU32 = AtomicU32::new(WINDOW);
static NEXT_VECTOR: AtomicU8 = AtomicU8::new(cpu::VECTOR_FIRST_DEVICE);

/// A PCI function on segment 0.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    config: Mmio,
    /// Where it is.
    pub location: Location,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
}

/// Bus, device and function; displays as `00:01.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location(u8, u8, u8);

impl fmt::Display for Location {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{:02x}:{:02x}.{}", self.0, self.1, self.2)
    }
}

/// All functions on the first bus.
pub fn scan(ecam: Ecam) -> Vec<Function> {
    let mut found = Vec::new();
    for device in 0..32_u8 {
        for number in 0..8_u8 {
            let offset =
                u64::from(ecam.first_bus) << 20 | u64::from(device) << 15 | u64::from(number) << 12;
            // SAFETY: the MCFG names this region as configuration space; it lies in the MMIO space below 4 GiB.
            let config = unsafe { Mmio::new(ecam.base + offset) };
            let id = config.read_u32();
            let present = id & 0xFFFF != 0xFFFF;
            if present {
                let location = Location(ecam.first_bus, device, number);
                found.push(Function {
                    config,
                    location,
                    vendor: id as u16,
                    device: (id >> 16) as u16,
                });
            }
            let many =
                present && (number > 0 || config.at(HEADER_TYPE).read_u32() & (1 << 23) != 0);
            if !many && number == 0 {
                break;
            }
        }
    }
    found
}

/// A capability: its id and where in the configuration space it is.
#[derive(Debug, Clone, Copy)]
pub struct Capability {
    /// Capability id.
    pub id: u8,
    /// Offset of its first byte.
    pub offset: u64,
    /// Its first four bytes.
    pub head: u32,
}

impl Function {
    /// Four bytes of configuration space; the offset must be a multiple of 4 below 4096.
    pub fn config(&self, offset: u64) -> u32 {
        self.config.at(offset & 0xFFC).read_u32()
    }

    fn write_config(&self, offset: u64, value: u32) {
        self.config.at(offset & 0xFFC).write_u32(value);
    }

    /// Lets it decode memory, master the bus, and not use INTx.
    pub fn enable(&self) {
        self.write_config(COMMAND, COMMAND_ON);
    }

    /// Its capabilities.
    pub fn capabilities(&self) -> Vec<Capability> {
        let mut found = Vec::new();
        let mut offset = u64::from(self.config(CAPABILITIES) as u8 & 0xFC);
        while offset >= 0x40 && found.len() < MAX_CAPABILITIES {
            let head = self.config(offset);
            found.push(Capability {
                id: head as u8,
                offset,
                head,
            });
            offset = u64::from((head >> 8) as u8 & 0xFC);
        }
        found
    }

    /// The registers behind memory BAR `index` (0 to 5), given an address first if it has none. `None` if it is no
    /// memory BAR or lies beyond 4 GiB.
    pub fn bar(&self, index: u8) -> Option<Mmio> {
        let register = BAR0 + 4 * u64::from(index.min(5));
        let low = self.config(register);
        if low & 1 != 0 {
            return None;
        }
        let wide = low & 6 == 4;
        if wide && self.config(register + 4) != 0 {
            return None;
        }
        let address = match low & !0xF {
            0 => self.assign(register, wide)?,
            address => address,
        };
        // SAFETY: the function decodes this address, which lies in the MMIO space below 4 GiB.
        Some(unsafe { Mmio::new(u64::from(address)) })
    }

    fn assign(&self, register: u64, wide: bool) -> Option<u32> {
        self.write_config(COMMAND, 0);
        self.write_config(register, u32::MAX);
        let size = (self.config(register) & !0xF).wrapping_neg();
        if size == 0 || !size.is_power_of_two() {
            return None;
        }
        let address = NEXT_BAR
            .load(Ordering::Relaxed)
            .checked_next_multiple_of(size)?;
        NEXT_BAR.store(address.checked_add(size)?, Ordering::Relaxed);
        self.write_config(register, address);
        if wide {
            self.write_config(register + 4, 0);
        }
        Some(address)
    }

    /// Turns MSI-X on with every entry masked. `None` if the function lacks it.
    pub fn enable_msix(&self, capabilities: &[Capability]) -> Option<Msix> {
        let capability = capabilities
            .iter()
            .find(|capability| capability.id == CAPABILITY_MSIX)?;
        let place = self.config(capability.offset + 4);
        let table = self.bar(place as u8 & 7)?.at(u64::from(place & !7));
        self.write_config(capability.offset, capability.head | 1 << 31);
        Some(Msix {
            table,
            entries: ((capability.head >> 16) as u16 & 0x7FF) + 1,
        })
    }
}

/// A function's MSI-X table.
#[derive(Debug, Clone, Copy)]
pub struct Msix {
    table: Mmio,
    entries: u16,
}

impl Msix {
    /// Directs an entry to a vector of this CPU, its own as long as there are any. Returns whether the entry exists.
    pub fn route(&self, entry: u16) -> bool {
        if entry >= self.entries {
            return false;
        }
        let vector = NEXT_VECTOR.load(Ordering::Relaxed);
        NEXT_VECTOR.store(
            vector.saturating_add(1).min(cpu::VECTOR_LAST_DEVICE),
            Ordering::Relaxed,
        );
        let at = self.table.at(16 * u64::from(entry));
        at.write_u32(0xFEE0_0000 | u32::from(cpu::local_apic_id()) << 12);
        at.at(4).write_u32(0);
        at.at(8).write_u32(u32::from(vector));
        at.at(12).write_u32(0);
        true
    }
}
