//! What firmware does at power-on: give every BAR an address.

use std::ops::Range;

use crate::{RootBus, config};

/// The guest-physical range BARs are placed in, from its start upwards.
#[derive(Debug, Clone)]
pub struct BarWindow {
    next: u64,
    end: u64,
}

impl BarWindow {
    /// A window over `range`.
    pub fn new(range: Range<u64>) -> Self {
        Self {
            next: range.start,
            end: range.end,
        }
    }

    /// Takes `size` bytes aligned to `size`, a power of two.
    fn take(&mut self, size: u64) -> Option<u64> {
        let base = self.next.checked_next_multiple_of(size)?;
        let end = base.checked_add(size)?;
        if end > self.end {
            return None;
        }
        self.next = end;
        Some(base)
    }
}

/// No room in the window for a BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no room in the PCI window for BAR {bar} ({size} bytes) of device {device}")]
pub struct WindowFull {
    /// The function's device number.
    pub device: u8,
    /// The BAR's index.
    pub bar: u8,
    /// Its size in bytes.
    pub size: u64,
}

/// Sizes every memory BAR on the bus and gives it an address in `window`, through configuration accesses as
/// firmware does (PCI 3.0 §6.2.5.1).
///
/// # Errors
/// The BARs do not fit the window.
pub fn place_bars(bus: &RootBus, window: &mut BarWindow) -> Result<(), WindowFull> {
    let devices: Vec<u8> = bus.functions().map(|(device, _)| device).collect();
    for device in devices {
        let mut bar = 0;
        while bar < 6 {
            bar += place(bus, window, device, bar)?;
        }
    }
    Ok(())
}

/// Places one BAR and returns how many registers it takes.
fn place(bus: &RootBus, window: &mut BarWindow, device: u8, bar: u8) -> Result<u8, WindowFull> {
    let register = config::bar_register(bar);
    let original = read(bus, device, register);
    let (io, wide) = (original & 1 != 0, original & 0b110 == 0b100);
    let low = size_mask(bus, device, register) & !0xF;
    let high = if wide {
        size_mask(bus, device, register + 4)
    } else {
        u32::MAX
    };
    let mask = u64::from(high) << 32 | u64::from(low);
    if low == 0 || io {
        return Ok(1);
    }
    let size = (!mask).wrapping_add(1);
    let base = window.take(size).ok_or(WindowFull { device, bar, size })?;
    // The upper half first: the BAR is then decoded once, at its final place.
    let bytes = base.to_le_bytes();
    if wide {
        bus.write_config(0, device, 0, register + 4, &bytes[4..]);
    }
    bus.write_config(0, device, 0, register, &bytes[..4]);
    Ok(if wide { 2 } else { 1 })
}

fn size_mask(bus: &RootBus, device: u8, register: u16) -> u32 {
    bus.write_config(0, device, 0, register, &[0xFF; 4]);
    let mask = read(bus, device, register);
    bus.write_config(0, device, 0, register, &[0; 4]);
    mask
}

fn read(bus: &RootBus, device: u8, register: u16) -> u32 {
    let mut data = [0; 4];
    bus.read_config(0, device, 0, register, &mut data);
    u32::from_le_bytes(data)
}
