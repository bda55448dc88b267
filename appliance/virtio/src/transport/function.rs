//! A virtio device as a PCI function.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pci::{BarListener, ConfigWrite, DecodedBar, FunctionConfig, MsiSink, MsixTable, PciFunction};
use vm_memory::GuestMemory;

use super::common::{Common, Effect, Live};
use super::interrupt::{Interrupts, Lines, NO_VECTOR};
use super::layout::{self, LayoutError};
use crate::{Activation, ActiveQueue, Device, QueueError, ResetDone, Virtqueue, feature};

/// Puts a [`Device`] on a PCI bus. `M` is the guest's memory.
///
/// Locks are held for register accesses only: a driver's reset returns at once and its end shows in the status
/// register, so no vCPU waits for a disk.
pub struct VirtioPci<M> {
    device: Arc<dyn Device>,
    memory: M,
    /// Offset of the PCI configuration access capability.
    window: u8,
    config: Mutex<FunctionConfig>,
    common: Mutex<Common>,
    lines: Arc<Lines>,
    /// A reset is under way in the device.
    draining: Arc<AtomicBool>,
    listener: Arc<dyn BarListener>,
}

impl<M: GuestMemory> VirtioPci<M> {
    /// A function for `device`, whose messages go to `sink` (vector 0 upwards, one more than there are queues) and
    /// whose BAR moves are told to `listener`.
    ///
    /// # Errors
    /// The device has no queue or more than 1024.
    pub fn new(
        device: Arc<dyn Device>,
        memory: M,
        sink: Arc<dyn MsiSink>,
        listener: Arc<dyn BarListener>,
    ) -> Result<Self, LayoutError> {
        let sizes = device.queue_sizes();
        let (config, window) = layout::config_space(device.kind(), sizes.len())?;
        let vectors =
            u16::try_from(sizes.len() + 1).map_err(|_| LayoutError::Queues(sizes.len()))?;
        let common = Common::new(device.features() | feature::VERSION_1, &sizes);
        let lines = Arc::new(Lines::new(MsixTable::new(vectors, sink), sizes.len()));
        Ok(VirtioPci {
            device,
            memory,
            window,
            config: Mutex::new(config),
            common: Mutex::new(common),
            lines,
            draining: Arc::default(),
            listener,
        })
    }

    /// How the device's owner raises configuration changes.
    pub fn interrupts(&self) -> Interrupts {
        Interrupts(Arc::clone(&self.lines))
    }

    /// The registers, with a finished reset accounted for.
    fn common(&self) -> MutexGuard<'_, Common> {
        let mut common = lock(&self.common);
        if common.resetting && !self.draining.load(Ordering::Acquire) {
            common.clear();
            self.lines.clear();
        }
        common
    }

    fn read_common(&self, offset: u64, data: &mut [u8]) {
        let common = self.common();
        let vector = self.lines.queue_vectors.get(usize::from(common.selected()));
        let live = Live {
            config_vector: self.lines.config_vector.load(Ordering::Acquire),
            queue_vector: vector.map_or(NO_VECTOR, |v| v.load(Ordering::Acquire)),
            generation: self.lines.generation.load(Ordering::Acquire),
            needs_reset: self.lines.needs_reset.load(Ordering::Acquire),
        };
        common.read(live, offset, data);
    }

    fn write_common(&self, offset: u64, data: &[u8]) {
        let mut common = self.common();
        match common.write(offset, data) {
            Effect::None => {}
            Effect::Activate => self.activate(&common),
            Effect::Reset => self.device.reset(ResetDone::begin(&self.draining)),
            Effect::ConfigVector(vector) => {
                self.lines
                    .config_vector
                    .store(self.lines.accept(vector), Ordering::Release);
            }
            Effect::QueueVector { queue, vector } => {
                if let Some(slot) = self.lines.queue_vectors.get(usize::from(queue)) {
                    slot.store(self.lines.accept(vector), Ordering::Release);
                }
            }
        }
    }

    fn activate(&self, common: &Common) {
        match self.queues(common) {
            Ok(queues) => self.device.activate(Activation {
                features: common.accepted,
                queues,
                interrupts: self.interrupts(),
            }),
            Err(_) => self.interrupts().needs_reset(),
        }
    }

    fn queues(&self, common: &Common) -> Result<Vec<ActiveQueue>, QueueError> {
        let event_idx = common.accepted & feature::RING_EVENT_IDX != 0;
        let enabled = (0..).zip(&common.queues).filter(|(_, queue)| queue.enabled);
        enabled
            .map(|(index, q)| {
                let queue = Virtqueue::new(
                    &self.memory,
                    q.size,
                    q.descriptors,
                    q.available,
                    q.used,
                    event_idx,
                )?;
                Ok(ActiveQueue { index, queue })
            })
            .collect()
    }

    fn notify(&self, offset: u64) {
        let queue = offset / u64::from(layout::NOTIFY_MULTIPLIER);
        // Taken and released before the device is told: it may take locks of its own.
        let (live, count) = {
            let common = self.common();
            (common.live(), common.queues.len())
        };
        if let Ok(queue) = u16::try_from(queue)
            && live
            && usize::from(queue) < count
        {
            self.device.notify(queue);
        }
    }

    fn write_device(&self, offset: u64, data: &[u8]) {
        let features = self.common().features();
        self.device.write_config(offset, data, features);
    }

    /// Tells everyone concerned what a configuration write changed.
    fn apply(&self, changed: ConfigWrite) {
        for moved in changed.moves {
            self.listener.bar_moved(moved.bar, moved.from, moved.to);
        }
        if let Some(control) = changed.msix_control {
            self.lines.msix.set_control(control);
        }
    }

    /// Bar offset and length of the access that the PCI configuration access capability describes (§4.1.4.9), if the
    /// given configuration access touches its data field.
    fn windowed(&self, config: &FunctionConfig, offset: u16, len: usize) -> Option<(u64, usize)> {
        let at = |field: u8| u16::from(self.window) + u16::from(field);
        let data = at(layout::PCI_CFG_DATA);
        if usize::from(offset) + len <= usize::from(data) || offset >= data + 4 {
            return None;
        }
        let word = |field: u8| {
            let mut bytes = [0; 4];
            config.read(at(field), &mut bytes);
            u32::from_le_bytes(bytes)
        };
        let mut bar = [0];
        config.read(at(layout::PCI_CFG_BAR), &mut bar);
        let target = u64::from(word(layout::PCI_CFG_OFFSET));
        let length = match word(layout::PCI_CFG_LENGTH) {
            1 => 1,
            2 => 2,
            4 => 4,
            _ => return None,
        };
        let aligned = target.is_multiple_of(length);
        let inside = target < layout::BAR_BYTES;
        (bar == [layout::BAR] && aligned && inside)
            .then_some((target, usize::try_from(length).ok()?))
    }
}

impl<M: GuestMemory + Send + Sync> PciFunction for VirtioPci<M> {
    fn read_config(&self, offset: u16, data: &mut [u8]) {
        let target = self.windowed(&lock(&self.config), offset, data.len());
        if let Some((target, len)) = target {
            let mut value = [0; 4];
            self.read_bar(layout::BAR, target, &mut value[..len]);
            let field = usize::from(self.window) + usize::from(layout::PCI_CFG_DATA);
            lock(&self.config).set(field, &value[..len]);
        }
        lock(&self.config).read(offset, data);
    }

    fn write_config(&self, offset: u16, data: &[u8]) {
        let (changed, target, value) = {
            let mut config = lock(&self.config);
            let changed = config.write(offset, data);
            let mut value = [0; 4];
            config.read(
                u16::from(self.window) + u16::from(layout::PCI_CFG_DATA),
                &mut value,
            );
            (changed, self.windowed(&config, offset, data.len()), value)
        };
        self.apply(changed);
        if let Some((target, len)) = target {
            self.write_bar(layout::BAR, target, &value[..len]);
        }
    }

    fn read_bar(&self, _bar: u8, offset: u64, data: &mut [u8]) {
        data.fill(0);
        match offset {
            layout::COMMON..layout::ISR => self.read_common(offset - layout::COMMON, data),
            // Reading acknowledges (§4.1.4.5.1).
            layout::ISR => {
                if let Some(first) = data.first_mut() {
                    *first = self.lines.isr.swap(0, Ordering::AcqRel);
                }
            }
            layout::DEVICE..layout::NOTIFY_OFFSET => {
                self.device.read_config(offset - layout::DEVICE, data)
            }
            layout::MSIX_TABLE..layout::MSIX_PBA => self
                .lines
                .msix
                .read_table(offset - layout::MSIX_TABLE, data),
            layout::MSIX_PBA.. => self.lines.msix.read_pba(offset - layout::MSIX_PBA, data),
            _ => {}
        }
    }

    fn write_bar(&self, _bar: u8, offset: u64, data: &[u8]) {
        match offset {
            layout::COMMON..layout::ISR => self.write_common(offset - layout::COMMON, data),
            layout::DEVICE..layout::NOTIFY_OFFSET => {
                self.write_device(offset - layout::DEVICE, data)
            }
            layout::NOTIFY_OFFSET..layout::MSIX_TABLE => {
                self.notify(offset - layout::NOTIFY_OFFSET)
            }
            layout::MSIX_TABLE..layout::MSIX_PBA => self
                .lines
                .msix
                .write_table(offset - layout::MSIX_TABLE, data),
            _ => {}
        }
    }

    fn bars(&self) -> Vec<DecodedBar> {
        lock(&self.config).bars()
    }
}

/// Registers stay usable after a panic elsewhere: each write leaves them consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
