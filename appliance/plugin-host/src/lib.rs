//! Runs policies that are WebAssembly components, under limits, and never waits for them longer than agreed.
//!
//! ```text
//! PluginHost::load_scheduler / load_billing / load_admission
//!    │ component of the right world?
//!    │ compiled code, from the cache by digest
//!    └─► Guarded<SchedulerPlugin | BillingPlugin | AdmissionPlugin> ─► the traits of `placement`, `ledger`, `billing` and `instance`
//!           │ counts, and sets aside what fails again and again
//!           ├ billing, admission: one call = one fresh instance from a pool
//!           └ scheduler: an instance keeps the table of hosts and is told what changed
//! ```
//!
//! - A component sees what is passed to it, and nothing else: no WASI, no clock. A scheduler's instance outlives a call, so that it may keep
//!   the table; one that fails is dropped, and now and then an answer is compared with a new instance's (see `session.rs`).
//! - A call ends by its deadline (epochs), its fuel (instructions), its memory limit or its own trap, whichever comes first; each
//!   is a [`PolicyFailure`] in the policy's own words, and the crate whose trait it is then uses its built-in policy.
//! - The digest of a policy is the SHA-256 of its component file. Compiled code is kept under that digest and is only run if this host
//!   program made it (see `cache.rs`, which has the one `unsafe` block).
//!
//! This crate knows nothing of running instances, disks or the store.

#![deny(unsafe_code)]

mod admission;
mod billing;
mod bindings;
mod cache;
mod error;
mod guarded;
mod host;
mod inspect;
mod kept;
mod limits;
mod plugin;
mod sandbox;
mod scheduler;
mod session;
mod ticker;

pub use self::billing::BillingPlugin;
pub use admission::AdmissionPlugin;
pub use cache::CacheError;
pub use error::LoadError;
pub use guarded::{Guarded, PluginStatus};
pub use host::{Parameters, PluginHost};
pub use inspect::ComponentFacts;
pub use limits::Limits;
pub use plugin::PluginKind;
pub use scheduler::SchedulerPlugin;
pub use types::{FailureKind, PolicyFailure, PolicyIdentity};
