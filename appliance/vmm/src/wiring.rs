//! What a device needs of its machine: guest memory, interrupts, doorbells.

use std::sync::{Arc, OnceLock};

use hypervisor::{MsiLine, Vm};
use pci::{BarListener, MsiMessage, MsiSink};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

/// Handed to each device's constructor; a device clones what it keeps.
#[derive(Clone)]
pub(crate) struct Wiring {
    /// The guest's memory.
    pub memory: Arc<GuestMemoryMmap>,
    vm: Arc<Vm>,
}

impl Wiring {
    pub(crate) fn new(memory: Arc<GuestMemoryMmap>, vm: Arc<Vm>) -> Self {
        Self { memory, vm }
    }

    /// Delivers a function's `vectors` MSI-X vectors.
    pub(crate) fn msi_sink(&self, vectors: u16) -> Arc<dyn MsiSink> {
        let lines = (0..vectors).map(|_| OnceLock::new()).collect();
        Arc::new(MsiLines {
            vm: Arc::clone(&self.vm),
            lines,
        })
    }

    /// Makes a write at any of `bells`' offsets within BAR `bar` add 1 to its event, wherever the BAR is.
    pub(crate) fn doorbells(
        &self,
        bar: u8,
        bells: Vec<(u64, Arc<EventFd>)>,
    ) -> Arc<dyn BarListener> {
        Arc::new(Doorbells {
            vm: Arc::clone(&self.vm),
            bar,
            bells,
        })
    }
}

/// One irqfd per vector, made when the guest first gives the vector a message.
struct MsiLines {
    vm: Arc<Vm>,
    lines: Vec<OnceLock<MsiLine>>,
}

impl MsiSink for MsiLines {
    fn route(&self, vector: u16, message: Option<MsiMessage>) {
        let Some(slot) = self.lines.get(usize::from(vector)) else {
            return;
        };
        if slot.get().is_none() && message.is_some() {
            // Without a line the vector stays silent, which only this guest notices.
            let Ok(line) = MsiLine::new(&self.vm) else {
                return;
            };
            let _ = slot.set(line);
        }
        if let Some(line) = slot.get() {
            // KVM refuses messages that no hardware would deliver either; the guest sees no interrupt.
            let _ = line.route(message.map(|message| (message.address, message.data)));
        }
    }

    fn trigger(&self, vector: u16) {
        if let Some(line) = self.lines.get(usize::from(vector)).and_then(OnceLock::get) {
            line.trigger();
        }
    }
}

struct Doorbells {
    vm: Arc<Vm>,
    bar: u8,
    bells: Vec<(u64, Arc<EventFd>)>,
}

impl BarListener for Doorbells {
    fn bar_moved(&self, bar: u8, from: Option<u64>, to: Option<u64>) {
        if bar != self.bar {
            return;
        }
        for (offset, event) in &self.bells {
            if let Some(base) = from {
                let _ = self.vm.remove_doorbell(base + offset, event);
            }
            // If KVM refuses (the guest moved two BARs onto each other), writes exit and reach the function itself.
            if let Some(base) = to {
                let _ = self.vm.add_doorbell(base + offset, event);
            }
        }
    }
}
