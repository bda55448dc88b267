//! Power button, power-off and reset.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hypervisor::Vm;

use super::Outcome;
use super::pm1::Pm1;
use crate::layout;
use crate::protocol::ResetCause;

/// RST_CPU of the reset control register.
const RESET: u8 = 1 << 2;

/// The power management registers and the interrupt they raise.
pub(crate) struct Power {
    vm: Arc<Vm>,
    pm1: Mutex<Pm1>,
    reset_control: AtomicU8,
}

impl Power {
    pub(crate) fn new(vm: Arc<Vm>) -> Self {
        Self {
            vm,
            pm1: Mutex::default(),
            reset_control: AtomicU8::new(0),
        }
    }

    /// Presses the power button.
    pub(crate) fn press(&self) {
        let mut pm1 = self.lock();
        pm1.press_power_button();
        self.apply(&pm1);
    }

    /// The guest reads PM1 registers from `port` on.
    pub(super) fn read(&self, port: u16, item: &mut [u8]) {
        let pm1 = self.lock();
        for (port, byte) in (port..).zip(item) {
            if layout::PM1_EVENT.contains(&port) {
                *byte = pm1.read_event(usize::from(port - layout::PM1_EVENT.start));
            } else if layout::PM1_CONTROL.contains(&port) {
                *byte = pm1.read_control(usize::from(port - layout::PM1_CONTROL.start));
            }
        }
    }

    /// The guest writes PM1 registers from `port` on.
    pub(super) fn write(&self, port: u16, item: &[u8]) -> Option<Outcome> {
        let mut pm1 = self.lock();
        let mut sleep = None;
        for (port, value) in (port..).zip(item) {
            if layout::PM1_EVENT.contains(&port) {
                pm1.write_event(usize::from(port - layout::PM1_EVENT.start), *value);
            } else if layout::PM1_CONTROL.contains(&port) {
                let offset = usize::from(port - layout::PM1_CONTROL.start);
                sleep = pm1.write_control(offset, *value).or(sleep);
            }
        }
        self.apply(&pm1);
        (sleep == Some(layout::S5_SLEEP_TYPE)).then_some(Outcome::PowerOff)
    }

    /// What was last written to the reset control register.
    pub(super) fn reset_control(&self) -> u8 {
        self.reset_control.load(Ordering::Relaxed)
    }

    /// The guest writes the reset control register.
    pub(super) fn write_reset_control(&self, value: u8) -> Option<Outcome> {
        self.reset_control.store(value & !RESET, Ordering::Relaxed);
        (value & RESET != 0).then_some(Outcome::Reset(ResetCause::ResetRegister))
    }

    /// Brings the interrupt line in step. Under the lock, so that the last state wins.
    fn apply(&self, pm1: &Pm1) {
        // The line exists as long as the machine; a failure would only cost the guest this interrupt.
        let _ = self.vm.set_level(u32::from(layout::SCI_GSI), pm1.sci());
    }

    fn lock(&self) -> MutexGuard<'_, Pm1> {
        self.pm1.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
