//! From a device to its driver: MSI-X vectors, the ISR byte, DEVICE_NEEDS_RESET (virtio 1.2 §4.1.4.5, §4.1.5.1).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering};

use pci::MsixTable;

/// "No vector" (§4.1.5.1.2).
pub(crate) const NO_VECTOR: u16 = 0xFFFF;

const ISR_QUEUE: u8 = 1;
const ISR_CONFIG: u8 = 2;

pub(crate) struct Lines {
    pub(crate) msix: MsixTable,
    pub(crate) config_vector: AtomicU16,
    pub(crate) queue_vectors: Vec<AtomicU16>,
    pub(crate) isr: AtomicU8,
    pub(crate) needs_reset: AtomicBool,
    pub(crate) generation: AtomicU8,
}

impl Lines {
    pub(crate) fn new(msix: MsixTable, queues: usize) -> Self {
        Lines {
            msix,
            config_vector: AtomicU16::new(NO_VECTOR),
            queue_vectors: (0..queues).map(|_| AtomicU16::new(NO_VECTOR)).collect(),
            isr: AtomicU8::new(0),
            needs_reset: AtomicBool::new(false),
            generation: AtomicU8::new(0),
        }
    }

    /// What a device reset clears.
    pub(crate) fn clear(&self) {
        self.config_vector.store(NO_VECTOR, Ordering::Release);
        for vector in &self.queue_vectors {
            vector.store(NO_VECTOR, Ordering::Release);
        }
        self.isr.store(0, Ordering::Release);
        self.needs_reset.store(false, Ordering::Release);
    }

    /// The vector itself if it exists, else none: what the driver reads back (§4.1.5.1.2).
    pub(crate) fn accept(&self, vector: u16) -> u16 {
        if vector < self.msix.vectors() {
            vector
        } else {
            NO_VECTOR
        }
    }
}

/// A device's way to interrupt its driver; cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Interrupts(pub(crate) Arc<Lines>);

impl Interrupts {
    /// Buffers of `queue` were used. Call it after [`crate::Virtqueue::wants_interrupt`] said so.
    pub fn queue(&self, queue: u16) {
        let Some(vector) = self.0.queue_vectors.get(usize::from(queue)) else {
            return;
        };
        let vector = vector.load(Ordering::Acquire);
        if vector == NO_VECTOR {
            self.0.isr.fetch_or(ISR_QUEUE, Ordering::AcqRel);
        } else {
            self.0.msix.raise(vector);
        }
    }

    /// The device-specific configuration changed.
    pub fn config_changed(&self) {
        self.0.generation.fetch_add(1, Ordering::AcqRel);
        self.raise_config();
    }

    /// The device cannot go on before a reset (§2.1.2): shows DEVICE_NEEDS_RESET and tells the driver.
    pub fn needs_reset(&self) {
        self.0.needs_reset.store(true, Ordering::Release);
        self.raise_config();
    }

    fn raise_config(&self) {
        self.0.isr.fetch_or(ISR_CONFIG, Ordering::AcqRel);
        let vector = self.0.config_vector.load(Ordering::Acquire);
        if vector != NO_VECTOR {
            self.0.msix.raise(vector);
        }
    }
}

impl std::fmt::Debug for Interrupts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interrupts")
            .field("queues", &self.0.queue_vectors.len())
            .finish()
    }
}
