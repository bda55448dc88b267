//! One machine: the process that runs one instance

mod devices;
pub mod protocol;
mod wiring;
