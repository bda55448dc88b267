//! The whole host as its users have it: the real `ashlard` and the real `ashlar`, with real guests, disks and networks.
//!
//! Each test has a host of its own (see [`site`]) and takes it away again, also when it fails. They need root, KVM, and
//! what `cargo xtask targets` and `cargo build --release` make.

#![forbid(unsafe_code)]

mod cpus;
mod crashes;
mod disks;
mod life;
mod network;
mod plugins;
mod refusals;
mod site;
mod start_up;
#[path = "../../../appliance/plugin-host/tests/it/text.rs"]
mod text;
mod tutorial;
mod usage;
