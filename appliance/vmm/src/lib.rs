//! One machine: the process that runs one instance

mod alarm;
mod boot;
pub mod client;
mod confine;
pub mod console;
mod control;
mod devices;
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
