//! What a guest reaches by port and memory accesses outside its RAM. Every access returns at once: no lock is held
//! while waiting for anything, and what nobody answers reads as ones.

mod pm1;
mod power;

use std::sync::Arc;

use pci::{ConfigPorts, RootBus};

use crate::console::Console;
use crate::layout;
use crate::protocol::ResetCause;

pub(crate) use power::Power;

/// Why a machine stops running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The guest powered off.
    PowerOff,
    /// The guest wants to start again.
    Reset(ResetCause),
    /// The guest faulted while handling a double fault.
    TripleFault,
    /// KVM cannot go on with the guest.
    GuestFailed(String),
    /// The host's side cannot go on.
    Failed(String),
}

/// The buses of a machine and what is on them.
pub(crate) struct Platform {
    pub(crate) console: Arc<Console>,
    pub(crate) power: Power,
    pci: RootBus,
    config_ports: ConfigPorts,
}

impl Platform {
    pub(crate) fn new(console: Arc<Console>, power: Power, pci: RootBus) -> Self {
        Self {
            console,
            power,
            pci,
            config_ports: ConfigPorts::default(),
        }
    }

    /// The guest reads items of `size` bytes from `port`.
    pub(crate) fn port_in(&self, port: u16, size: usize, data: &mut [u8]) {
        for item in data.chunks_mut(size) {
            item.fill(0xFF);
            if layout::COM1.contains(&port) {
                for (register, byte) in (port - layout::COM1.start..8).zip(item.chunks_mut(1)) {
                    self.console.read(low(register), byte);
                }
            } else if layout::PM1_EVENT.contains(&port) || layout::PM1_CONTROL.contains(&port) {
                self.power.read(port, item);
            } else if port == layout::RESET_PORT && item.len() == 1 {
                item.fill(self.power.reset_control());
            } else if layout::PCI_CONFIG.contains(&port) {
                self.config_ports
                    .read(&self.pci, port - layout::PCI_CONFIG.start, item);
            } else if port == layout::KEYBOARD_PORT {
                // Status: nothing to read, ready for a command.
                item.fill(0);
            }
        }
    }

    /// The guest writes items of `size` bytes to `port`.
    pub(crate) fn port_out(&self, port: u16, size: usize, data: &[u8]) -> Option<Outcome> {
        if layout::COM1.contains(&port) && size == 1 {
            self.console.write(low(port - layout::COM1.start), data);
            return None;
        }
        data.chunks(size)
            .find_map(|item| self.port_out_item(port, item))
    }

    fn port_out_item(&self, port: u16, item: &[u8]) -> Option<Outcome> {
        if layout::COM1.contains(&port) {
            for (register, byte) in (port - layout::COM1.start..8).zip(item.chunks(1)) {
                self.console.write(low(register), byte);
            }
        } else if layout::PM1_EVENT.contains(&port) || layout::PM1_CONTROL.contains(&port) {
            return self.power.write(port, item);
        } else if port == layout::RESET_PORT && item.len() == 1 {
            return self.power.write_reset_control(item[0]);
        } else if layout::PCI_CONFIG.contains(&port) {
            self.config_ports
                .write(&self.pci, port - layout::PCI_CONFIG.start, item);
        } else if port == layout::KEYBOARD_PORT && item == [0xFE] {
            return Some(Outcome::Reset(ResetCause::Keyboard));
        }
        None
    }

    /// The guest reads memory that is not RAM.
    pub(crate) fn memory_read(&self, address: u64, data: &mut [u8]) {
        if layout::ECAM.contains(&address) {
            self.pci.read_ecam(address - layout::ECAM.start, data);
        } else if !self.pci.read_memory(address, data) {
            data.fill(0xFF);
        }
    }

    /// The guest writes memory that is not RAM.
    pub(crate) fn memory_write(&self, address: u64, data: &[u8]) {
        if layout::ECAM.contains(&address) {
            self.pci.write_ecam(address - layout::ECAM.start, data);
        } else {
            self.pci.write_memory(address, data);
        }
    }
}

/// A register number below 8.
fn low(register: u16) -> u8 {
    register.to_le_bytes()[0]
}
