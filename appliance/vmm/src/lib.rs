//! One machine: the process that runs one instance

mod boot;
pub mod console;
mod devices;
mod layout;
pub mod memory;
pub mod protocol;
mod wiring;

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
