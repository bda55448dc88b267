//! The machine around the CPU: ACPI, interrupt wiring, the power button, power-off and reset.

use core::sync::atomic::{AtomicU32, Ordering};

use tables::{Acpi, Override};

use crate::io::{Mmio, Port};
use crate::memory::Identity;
use crate::{console, cpu};

/// PM1 status and enable: the power button (ACPI 6.5 §4.8.3.1).
const POWER_BUTTON: u16 = 1 << 8;
/// PM1 control (ACPI 6.5 §4.8.3.2).
const SCI_ENABLE: u16 = 1;
const SLEEP_ENABLE: u16 = 1 << 13;

/// Port the SCI handler in `boot.s` reads and writes back.
#[unsafe(no_mangle)]
static guest_sci_port: AtomicU32 = AtomicU32::new(0);
/// What it read there, gathered.
#[unsafe(no_mangle)]
static guest_sci_status: AtomicU32 = AtomicU32::new(0);

/// What the machine says of itself.
#[derive(Debug)]
pub struct Platform {
    acpi: Acpi,
}

impl Platform {
    /// Reads the ACPI tables (RSDP address, or 0 to look for it) and lets CPU 0 receive interrupts: timer, console
    /// input and, where there is one, the power button.
    pub fn start(rsdp: u64) -> Self {
        let platform = Self {
            acpi: Acpi::read(&Identity, rsdp),
        };
        cpu::enable_local_apic();
        cpu::set_up_timer(false);
        platform.route(4, cpu::VECTOR_CONSOLE);
        console::enable_interrupt();
        platform.start_power_button();
        platform
    }

    /// The tables.
    pub fn acpi(&self) -> &Acpi {
        &self.acpi
    }

    /// Whether the power button was pressed since the last call.
    pub fn take_power_button(&self) -> bool {
        let pressed = guest_sci_status.swap(0, Ordering::Relaxed);
        pressed & u32::from(POWER_BUTTON) != 0
    }

    /// Switches the machine off (S5, ACPI 6.5 §7.4.2). Where there is no such register, it halts.
    pub fn power_off(&self) -> ! {
        if let (Some(sleep_type), true) = (self.acpi.s5, self.acpi.pm1a_control != 0) {
            Port(self.acpi.pm1a_control)
                .write_u16((u16::from(sleep_type & 7) << 10) | SLEEP_ENABLE);
        }
        cpu::halt()
    }

    /// Resets the machine: the FADT's reset register, else the keyboard controller.
    pub fn reset(&self) -> ! {
        if let Some((port, value)) = self.acpi.reset {
            Port(port).write_u8(value);
        }
        keyboard_reset()
    }

    /// Directs an ISA interrupt to a vector of this CPU (82093AA data sheet §3.2.4).
    fn route(&self, irq: u8, vector: u8) {
        let Some(io_apic) = self.acpi.io_apic else {
            return;
        };
        let Override {
            gsi,
            active_low,
            level,
            ..
        } = self.acpi.wiring(irq);
        // SAFETY: the MADT names this address; it lies in the MMIO space, where no memory is.
        let registers = unsafe { Mmio::new(u64::from(io_apic.address)) };
        let index = 0x10 + 2 * gsi.saturating_sub(io_apic.first_gsi).min(23);
        registers.write_u32(index + 1);
        registers
            .at(0x10)
            .write_u32(u32::from(cpu::local_apic_id()) << 24);
        registers.write_u32(index);
        registers
            .at(0x10)
            .write_u32(u32::from(vector) | u32::from(active_low) << 13 | u32::from(level) << 15);
    }

    fn start_power_button(&self) {
        let acpi = &self.acpi;
        if acpi.pm1a_event == 0 || acpi.pm1_event_length < 4 {
            return;
        }
        if acpi.smi_command != 0 && Port(acpi.pm1a_control).read_u16() & SCI_ENABLE == 0 {
            Port(acpi.smi_command).write_u8(acpi.acpi_enable);
        }
        guest_sci_port.store(u32::from(acpi.pm1a_event), Ordering::Relaxed);
        Port(acpi.pm1a_event).write_u16(POWER_BUTTON);
        Port(acpi.pm1a_event + u16::from(acpi.pm1_event_length) / 2).write_u16(POWER_BUTTON);
        self.route(acpi.sci, cpu::VECTOR_SCI);
    }
}

/// Resets the machine by the keyboard controller's reset line.
pub fn keyboard_reset() -> ! {
    Port(0x64).write_u8(0xFE);
    cpu::halt()
}
