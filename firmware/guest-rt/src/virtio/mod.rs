//! Virtio 1.2 over PCI, modern only (§4.1), with one MSI-X vector per queue.
//!
//! A kick is one register write: the notification address of every queue is read once, when it is set up.

mod block;
mod entropy;
mod net;
mod queue;

use alloc::vec::Vec;
use core::fmt;

use crate::io::Mmio;
use crate::pci::{Capability, Function, Location, Msix};
use crate::time;

pub use block::{Block, Completion, Operation, SECTOR};
pub use entropy::Entropy;
pub use net::{Frame, Net, Receiver, Transmitter};
pub use queue::Queue;

/// Device types (§5).
pub const TYPE_NET: u16 = 1;
/// Block device.
pub const TYPE_BLOCK: u16 = 2;
/// Entropy source.
pub const TYPE_ENTROPY: u16 = 4;

const VENDOR: u16 = 0x1AF4;
const DEVICE_BASE: u16 = 0x1040;
const CAPABILITY_VENDOR: u8 = 0x09;

/// Feature bits every driver here takes if offered (§6).
pub const FEATURE_INDIRECT: u64 = 1 << 28;
/// Suppression of kicks and interrupts by ring position.
pub const FEATURE_EVENT_IDX: u64 = 1 << 29;
/// Modern device; required.
pub const FEATURE_VERSION_1: u64 = 1 << 32;
/// The device reaches memory as the platform says; with identity mapping nothing changes.
const FEATURE_ACCESS_PLATFORM: u64 = 1 << 33;

const STATUS_ACKNOWLEDGE: u8 = 1;
const STATUS_DRIVER: u8 = 2;
const STATUS_DRIVER_OK: u8 = 4;
const STATUS_FEATURES_OK: u8 = 8;

/// Offsets in the common configuration (§4.1.4.3).
mod common {
    pub(super) const DEVICE_FEATURE_SELECT: u64 = 0;
    pub(super) const DEVICE_FEATURE: u64 = 4;
    pub(super) const DRIVER_FEATURE_SELECT: u64 = 8;
    pub(super) const DRIVER_FEATURE: u64 = 12;
    pub(super) const STATUS: u64 = 20;
    pub(super) const QUEUE_SELECT: u64 = 22;
    pub(super) const QUEUE_SIZE: u64 = 24;
    pub(super) const QUEUE_VECTOR: u64 = 26;
    pub(super) const QUEUE_ENABLE: u64 = 28;
    pub(super) const QUEUE_NOTIFY_OFFSET: u64 = 30;
    pub(super) const QUEUE_DESCRIPTORS: u64 = 32;
    pub(super) const QUEUE_DRIVER: u64 = 40;
    pub(super) const QUEUE_DEVICE: u64 = 48;
}

/// Why a device cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// A structure of §4.1.4 is missing or in a BAR that cannot be used.
    Structure(&'static str),
    /// The device is not a modern one, or refused the features chosen from its own.
    Features,
    /// The device did not leave reset within a second.
    Reset,
    /// A queue the driver needs does not exist or is too small.
    Queue(u16),
    /// The function has no MSI-X, or not enough entries.
    Msix,
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Structure(name) => write!(out, "no usable {name} structure"),
            Self::Features => write!(out, "the device is not modern or refused its own features"),
            Self::Reset => write!(out, "the device did not reset within 1 s"),
            Self::Queue(index) => write!(out, "queue {index} is missing or too small"),
            Self::Msix => write!(out, "no MSI-X entry for every queue"),
        }
    }
}

/// The virtio device type of a PCI function, or `None` if it is none of the modern ones.
pub fn device_type(function: &Function) -> Option<u16> {
    (function.vendor == VENDOR)
        .then(|| function.device.checked_sub(DEVICE_BASE))?
        .filter(|kind| *kind != 0)
}

/// A device between reset and "driver ok" or in use.
#[derive(Debug)]
pub struct Device {
    /// Where it is.
    pub location: Location,
    common: Mmio,
    notify: Mmio,
    notify_multiplier: u32,
    config: Option<Mmio>,
    msix: Msix,
    /// Features both sides agreed on.
    pub features: u64,
}

impl Device {
    /// Resets the device and agrees on `wanted` and the general features, as far as offered (§3.1.1, steps 1 to 6).
    pub fn start(function: &Function, wanted: u64) -> Result<Self, Error> {
        let capabilities = function.capabilities();
        let find =
            |kind: u8, name| structure(function, &capabilities, kind).ok_or(Error::Structure(name));
        let (common, _) = find(1, "common configuration")?;
        let (notify, notify_capability) = find(2, "notification")?;
        let config = find(4, "device configuration")
            .ok()
            .map(|(registers, _)| registers);
        let notify_multiplier = function.config(notify_capability.offset + 16);
        let msix = function.enable_msix(&capabilities).ok_or(Error::Msix)?;
        function.enable();
        let mut device = Self {
            location: function.location,
            common,
            notify,
            notify_multiplier,
            config,
            msix,
            features: 0,
        };
        device.reset()?;
        device.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER);
        device.agree(wanted)?;
        Ok(device)
    }

    fn reset(&self) -> Result<(), Error> {
        self.set_status(0);
        let end = time::after_us(1_000_000);
        while self.common.at(common::STATUS).read_u8() != 0 {
            if time::tsc() > end {
                return Err(Error::Reset);
            }
        }
        Ok(())
    }

    fn set_status(&self, status: u8) {
        self.common.at(common::STATUS).write_u8(status);
    }

    fn agree(&mut self, wanted: u64) -> Result<(), Error> {
        let general =
            FEATURE_INDIRECT | FEATURE_EVENT_IDX | FEATURE_VERSION_1 | FEATURE_ACCESS_PLATFORM;
        let mut offered = 0;
        for half in 0..2_u32 {
            self.common
                .at(common::DEVICE_FEATURE_SELECT)
                .write_u32(half);
            offered |= u64::from(self.common.at(common::DEVICE_FEATURE).read_u32()) << (32 * half);
        }
        self.features = offered & (wanted | general);
        for half in 0..2_u32 {
            self.common
                .at(common::DRIVER_FEATURE_SELECT)
                .write_u32(half);
            self.common
                .at(common::DRIVER_FEATURE)
                .write_u32((self.features >> (32 * half)) as u32);
        }
        self.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
        let accepted = self.common.at(common::STATUS).read_u8() & STATUS_FEATURES_OK != 0;
        if !accepted || self.features & FEATURE_VERSION_1 == 0 {
            return Err(Error::Features);
        }
        Ok(())
    }

    /// Whether a feature was agreed on.
    pub fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// Sets up a queue of at most `limit` entries, with an MSI-X entry of its own (§4.1.5.1.3).
    pub fn queue(&mut self, index: u16, limit: u16) -> Result<Queue, Error> {
        let registers = self.common;
        registers.at(common::QUEUE_SELECT).write_u16(index);
        let size = registers.at(common::QUEUE_SIZE).read_u16().min(limit);
        if size < 4 {
            return Err(Error::Queue(index));
        }
        // Split queues need a power of two (§2.7).
        let size = 1 << size.ilog2();
        let entry = index + 1;
        if !self.msix.route(entry) {
            return Err(Error::Msix);
        }
        let offset = registers.at(common::QUEUE_NOTIFY_OFFSET).read_u16();
        let kick = self
            .notify
            .at(u64::from(offset) * u64::from(self.notify_multiplier));
        let queue = Queue::new(index, size, self.has(FEATURE_EVENT_IDX), kick);
        registers.at(common::QUEUE_SIZE).write_u16(size);
        registers.at(common::QUEUE_VECTOR).write_u16(entry);
        if registers.at(common::QUEUE_VECTOR).read_u16() != entry {
            return Err(Error::Msix);
        }
        registers
            .at(common::QUEUE_DESCRIPTORS)
            .write_u64(queue.descriptors());
        registers
            .at(common::QUEUE_DRIVER)
            .write_u64(queue.driver_area());
        registers
            .at(common::QUEUE_DEVICE)
            .write_u64(queue.device_area());
        registers.at(common::QUEUE_ENABLE).write_u16(1);
        Ok(queue)
    }

    /// The device may start (§3.1.1, step 8).
    pub fn ready(&self) {
        self.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
    }

    /// Four bytes of the device configuration; 0 if there is none.
    pub fn config_u32(&self, offset: u64) -> u32 {
        self.config.map_or(0, |config| config.at(offset).read_u32())
    }

    /// One byte of the device configuration; 0 if there is none.
    pub fn config_u8(&self, offset: u64) -> u8 {
        self.config.map_or(0, |config| config.at(offset).read_u8())
    }
}

impl Drop for Device {
    /// Buffers may be freed after this: a device in reset touches none (§2.4.2).
    fn drop(&mut self) {
        let _ = self.reset();
    }
}

/// The registers of a structure (§4.1.4): the first vendor capability of that kind in a usable BAR.
fn structure(
    function: &Function,
    capabilities: &[Capability],
    kind: u8,
) -> Option<(Mmio, Capability)> {
    let vendor: Vec<_> = capabilities
        .iter()
        .filter(|capability| {
            capability.id == CAPABILITY_VENDOR && (capability.head >> 24) as u8 == kind
        })
        .collect();
    vendor.into_iter().find_map(|capability| {
        let bar = function.bar(function.config(capability.offset + 4) as u8)?;
        Some((
            bar.at(u64::from(function.config(capability.offset + 8))),
            *capability,
        ))
    })
}
