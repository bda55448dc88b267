//! What a machine asks of a function on its bus.

/// One memory BAR and where the guest's processor finds it at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodedBar {
    /// Index of the BAR's first register, 0 to 5.
    pub bar: u8,
    /// Guest-physical address of the first byte.
    pub base: u64,
    /// Size in bytes, a power of two.
    pub size: u64,
}

/// A PCI function. Calls come from any vCPU thread at any time, hence `&self`; an implementation takes its own
/// locks, for short whiles, and never waits for another thread of the guest.
///
/// Offsets are guaranteed to lie inside the space addressed (4096 bytes of configuration, the BAR's size);
/// lengths are 1 to 8 and an access may run over the end, where reads give ones and writes are dropped.
///
/// A machine that resets drops its functions and makes new ones, so there is no reset here; dropping a function
/// stops the threads that work for it.
pub trait PciFunction: Send + Sync {
    /// Reads configuration space.
    fn read_config(&self, offset: u16, data: &mut [u8]);

    /// Writes configuration space. When it returns, [`PciFunction::bars`] tells the outcome and listeners of
    /// moved BARs have been told.
    fn write_config(&self, offset: u16, data: &[u8]);

    /// Reads `data.len()` bytes at `offset` within BAR `bar`.
    fn read_bar(&self, bar: u8, offset: u64, data: &mut [u8]);

    /// Writes `data` at `offset` within BAR `bar`.
    fn write_bar(&self, bar: u8, offset: u64, data: &[u8]);

    /// The memory BARs decoded now: empty while memory decoding is off.
    fn bars(&self) -> Vec<DecodedBar>;
}

/// Learns where a function's BAR is decoded, so that what hangs on guest-physical addresses (ioeventfds) can
/// follow it. Called by the function inside [`PciFunction::write_config`], from the vCPU thread that wrote.
pub trait BarListener: Send + Sync {
    /// BAR `bar` was decoded at `from` and is now decoded at `to`; `None` means not decoded. Never called with
    /// `from == to`.
    fn bar_moved(&self, bar: u8, from: Option<u64>, to: Option<u64>);
}
