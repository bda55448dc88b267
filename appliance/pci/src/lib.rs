//! PCI as a guest sees it: functions, configuration space, capabilities, MSI-X and the root bus.
//!
//! Pure: no I/O, no KVM. A device model embeds [`FunctionConfig`] and [`MsixTable`] and implements
//! [`PciFunction`]; the machine puts functions on a [`RootBus`] and forwards the guest's accesses to it.
//! How a message reaches a vCPU ([`MsiSink`]) and how doorbells follow a moved BAR ([`BarListener`]) are
//! the machine's business.
//!
//! Everything a guest can write arrives here unchecked: no access, of whatever offset or length, panics.
#![forbid(unsafe_code)]

mod bridge;
mod bus;
mod config;
mod function;
mod msix;
mod placement;

pub use bridge::HostBridge;
pub use bus::{ConfigPorts, RootBus, SlotTaken};
pub use config::{
    BarMove, CAPABILITY_MSIX, CAPABILITY_VENDOR, ConfigError, ConfigWrite, FunctionConfig, Identity,
};
pub use function::{BarListener, DecodedBar, PciFunction};
pub use msix::{MSIX_ENTRY_BYTES, MsiMessage, MsiSink, MsixTable};
pub use placement::{BarWindow, WindowFull, place_bars};
