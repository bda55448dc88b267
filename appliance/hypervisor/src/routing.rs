//! Interrupt lines: descriptors whose writing interrupts the guest.

use std::collections::BTreeMap;
use std::sync::Arc;

use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_irqchip,
    kvm_irq_routing_msi,
};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::{KvmError, Vm};

const IOAPIC_INPUTS: u32 = 24;
const PIC_INPUTS: u32 = 8;

/// What each global interrupt means: below 24 the legacy controllers' inputs, from 24 one message each.
pub(crate) struct Routes {
    messages: BTreeMap<u32, (u64, u32)>,
    next: u32,
}

impl Routes {
    pub(crate) fn new() -> Self {
        Self {
            messages: BTreeMap::new(),
            next: IOAPIC_INPUTS,
        }
    }

    /// Sets or takes away the message of `gsi` and returns the one before.
    fn set(&mut self, gsi: u32, message: Option<(u64, u32)>) -> Option<(u64, u32)> {
        match message {
            Some(message) => self.messages.insert(gsi, message),
            None => self.messages.remove(&gsi),
        }
    }

    fn table(&self) -> Result<KvmIrqRouting, KvmError> {
        let inputs = (0..IOAPIC_INPUTS).flat_map(|gsi| {
            let pic = match gsi / PIC_INPUTS {
                0 => Some(input(gsi, KVM_IRQCHIP_PIC_MASTER, gsi)),
                1 => Some(input(gsi, KVM_IRQCHIP_PIC_SLAVE, gsi % PIC_INPUTS)),
                _ => None,
            };
            pic.into_iter().chain([input(gsi, KVM_IRQCHIP_IOAPIC, gsi)])
        });
        let messages = self
            .messages
            .iter()
            .map(|(gsi, (address, value))| message(*gsi, *address, *value));
        let entries: Vec<_> = inputs.chain(messages).collect();
        KvmIrqRouting::from_entries(&entries).map_err(|error| {
            KvmError::io("routing an interrupt")(std::io::Error::other(format!("{error:?}")))
        })
    }
}

fn input(gsi: u32, irqchip: u32, pin: u32) -> kvm_irq_routing_entry {
    let mut entry = kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_IRQCHIP,
        ..Default::default()
    };
    entry.u.irqchip = kvm_irq_routing_irqchip { irqchip, pin };
    entry
}

fn message(gsi: u32, address: u64, data: u32) -> kvm_irq_routing_entry {
    let [b0, b1, b2, b3, b4, b5, b6, b7] = address.to_le_bytes();
    let mut entry = kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_MSI,
        ..Default::default()
    };
    entry.u.msi = kvm_irq_routing_msi {
        address_lo: u32::from_le_bytes([b0, b1, b2, b3]),
        address_hi: u32::from_le_bytes([b4, b5, b6, b7]),
        data,
        ..Default::default()
    };
    entry
}

fn event() -> Result<EventFd, KvmError> {
    EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).map_err(KvmError::io("making an event descriptor"))
}

/// An edge-triggered input of the legacy controllers.
pub struct EdgeLine {
    event: EventFd,
}

impl EdgeLine {
    /// Connects to input `gsi`, 0 to 23.
    ///
    /// # Errors
    /// KVM refuses, or no descriptor is left.
    pub fn new(vm: &Vm, gsi: u32) -> Result<Self, KvmError> {
        let event = event()?;
        vm.raw()
            .register_irqfd(&event, gsi)
            .map_err(KvmError::of("connecting an interrupt line"))?;
        Ok(Self { event })
    }

    /// Raises one edge. Never waits.
    pub fn raise(&self) {
        // The only failure is a counter about to overflow: then the interrupt is pending anyway.
        let _ = self.event.write(1);
    }
}

/// A message-signalled interrupt, without a message until [`MsiLine::route`].
pub struct MsiLine {
    vm: Arc<Vm>,
    gsi: u32,
    event: EventFd,
}

impl MsiLine {
    /// Takes the next free global interrupt.
    ///
    /// # Errors
    /// KVM refuses, or no descriptor is left.
    pub fn new(vm: &Arc<Vm>) -> Result<Self, KvmError> {
        let event = event()?;
        let gsi = {
            let mut routes = vm.routes();
            routes.next += 1;
            routes.next - 1
        };
        vm.raw()
            .register_irqfd(&event, gsi)
            .map_err(KvmError::of("connecting a message interrupt"))?;
        Ok(Self {
            vm: Arc::clone(vm),
            gsi,
            event,
        })
    }

    /// Sets the message, an (address, data) pair; `None` takes it away.
    ///
    /// # Errors
    /// KVM refuses the message or has no room for it.
    pub fn route(&self, message: Option<(u64, u32)>) -> Result<(), KvmError> {
        let mut routes = self.vm.routes();
        let before = routes.set(self.gsi, message);
        let applied = routes.table().and_then(|table| {
            self.vm
                .raw()
                .set_gsi_routing(&table)
                .map_err(KvmError::of("routing an interrupt"))
        });
        if applied.is_err() {
            // One message that KVM refuses must not spoil the table for all others.
            routes.set(self.gsi, before);
        }
        applied
    }

    /// Sends the message. Never waits; does nothing without one.
    pub fn trigger(&self) {
        // The only failure is a counter about to overflow: then the interrupt is pending anyway.
        let _ = self.event.write(1);
    }
}

impl Drop for MsiLine {
    fn drop(&mut self) {
        // A machine being torn down may refuse; its descriptors close with it.
        let _ = self.vm.raw().unregister_irqfd(&self.event, self.gsi);
    }
}
