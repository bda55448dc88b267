//! Placement decisions: why an instance is where it is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One placement decision, as it was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Decision {
    /// `dec-…`
    pub id: String,
    /// The instance it was about; one that was refused never came to be.
    pub instance_id: String,
    /// When (RFC 3339).
    #[schema(format = DateTime)]
    pub decided_at: String,
    /// The policy that decided: its name.
    pub policy: String,
    /// SHA-256 of the policy's module, lower-case hex; absent for the built-in policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_sha256: Option<String>,
    /// SHA-256 of the policy's parameters, lower-case hex.
    pub configuration_sha256: String,
    /// SHA-256 of the request and of the state of all hosts: equal inputs and an equal policy give an equal outcome.
    pub inputs_sha256: String,
    /// The chosen host; absent when no host would do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_id: Option<String>,
    /// Why, in a sentence.
    pub reason: String,
    /// Why the built-in policy had to decide in the plugin's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_reason: Option<String>,
    /// How long the policy took, in milliseconds.
    pub elapsed_ms: f64,
    /// What became of each host that was looked at.
    pub hosts: Vec<HostOutcome>,
}

/// What a decision was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DecisionInputs {
    /// The decision: `dec-…`
    pub decision_id: String,
    /// When (RFC 3339).
    #[schema(format = DateTime)]
    pub decided_at: String,
    /// The chosen host; absent when no host would do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_id: Option<String>,
    /// What was asked for.
    #[schema(value_type = Object)]
    pub request: serde_json::Value,
    /// The hosts as they were.
    #[schema(value_type = Vec<Object>)]
    pub hosts: serde_json::Value,
}

/// What a decision made of one host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostOutcome {
    /// The host.
    pub host_id: String,
    /// Chosen, fit or rejected.
    pub outcome: Outcome,
    /// The policy's score; higher is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// The condition it did not meet: `vcpus`, `memory`, …; of a rejected host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<String>,
}

/// What a decision makes of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The instance went there.
    Chosen,
    /// It would have done; another was better.
    Fit,
    /// It would not do.
    Rejected,
}

/// A decision that was made again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DecisionRerun {
    /// Whether it came out the same, to the last byte, but for the time it took.
    pub same: bool,
    /// SHA-256 of the decision that was kept, lower-case hex.
    pub kept_sha256: String,
    /// SHA-256 of what comes out now, lower-case hex.
    pub rerun_sha256: String,
    /// What comes out now.
    pub decision: Decision,
}
