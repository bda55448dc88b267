//! The host bridge at 00:00.0.

use std::sync::{Mutex, PoisonError};

use crate::{DecodedBar, FunctionConfig, Identity, PciFunction};

/// A host bridge without registers of its own; it tells the guest that the bus exists.
pub struct HostBridge {
    config: Mutex<FunctionConfig>,
}

impl HostBridge {
    /// The bridge. Class 06 00 00.
    pub fn new() -> Self {
        let identity = Identity {
            vendor: 0x1AF4,
            device: 0x1100,
            revision: 1,
            class: 0x06_00_00,
            subsystem_vendor: 0x1AF4,
            subsystem: 0x1100,
        };
        Self {
            config: Mutex::new(FunctionConfig::new(identity)),
        }
    }
}

impl Default for HostBridge {
    fn default() -> Self {
        Self::new()
    }
}

impl PciFunction for HostBridge {
    fn read_config(&self, offset: u16, data: &mut [u8]) {
        self.config
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .read(offset, data);
    }

    fn write_config(&self, offset: u16, data: &[u8]) {
        self.config
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(offset, data);
    }

    fn read_bar(&self, _bar: u8, _offset: u64, data: &mut [u8]) {
        data.fill(0xFF);
    }

    fn write_bar(&self, _bar: u8, _offset: u64, _data: &[u8]) {}

    fn bars(&self) -> Vec<DecodedBar> {
        Vec::new()
    }
}
