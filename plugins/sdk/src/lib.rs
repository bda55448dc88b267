//! Write scheduling, billing and admission policies for Ashlar hosts.
//!
//! A policy is a type that implements [`scheduler::Scheduler`], [`billing::Billing`] or [`admission::Admission`], in a crate of type
//! `cdylib` that is built for `wasm32-unknown-unknown` and names the type in [`export_scheduler!`], [`export_billing!`] or
//! [`export_admission!`]:
//!
//! ```
//! use ashlar_policy::{Configuration, scheduler::{HostTable, PlacementRequest, Scheduler, Verdict}};
//!
//! /// Fills the hosts in the order of the table.
//! struct FirstFit;
//!
//! impl Scheduler for FirstFit {
//!     fn configure(_: &Configuration) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!
//!     fn judge(&self, request: &PlacementRequest, hosts: &HostTable) -> Result<Vec<Verdict>, String> {
//!         Ok((0..hosts.len())
//!             .map(|host| match hosts.obstacle(host, request) {
//!                 Some(constraint) => Verdict::refused(constraint),
//!                 None => Verdict::Score(-(host as f64)),
//!             })
//!             .collect())
//!     }
//! }
//!
//! # fn main() {}
//! ashlar_policy::export_scheduler!(FirstFit);
//! ```
//!
//! An instance of a billing or an admission policy answers one call. A scheduler's answers many, and the SDK keeps the table of hosts for it; the policy itself must
//! remember nothing, and the host program checks that now and then. There is no clock and no randomness but [`random`]. The
//! crate needs `alloc` only; the policy's own crate brings the allocator and the panic handler, which `std` does. A
//! panic ends the call; its message reaches the operator as the policy's own words.

#![no_std]

extern crate alloc;
#[cfg(any(test, target_arch = "wasm32"))]
extern crate std;

pub mod admission;
pub mod billing;
pub mod calendar;
#[cfg(not(target_arch = "wasm32"))]
pub mod check;
mod configuration;
mod host;
pub mod scheduler;
mod text;

pub use configuration::Configuration;
pub use host::{Level, log, random};
pub use rust_decimal::Decimal;

#[doc(hidden)]
pub use host::report_panics;
