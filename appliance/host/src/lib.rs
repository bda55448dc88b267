//! The kernel interfaces that the first process of a host needs: mounts, modules, settings, clock, entropy, EFI variables,
//! watchdog, power and its button, and the way from the initramfs to the image's root.
//!
//! Each is a small function or type over one interface. The order in which a host boots, and what a failure means, is not
//! known here: every failure is an [`Error`] that says what was done to what.

#![deny(unsafe_code)]

pub mod buttons;
pub mod children;
pub mod clock;
pub mod efi;
pub mod entropy;
mod error;
pub mod facts;
pub mod modules;
pub mod mounts;
pub mod power;
pub mod root;
pub mod settings;
pub mod uevents;
pub mod watchdog;

pub use error::Error;
