//! Virtio over PCI, modern only (virtio 1.2 §4.1).
//!
//! One 64-bit memory BAR holds everything: common configuration, ISR, device configuration, notification slots,
//! MSI-X table and pending bits (see `layout`). The state machine of the common configuration is `common`;
//! `function` ties both to a [`pci::PciFunction`].

mod common;
mod function;
mod interrupt;
mod layout;

pub use function::VirtioPci;
pub use interrupt::Interrupts;
pub use layout::{LayoutError, NOTIFY_OFFSET, notify_address};

#[cfg(test)]
#[path = "transport_test.rs"]
mod tests;
