//! Virtio 1.2 as the host side speaks it: split virtqueues, the block, network and entropy device models, and
//! the PCI transport.
//!
//! Pure over the guest-memory traits of `vm-memory`: no I/O, no threads, no KVM. A model says what a chain of
//! descriptors asks for and writes the answer; who serves disks and packets stands above and implements
//! [`Device`]. [`VirtioPci`] puts a [`Device`] on a PCI bus.
//!
//! The guest is hostile from its first access. A malformed chain costs that request; a corrupt ring costs the
//! device until its next reset (DEVICE_NEEDS_RESET); nothing here panics or loops without a bound on guest input.
#![forbid(unsafe_code)]

pub mod blk;
mod device;
pub mod feature;
pub mod net;
mod queue;
pub mod rng;
#[cfg(test)]
mod testing;
mod transport;

pub use device::{Activation, ActiveQueue, Device, DeviceKind, ResetDone};
pub use queue::{Chain, ChainError, QueueError, Segment, Virtqueue};
pub use transport::{Interrupts, LayoutError, NOTIFY_OFFSET, VirtioPci, notify_address};
