//! Use cases and reconcilers of the host.
//!
//! [`Control`] is what a wire face calls. A use case judges a [command](commands), writes what is intended in one
//! transaction and answers; [reconcilers][Control::open] then lead the host there through the [ports].
//! Nothing in here knows HTTP, KVM, netlink or a file's name.

#![forbid(unsafe_code)]

pub mod adapters;
mod addresses;
mod bills;
mod boot_image;
mod charged;
pub mod commands;
mod control;
mod core;
mod error;
mod host_system;
pub mod model;
mod placing;
mod policies;
pub mod ports;
mod reconcile;
mod records;
mod settings;
mod site;
mod tables;
mod tokens;
mod use_cases;

pub use control::Control;
pub use error::{ControlError, ErrorKind, Result};
pub use host_system::HostSystem;
pub use records::SCHEMA;
pub use settings::Settings;
