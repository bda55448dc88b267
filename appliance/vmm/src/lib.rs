//! One machine: the process that runs one instance, and the daemon's way to start and find it.
//!
//! - In the vmm process: [`run`] confines itself, is handed a description with open descriptors, builds the machine and
//!   runs it to its end. Threads: one per vCPU, one per disk and network interface, and the control thread.
//! - In the daemon: [`launch()`] starts a process, [`adopt`] finds one that runs,
//!   [`client::Client`] speaks to it, [`console::ConsoleReader`] reads what the guest printed.
//!
//! It opens nothing by name and knows nothing of instances, users, networks or where a disk comes from: all that is
//! the daemon's. What the guest does can end its machine, never this process in another way than by that.

mod alarm;
mod boot;
pub mod client;
mod confine;
pub mod console;
mod control;
mod devices;
mod handover;
pub mod launch;
mod layout;
mod machine;
pub mod memory;
mod platform;
mod processors;
pub mod protocol;
mod run;
mod wiring;

pub use launch::{adopt, launch};
pub use run::run;

/// An error with its causes, for messages that cross a process boundary.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
