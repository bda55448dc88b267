//! What a transport asks of a device.

use crate::{Interrupts, Virtqueue};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Virtio device types (1.2 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Network card.
    Net = 1,
    /// Block device.
    Block = 2,
    /// Entropy source.
    Entropy = 4,
}

impl DeviceKind {
    /// The PCI class code under which drivers and firmware look for such a device.
    pub fn pci_class(self) -> u32 {
        match self {
            DeviceKind::Net => 0x02_00_00,
            DeviceKind::Block => 0x01_80_00,
            DeviceKind::Entropy => 0xFF_00_00,
        }
    }
}

/// A device behind a transport. Calls come from vCPU threads, hence `&self`; none may wait for I/O.
///
/// Dropping the device stops its threads after what they have in flight.
///
/// Order of calls: configuration accesses and [`notify`](Device::notify) at any time;
/// [`activate`](Device::activate) once, then [`reset`](Device::reset), then perhaps `activate` again, but not before
/// the [`ResetDone`] was dropped.
pub trait Device: Send + Sync {
    /// Its type.
    fn kind(&self) -> DeviceKind;

    /// The largest size of each queue, powers of two up to 32768; the number of entries is the number of queues.
    fn queue_sizes(&self) -> Vec<u16>;

    /// The feature bits offered, without [`crate::feature::VERSION_1`], which the transport adds.
    fn features(&self) -> u64;

    /// Reads the device-specific configuration; bytes past its end read as zero.
    fn read_config(&self, offset: u64, data: &mut [u8]);

    /// Writes the device-specific configuration; writes to read-only fields are dropped. `features` are those
    /// acknowledged, 0 before FEATURES_OK.
    fn write_config(&self, offset: u64, data: &[u8], features: u64);

    /// The driver is ready (DRIVER_OK): start serving the queues.
    fn activate(&self, activation: Activation);

    /// The driver kicked a queue by other means than its ioeventfd.
    fn notify(&self, queue: u16);

    /// Stop serving: drop `done` once nothing touches guest memory any more and the queues are forgotten.
    fn reset(&self, done: ResetDone);
}

/// All a device needs to serve its driver.
#[derive(Debug)]
pub struct Activation {
    /// The negotiated feature bits.
    pub features: u64,
    /// The queues the driver enabled, in ascending order of index.
    pub queues: Vec<ActiveQueue>,
    /// How to interrupt the driver.
    pub interrupts: Interrupts,
}

/// A queue the driver enabled.
#[derive(Debug)]
pub struct ActiveQueue {
    /// Its index.
    pub index: u16,
    /// Its rings, which lie within guest memory.
    pub queue: Virtqueue,
}

/// Held by a device while it resets; dropping it says the device is quiet.
#[derive(Debug)]
pub struct ResetDone(Arc<AtomicBool>);

impl ResetDone {
    /// Raises `pending` until the drop.
    pub(crate) fn begin(pending: &Arc<AtomicBool>) -> Self {
        pending.store(true, Ordering::Release);
        ResetDone(Arc::clone(pending))
    }
}

impl Drop for ResetDone {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
