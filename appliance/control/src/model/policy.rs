//! What policies decided. Placement decisions and charges are kept as `placement` and `ledger` made them.

use types::{InstanceId, ModuleDigest, Money};

/// What a resource cost so far, in one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargeTotal {
    /// Id of the resource: `i-…`, `d-…`.
    pub resource: String,
    /// Seconds charged; of a disk and an instance they are counted apart.
    pub seconds: u64,
    /// What they cost.
    pub amount: Money,
}

impl ChargeTotal {
    /// The instance, if that is what it is about.
    #[must_use]
    pub fn instance(&self) -> Option<InstanceId> {
        self.resource.parse().ok()
    }
}

/// What a policy decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PolicyKind {
    /// Where instances go.
    Scheduler,
    /// What their use costs.
    Billing,
    /// Which requests are let in.
    Admission,
}

/// A policy in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyStatus {
    /// What it decides about.
    pub kind: PolicyKind,
    /// Its name.
    pub name: String,
    /// Its code: `built-in` when no plugin is loaded.
    pub module_sha256: ModuleDigest,
    /// Whether it is asked; false: the built-in policy decides, see `last_error`.
    pub healthy: bool,
    /// Calls since the daemon started.
    pub calls: u64,
    /// Calls that the built-in policy had to answer.
    pub fallbacks: u64,
    /// Why it last failed.
    pub last_error: Option<String>,
}
