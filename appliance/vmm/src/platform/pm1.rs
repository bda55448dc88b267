//! The PM1 registers (ACPI 6.5 §4.8.3): pure state.

const POWER_BUTTON: u16 = 1 << 8;
/// Timer, global lock, power button, sleep button, clock: the events that can raise the SCI.
const EVENTS: u16 = 1 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 10;
const SCI_ENABLED: u16 = 1;
const SLEEP_TYPE_SHIFT: u16 = 10;
const SLEEP_TYPE: u16 = 7 << SLEEP_TYPE_SHIFT;
const SLEEP_ENABLE: u16 = 1 << 13;

/// The PM1a event block and control register of a machine that is always in ACPI mode.
#[derive(Debug, Default)]
pub(super) struct Pm1 {
    status: u16,
    enable: u16,
    control: u16,
}

impl Pm1 {
    /// Byte `offset` of the event block, 0 to 3.
    pub(super) fn read_event(&self, offset: usize) -> u8 {
        let [status_low, status_high] = self.status.to_le_bytes();
        let [enable_low, enable_high] = self.enable.to_le_bytes();
        [status_low, status_high, enable_low, enable_high]
            .get(offset)
            .copied()
            .unwrap_or(0xFF)
    }

    /// Writes byte `offset` of the event block: status bits are cleared by ones.
    pub(super) fn write_event(&mut self, offset: usize, value: u8) {
        let shift = 8 * (offset % 2);
        let bits = u16::from(value) << shift;
        match offset / 2 {
            0 => self.status &= !bits,
            1 => self.enable = (self.enable & !(0xFF << shift) | bits) & EVENTS,
            _ => {}
        }
    }

    /// Byte `offset` of the control register, 0 or 1.
    pub(super) fn read_control(&self, offset: usize) -> u8 {
        let [low, high] = (self.control | SCI_ENABLED).to_le_bytes();
        [low, high].get(offset).copied().unwrap_or(0xFF)
    }

    /// Writes byte `offset` of the control register; returns the sleep type if the guest enters a sleep state.
    pub(super) fn write_control(&mut self, offset: usize, value: u8) -> Option<u8> {
        let shift = 8 * (offset % 2);
        let bits = u16::from(value) << shift;
        self.control = (self.control & !(0xFF << shift) | bits) & SLEEP_TYPE;
        let [sleep_type, _] = ((self.control & SLEEP_TYPE) >> SLEEP_TYPE_SHIFT).to_le_bytes();
        (bits & SLEEP_ENABLE != 0).then_some(sleep_type)
    }

    /// Someone pressed the power button.
    pub(super) fn press_power_button(&mut self) {
        self.status |= POWER_BUTTON;
    }

    /// Whether the SCI is raised.
    pub(super) fn sci(&self) -> bool {
        self.status & self.enable & EVENTS != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_power_button_raises_the_sci_until_acknowledged() {
        let mut pm1 = Pm1::default();
        pm1.press_power_button();
        assert!(!pm1.sci(), "not enabled");
        pm1.write_event(3, 1);
        assert!(pm1.sci());
        assert_eq!(pm1.read_event(1), 1);
        pm1.write_event(1, 1);
        assert!(!pm1.sci());
        assert_eq!(pm1.read_event(1), 0);
    }

    #[test]
    fn what_is_enabled_reads_back() {
        let mut pm1 = Pm1::default();
        pm1.write_event(2, 0xFF);
        pm1.write_event(3, 0xFF);
        assert_eq!([pm1.read_event(2), pm1.read_event(3)], EVENTS.to_le_bytes());
    }

    #[test]
    fn sleep_needs_the_enable_bit() {
        let mut pm1 = Pm1::default();
        assert_eq!(pm1.read_control(0) & 1, 1, "ACPI mode");
        assert_eq!(pm1.write_control(1, 5 << 2), None);
        assert_eq!(pm1.read_control(1), 5 << 2);
        assert_eq!(pm1.write_control(1, 5 << 2 | 1 << 5), Some(5));
        assert_eq!(pm1.write_control(0, 0xFF), None);
    }
}
