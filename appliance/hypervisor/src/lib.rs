//! KVM: virtual machines, vCPUs, interrupts. The only user of kvm-ioctls.
//!
//! A [`Kvm`] makes a [`Vm`]; a `Vm` has guest memory, interrupt lines ([`EdgeLine`], [`MsiLine`]), doorbells and
//! [`Vcpu`]s. It knows nothing about devices, buses, boot protocols' data structures or processes.
//!
//! x86-64 only.

mod cpuid;
mod error;
mod kick;
mod kvm;
mod registers;
mod routing;
mod vcpu;
mod vm;

pub use cpuid::Cpuid;
pub use error::KvmError;
pub use kick::Kick;
pub use kvm::Kvm;
pub use registers::{Entry, LONG_MODE_TABLES, write_long_mode_tables};
pub use routing::{EdgeLine, MsiLine};
pub use vcpu::{Exit, Failure, Vcpu};
pub use vm::Vm;

/// The most vCPUs a machine may have.
pub const MAX_VCPUS: u8 = 64;
