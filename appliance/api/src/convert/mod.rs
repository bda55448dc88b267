//! Between wire types and the core's: explicit, one file per resource.

pub mod account;
pub mod bill;
pub mod charge;
pub mod cpu;
pub mod deployment_set;
pub mod disk;
pub mod event;
pub mod host;
pub mod host_system;
pub mod image;
pub mod instance;
pub mod network;
pub mod policy;
pub mod security_group;
pub mod spot;
pub mod subscription;

/// Nanoseconds as milliseconds, to the nanosecond.
fn milliseconds(nanoseconds: u64) -> f64 {
    std::time::Duration::from_nanos(nanoseconds).as_secs_f64() * 1000.0
}
