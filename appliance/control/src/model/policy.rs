//! What policies decided. Placement decisions are kept as `placement` made them.

use types::{ChargeId, InstanceId, Money, Sha256Digest, Timestamp};

/// A stretch of an instance's use.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// The instance.
    pub instance: InstanceId,
    /// Its type, if it has one.
    pub instance_type: Option<String>,
    /// Start of the stretch.
    pub from: Timestamp,
    /// End of the stretch.
    pub to: Timestamp,
    /// Virtual CPUs during the stretch.
    pub vcpus: u32,
    /// Memory during the stretch.
    pub memory: types::ByteCount,
    /// Disk space during the stretch.
    pub disk: types::ByteCount,
}

/// One line of a charge.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ChargeLine {
    /// What: `vcpu`, `memory`, `disk`.
    pub item: String,
    /// How the amount came about, for people.
    pub detail: Option<String>,
    /// How much.
    pub amount: types::Decimal,
}

/// A stretch of an instance's use, priced.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Charge {
    /// `chg-…`
    pub id: ChargeId,
    /// The instance.
    pub instance: InstanceId,
    /// Start of the stretch.
    pub from: Timestamp,
    /// End of the stretch.
    pub to: Timestamp,
    /// Its length in whole seconds: stretches meet end to start, so their seconds add up to the whole.
    pub seconds: u64,
    /// What it costs.
    pub amount: Money,
    /// The policy that priced it: a plugin's name, or `built-in`.
    pub policy: String,
    /// The digest of the policy's module; `None` for the built-in policy.
    pub module_sha256: Option<Sha256Digest>,
    /// Why the built-in policy had to price it in the plugin's place.
    pub fallback_reason: Option<String>,
    /// What was priced.
    pub lines: Vec<ChargeLine>,
}

/// What an instance cost so far, in one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargeTotal {
    /// The instance.
    pub instance: InstanceId,
    /// Seconds charged.
    pub seconds: u64,
    /// What they cost.
    pub amount: Money,
}

/// What a policy decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PolicyKind {
    /// Where instances go.
    Scheduler,
    /// What their use costs.
    Billing,
}

/// A policy in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyStatus {
    /// What it decides about.
    pub kind: PolicyKind,
    /// Its name; `built-in` when no plugin is loaded.
    pub name: String,
    /// The digest of its module; `None` for the built-in policy.
    pub module_sha256: Option<Sha256Digest>,
    /// Whether it is asked; false: the built-in policy decides, see `last_error`.
    pub healthy: bool,
    /// Calls since the daemon started.
    pub calls: u64,
    /// Calls that the built-in policy had to answer.
    pub fallbacks: u64,
    /// Why it last failed.
    pub last_error: Option<String>,
}
