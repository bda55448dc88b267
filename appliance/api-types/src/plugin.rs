//! Policy plugins.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a policy decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PluginKind {
    /// Where instances go.
    Scheduler,
    /// What their use costs.
    Billing,
    /// Which requests are let in.
    Admission,
}

/// A policy in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Plugin {
    /// What it decides about.
    pub kind: PluginKind,
    /// Its name.
    pub name: String,
    /// SHA-256 of its module, lower-case hex; absent for the built-in policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_sha256: Option<String>,
    /// Whether it is asked; false: the built-in policy decides, see `last_error`.
    pub healthy: bool,
    /// Calls since the daemon started.
    #[serde(default)]
    pub calls: u64,
    /// Calls that the built-in policy had to answer.
    #[serde(default)]
    pub fallbacks: u64,
    /// Why it last failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}
