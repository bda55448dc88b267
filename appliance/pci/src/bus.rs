//! The root bus: bus 0, 32 devices, one function each, no bridges below.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::{DecodedBar, PciFunction};

const DEVICES: usize = 32;
/// Bytes of configuration space per function through ECAM (PCI Express 5.0 §7.2.2).
const FUNCTION_BYTES: u16 = 4096;

/// The device number is already in use or above 31.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("PCI device {0} is taken or above 31")]
pub struct SlotTaken(pub u8);

/// Functions by device number, and a map of where their BARs are decoded.
#[derive(Default)]
pub struct RootBus {
    slots: [Option<Arc<dyn PciFunction>>; DEVICES],
    /// Copy of what the functions decode, so that an access touches one function's locks, not all.
    decoded: RwLock<Vec<(usize, DecodedBar)>>,
    /// Serialises configuration writes, which change `decoded`.
    writes: Mutex<()>,
}

impl RootBus {
    /// An empty bus.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a function at `00:device.0`.
    ///
    /// # Errors
    /// The device number is taken or above 31.
    pub fn insert(&mut self, device: u8, function: Arc<dyn PciFunction>) -> Result<(), SlotTaken> {
        match self.slots.get_mut(usize::from(device)) {
            Some(slot @ None) => *slot = Some(function),
            _ => return Err(SlotTaken(device)),
        }
        self.refresh();
        Ok(())
    }

    /// The functions present with their device numbers.
    pub fn functions(&self) -> impl Iterator<Item = (u8, &Arc<dyn PciFunction>)> {
        (0..)
            .zip(&self.slots)
            .filter_map(|(device, slot)| Some((device, slot.as_ref()?)))
    }

    /// Reads through the ECAM window at `offset` from its base. No function: ones.
    pub fn read_ecam(&self, offset: u64, data: &mut [u8]) {
        let (bus, device, function, register) = ecam(offset);
        self.read_config(bus, device, function, register, data);
    }

    /// Writes through the ECAM window.
    pub fn write_ecam(&self, offset: u64, data: &[u8]) {
        let (bus, device, function, register) = ecam(offset);
        self.write_config(bus, device, function, register, data);
    }

    /// Reads configuration space of one function; ones where there is none.
    pub fn read_config(&self, bus: u8, device: u8, function: u8, register: u16, data: &mut [u8]) {
        match self.function(bus, device, function) {
            Some(present) if register < FUNCTION_BYTES => present.read_config(register, data),
            _ => data.fill(0xFF),
        }
    }

    /// Writes configuration space of one function; dropped where there is none.
    pub fn write_config(&self, bus: u8, device: u8, function: u8, register: u16, data: &[u8]) {
        let Some(present) = self.function(bus, device, function) else {
            return;
        };
        if register < FUNCTION_BYTES {
            let _one_at_a_time = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
            present.write_config(register, data);
            self.refresh();
        }
    }

    /// Reads memory if a BAR decodes `address`; tells whether one does.
    pub fn read_memory(&self, address: u64, data: &mut [u8]) -> bool {
        match self.decode(address) {
            Some((function, bar, offset)) => {
                function.read_bar(bar, offset, data);
                true
            }
            None => false,
        }
    }

    /// Writes memory if a BAR decodes `address`; tells whether one does.
    pub fn write_memory(&self, address: u64, data: &[u8]) -> bool {
        match self.decode(address) {
            Some((function, bar, offset)) => {
                function.write_bar(bar, offset, data);
                true
            }
            None => false,
        }
    }

    fn function(&self, bus: u8, device: u8, function: u8) -> Option<&Arc<dyn PciFunction>> {
        if bus != 0 || function != 0 {
            return None;
        }
        self.slots.get(usize::from(device))?.as_ref()
    }

    fn decode(&self, address: u64) -> Option<(&Arc<dyn PciFunction>, u8, u64)> {
        let decoded = self.decoded.read().unwrap_or_else(PoisonError::into_inner);
        let (slot, bar) = decoded.iter().find(|(_, bar)| {
            address
                .checked_sub(bar.base)
                .is_some_and(|offset| offset < bar.size)
        })?;
        Some((self.slots[*slot].as_ref()?, bar.bar, address - bar.base))
    }

    fn refresh(&self) {
        let mut decoded = self.decoded.write().unwrap_or_else(PoisonError::into_inner);
        decoded.clear();
        for (slot, function) in self.slots.iter().enumerate() {
            let bars = function.iter().flat_map(|function| function.bars());
            decoded.extend(bars.map(|bar| (slot, bar)));
        }
    }
}

/// Bus, device, function and register at an offset of the ECAM window.
fn ecam(offset: u64) -> (u8, u8, u8, u16) {
    let [_, device_function, bus, ..] = (offset >> 4).to_le_bytes();
    let [low, high, ..] = offset.to_le_bytes();
    (
        bus,
        device_function >> 3,
        device_function & 7,
        u16::from_le_bytes([low, high & 0xF]),
    )
}

/// Configuration mechanism #1: an address port at 0xCF8 and a data window at 0xCFC (PCI 3.0 §3.2.2.3.2).
#[derive(Debug, Default)]
pub struct ConfigPorts {
    address: Mutex<u32>,
}

impl ConfigPorts {
    /// First port of the pair.
    pub const FIRST: u16 = 0xCF8;
    /// Number of ports: the address and the data register, 4 bytes each.
    pub const COUNT: u16 = 8;

    /// Reads `data.len()` bytes at port 0xCF8 + `port`.
    pub fn read(&self, bus: &RootBus, port: u16, data: &mut [u8]) {
        let address = self.address();
        data.fill(0xFF);
        if port == 0 && data.len() == 4 {
            data.copy_from_slice(&address.to_le_bytes());
        } else if let Some((number, device, function, register)) = target(address, port) {
            bus.read_config(number, device, function, register, data);
        }
    }

    /// Writes at port 0xCF8 + `port`.
    pub fn write(&self, bus: &RootBus, port: u16, data: &[u8]) {
        if let (0, Ok(bytes)) = (port, <[u8; 4]>::try_from(data)) {
            *self.address.lock().unwrap_or_else(PoisonError::into_inner) =
                u32::from_le_bytes(bytes);
        } else if let Some((number, device, function, register)) = target(self.address(), port) {
            bus.write_config(number, device, function, register, data);
        }
    }

    fn address(&self) -> u32 {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn target(address: u32, port: u16) -> Option<(u8, u8, u8, u16)> {
    let [register, device_function, bus, high] = address.to_le_bytes();
    if high & 0x80 == 0 || !(4..8).contains(&port) {
        return None;
    }
    let register = u16::from(register & 0xFC) + (port - 4);
    Some((bus, device_function >> 3, device_function & 7, register))
}
