//! Placement: on which host an instance goes, and why.
//!
//! ```text
//! PlacementRequest ─┐
//! HostTable ────────┴─► SchedulingPolicy::evaluate ─► one Verdict per host ─► Scheduler::decide ─► Decision | NoStock
//! ```
//!
//! A [`SchedulingPolicy`] refuses or scores each host; it never chooses and never changes anything. [`Scheduler::decide`]
//! checks what the policy said (a host without room cannot be won by any score), takes the best host, and writes down
//! everything that is needed to explain the decision and to make it again. When the policy fails, the built-in one
//! decides and the decision says so.
//!
//! Where many instances want a host at once, [`Scheduler::place`] asks only which host is best, which a policy can answer without looking at
//! every host; the winners are those `decide` would name one by one, and `decide` explains each of them when somebody asks.
//!
//! Where other instances are ([`Affinity`]) is no policy's business: hosts ruled out by it lose their scores after the policy has answered.
//!
//! This crate knows no clock but the one that measures a call, no store and no plugin: capacity is kept by the caller
//! in a [`HostTable`], changed by [`HostTable::reserve`] and [`HostTable::release`].

#![forbid(unsafe_code)]

mod batch;
mod builtin;
mod constraint;
mod decision;
mod digest;
mod host;
mod policy;
mod request;
mod table;

pub use batch::{Placements, check_places};
pub use builtin::{BuiltIn, Strategy, UnknownStrategy};
pub use constraint::Constraint;
pub use decision::{Decision, HostOutcome, NoStock, Outcome, Scheduler};
pub use host::{CapacityError, HostRow};
pub use policy::{MAX_SCORE, SchedulingPolicy, Verdict, check_verdicts, highest};
pub use request::{Affinity, DeploymentSet, Footprint, PlacementRequest};
pub use table::{Columns, HostTable, TableError};
pub use types::{FailureKind, ModuleDigest, PolicyFailure, PolicyIdentity};
