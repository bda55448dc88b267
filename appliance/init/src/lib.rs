//! The first process of a host: it brings the machine up, supervises the daemon, judges whether an updated slot is good, and
//! talks to whoever stands before the screen.
//!
//! ```text
//! boot (steps; a failure is a fault, never an end) ─▶ daemon started ─▶ on trial? healthy in time ─▶ slot good
//!                                                          │                  └─ not ─▶ slot bad, reason kept, reboot
//!                                                          ▼
//!                            loop: children, daemon's end, requests, keys, watchdog ─▶ shutdown
//! ```
//!
//! What a host cannot do without becomes a [`Fault`] with what to do about it: the host goes on, reachable and explained. The
//! daemon may die and be replaced; guests are processes of their own and do not notice.

#![forbid(unsafe_code)]

mod boot;
mod config;
mod console;
mod daemon;
mod data;
mod fault;
mod health;
mod identity;
pub mod protocol;
mod records;
mod requests;
mod run;
mod shutdown;
mod terminal;
mod verdict;

pub use fault::Fault;
pub use run::run;

/// Where everything is that the first process makes.
pub const RUN: &str = "/run/ashlar";
/// The socket on which the daemon talks to the first process.
pub const SOCKET: &str = "/run/ashlar/init.sock";
/// The data partition.
pub const DATA: &str = "/var/lib/ashlar";
/// The folder of a daemon that was updated without a reboot.
pub const LIVE: &str = "/var/lib/ashlar/live";
