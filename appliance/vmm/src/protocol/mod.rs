//! What the daemon and a vmm process say to each other.

mod config;

pub use config::{Boot, Disk, Host, Kernel, MachineConfig, Nic};
