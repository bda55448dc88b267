//! The common configuration structure (virtio 1.2 §4.1.4.3) and device initialisation (§3.1.1).
//!
//! ```text
//!            ACKNOWLEDGE, DRIVER        FEATURES_OK             DRIVER_OK
//!  status 0 ───────────────────► set-up ───────────► queues set ─────────► live
//!     ▲  └──────────────────────────────────────────────────────────────────┤ 0 written
//!     └────────────────────────── quiet ◄── resetting ◄─────────────────────┘
//! ```
//! Status reads non-zero while resetting: the driver waits for it to become 0 (§4.1.4.3.2).

use crate::feature;

pub(crate) const ACKNOWLEDGE: u8 = 1;
pub(crate) const DRIVER: u8 = 2;
pub(crate) const DRIVER_OK: u8 = 4;
pub(crate) const FEATURES_OK: u8 = 8;
pub(crate) const NEEDS_RESET: u8 = 64;
pub(crate) const FAILED: u8 = 128;

const SIZE: usize = 64;

/// What the transport has to do after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    None,
    /// Hand the queues to the device.
    Activate,
    /// Take them back.
    Reset,
    /// The driver chose a vector for configuration changes.
    ConfigVector(u16),
    /// And for a queue.
    QueueVector {
        queue: u16,
        vector: u16,
    },
}

/// Registers of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueRegisters {
    pub(crate) max_size: u16,
    pub(crate) size: u16,
    pub(crate) enabled: bool,
    pub(crate) descriptors: u64,
    pub(crate) available: u64,
    pub(crate) used: u64,
}

impl QueueRegisters {
    fn new(max_size: u16) -> Self {
        QueueRegisters {
            max_size,
            size: max_size,
            enabled: false,
            descriptors: 0,
            available: 0,
            used: 0,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Common {
    offered: u64,
    pub(crate) accepted: u64,
    device_select: u32,
    driver_select: u32,
    queue_select: u16,
    pub(crate) status: u8,
    pub(crate) resetting: bool,
    pub(crate) queues: Vec<QueueRegisters>,
}

/// What reads need that lives outside these registers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Live {
    pub(crate) config_vector: u16,
    pub(crate) queue_vector: u16,
    pub(crate) generation: u8,
    pub(crate) needs_reset: bool,
}

impl Common {
    pub(crate) fn new(offered: u64, queue_sizes: &[u16]) -> Self {
        Common {
            offered,
            accepted: 0,
            device_select: 0,
            driver_select: 0,
            queue_select: 0,
            status: 0,
            resetting: false,
            queues: queue_sizes
                .iter()
                .map(|size| QueueRegisters::new(*size))
                .collect(),
        }
    }

    /// Everything back to its first value: the end of a reset.
    pub(crate) fn clear(&mut self) {
        let sizes: Vec<u16> = self.queues.iter().map(|queue| queue.max_size).collect();
        *self = Common::new(self.offered, &sizes);
    }

    /// Whether the driver may be interrupted and queues are served.
    pub(crate) fn live(&self) -> bool {
        self.status & DRIVER_OK != 0 && !self.resetting
    }

    /// The acknowledged features once they are final, else 0.
    pub(crate) fn features(&self) -> u64 {
        if self.status & FEATURES_OK != 0 {
            self.accepted
        } else {
            0
        }
    }

    /// The queue that the queue registers refer to.
    pub(crate) fn selected(&self) -> u16 {
        self.queue_select
    }

    pub(crate) fn read(&self, live: Live, offset: u64, data: &mut [u8]) {
        let image = self.image(live);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, byte) in data.iter_mut().enumerate() {
            *byte = image.get(start.saturating_add(index)).copied().unwrap_or(0);
        }
    }

    fn image(&self, live: Live) -> [u8; SIZE] {
        let mut image = [0; SIZE];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x00, &self.device_select.to_le_bytes());
        put(0x04, &word(self.offered, self.device_select).to_le_bytes());
        put(0x08, &self.driver_select.to_le_bytes());
        put(0x0C, &word(self.accepted, self.driver_select).to_le_bytes());
        put(0x10, &live.config_vector.to_le_bytes());
        put(
            0x12,
            &u16::try_from(self.queues.len())
                .unwrap_or(u16::MAX)
                .to_le_bytes(),
        );
        // Drivers also reset devices whose status is 0, and must not go on before that is over.
        let resetting = if self.resetting { ACKNOWLEDGE } else { 0 };
        let needs_reset = if live.needs_reset { NEEDS_RESET } else { 0 };
        put(
            0x14,
            &[self.status | resetting | needs_reset, live.generation],
        );
        put(0x16, &self.queue_select.to_le_bytes());
        // A queue that does not exist has size 0 (§4.1.4.3.1).
        if let Some(queue) = self.queues.get(usize::from(self.queue_select)) {
            put(0x18, &queue.size.to_le_bytes());
            put(0x1A, &live.queue_vector.to_le_bytes());
            put(0x1C, &u16::from(queue.enabled).to_le_bytes());
            put(0x1E, &self.queue_select.to_le_bytes());
            put(0x20, &queue.descriptors.to_le_bytes());
            put(0x28, &queue.available.to_le_bytes());
            put(0x30, &queue.used.to_le_bytes());
        }
        image
    }

    /// One write of the driver. Writes of other widths than the field's (or half of a 64-bit field) do nothing.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        match (offset, data) {
            (0x14, &[status]) => return self.write_status(status),
            // Until the reset is over only its status counts.
            _ if self.resetting => {}
            (_, &[a, b]) => return self.write_16(offset, u16::from_le_bytes([a, b])),
            (_, &[a, b, c, d]) => self.write_32(offset, u32::from_le_bytes([a, b, c, d])),
            (0x20 | 0x28 | 0x30, &[a, b, c, d, e, f, g, h]) => {
                self.write_32(offset, u32::from_le_bytes([a, b, c, d]));
                self.write_32(offset + 4, u32::from_le_bytes([e, f, g, h]));
            }
            _ => {}
        }
        Effect::None
    }

    fn write_16(&mut self, offset: u64, value: u16) -> Effect {
        let select = self.queue_select;
        let live = self.live();
        let queue = self.queues.get_mut(usize::from(select));
        match (offset, queue) {
            (0x10, _) => return Effect::ConfigVector(value),
            (0x16, _) => self.queue_select = value,
            (0x1A, Some(_)) => {
                return Effect::QueueVector {
                    queue: select,
                    vector: value,
                };
            }
            (0x18, Some(queue))
                if !queue.enabled && value.is_power_of_two() && value <= queue.max_size =>
            {
                queue.size = value;
            }
            // A queue is never disabled but by a reset (§4.1.4.3.2).
            (0x1C, Some(queue)) if value == 1 && !live => queue.enabled = true,
            _ => {}
        }
        Effect::None
    }

    fn write_32(&mut self, offset: u64, value: u32) {
        match offset {
            0x00 => self.device_select = value,
            0x08 => self.driver_select = value,
            0x0C if self.status & FEATURES_OK == 0 => {
                let shift = match self.driver_select {
                    0 => 0,
                    1 => 32,
                    _ => return,
                };
                self.accepted = self.accepted & !(0xFFFF_FFFF << shift) | u64::from(value) << shift;
            }
            0x20..=0x37 => self.write_ring(offset, value),
            _ => {}
        }
    }

    fn write_ring(&mut self, offset: u64, value: u32) {
        let Some(queue) = self.queues.get_mut(usize::from(self.queue_select)) else {
            return;
        };
        if queue.enabled {
            return;
        }
        let field = match offset & !7 {
            0x20 => &mut queue.descriptors,
            0x28 => &mut queue.available,
            _ => &mut queue.used,
        };
        match offset & 7 {
            0 => *field = *field & !0xFFFF_FFFF | u64::from(value),
            4 => *field = *field & 0xFFFF_FFFF | u64::from(value) << 32,
            _ => {}
        }
    }

    /// Status bits are only ever added, in order; 0 resets (§2.1.1).
    fn write_status(&mut self, value: u8) -> Effect {
        if value == 0 {
            if self.resetting {
                return Effect::None;
            }
            self.resetting = true;
            return Effect::Reset;
        }
        if self.resetting || value & self.status != self.status {
            return Effect::None;
        }
        let mut added =
            value & !self.status & (ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK | FAILED);
        if added & FEATURES_OK != 0 && !self.features_acceptable() {
            added &= !(FEATURES_OK | DRIVER_OK);
        }
        if added & DRIVER_OK != 0 && (self.status | added) & FEATURES_OK == 0 {
            added &= !DRIVER_OK;
        }
        self.status |= added;
        if added & DRIVER_OK != 0 && self.status & FAILED == 0 {
            Effect::Activate
        } else {
            Effect::None
        }
    }

    fn features_acceptable(&self) -> bool {
        self.accepted & !self.offered == 0 && self.accepted & feature::VERSION_1 != 0
    }
}

/// Bits 0–31 or 32–63 of a feature set; others are 0.
fn word(bits: u64, select: u32) -> u32 {
    let [a, b, c, d, e, f, g, h] = bits.to_le_bytes();
    match select {
        0 => u32::from_le_bytes([a, b, c, d]),
        1 => u32::from_le_bytes([e, f, g, h]),
        _ => 0,
    }
}
