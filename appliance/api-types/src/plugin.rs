//! Policy plugins.

use std::collections::BTreeMap;

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

/// What a policy is there for at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PluginRole {
    /// It decides.
    Active,
    /// It decides about a share of the instances, or of what is used, instead of the active one; see `canary_percent`.
    Canary,
    /// It is asked, too, what the active one is asked; differences are noted and nothing else comes of it.
    Shadow,
}

/// A policy that is installed, or in force without being.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Plugin {
    /// Its name; of an installed one with its revision, `tiered@3`: what decisions and charges name.
    pub name: String,
    /// What it decides about.
    pub kind: PluginKind,
    /// SHA-256 of its module, lower-case hex; absent for the built-in policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_sha256: Option<String>,
    /// Size of its module in bytes; of an installed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// When it was installed (RFC 3339); absent for one the daemon was started with, and the built-in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub installed_at: Option<String>,
    /// Its parameters; of an installed one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// What the signature of its module says of itself, where signatures are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// What it is there for; nothing: it only waits.
    #[serde(default)]
    pub roles: Vec<PluginRole>,
    /// Its share in percent, if it is the canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_percent: Option<u8>,
    /// Whether it is asked; false: the built-in policy decides, see `last_error`. True of one that only waits.
    pub healthy: bool,
    /// Calls since it was loaded.
    #[serde(default)]
    pub calls: u64,
    /// Calls that the built-in policy had to answer.
    #[serde(default)]
    pub fallbacks: u64,
    /// Mean time of a call, in microseconds.
    #[serde(default)]
    pub mean_us: f64,
    /// Longest time of a call, in microseconds.
    #[serde(default)]
    pub max_us: f64,
    /// Why it last failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// Install a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InstallPlugin {
    /// What it is to be called: 1 to 64 lower-case letters, digits and hyphens, the first a letter. A name that is there gets
    /// another revision.
    pub name: String,
    /// Its module: a WebAssembly component, base64.
    pub component: String,
    /// Its parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// The text of the module's minisign signature, where the host asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// Check everything and change nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// A module to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InspectPlugin {
    /// The module: a WebAssembly component, base64.
    pub component: String,
}

/// What a module is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PluginModule {
    /// What it decides about.
    pub kind: PluginKind,
    /// SHA-256 of its file, lower-case hex.
    pub module_sha256: String,
    /// Size of its file in bytes.
    pub size_bytes: u64,
    /// What it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
}

/// Activate a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivatePlugin {
    /// Only for that share of the instances, or of what is used, chosen by their ids: 1 to 99 percent. Absent: for everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_percent: Option<u8>,
}

/// Go back to what was active before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollBackPlugin {
    /// Of which kind.
    pub kind: PluginKind,
}

/// What of the past a policy is asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayPlugin {
    /// From when (RFC 3339); absent: from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub from: Option<String>,
    /// Until when (RFC 3339); absent: until now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub to: Option<String>,
}

/// What a policy would have done about questions that the active one has answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginComparison {
    /// The policy.
    pub plugin: String,
    /// Since when it is compared, or from when the questions are (RFC 3339).
    #[schema(format = DateTime)]
    pub since: String,
    /// Questions that both answered.
    pub compared: u64,
    /// Those they answered alike.
    pub same: u64,
    /// Those this one did not answer, or answered wrongly.
    pub failures: u64,
    /// Questions that could not be asked: too many at once, or not kept with what it takes to ask them again.
    pub skipped: u64,
    /// The latest differences, at most 100.
    pub differences: Vec<PluginDifference>,
    /// The sums of all prices, in each currency.
    pub totals: Vec<PluginTotal>,
    /// This policy's mean time for a question, in microseconds; prices are asked for many at once.
    pub mean_us: f64,
    /// Its longest, in microseconds.
    pub max_us: f64,
    /// Why it last failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// Where two policies would not have done the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PluginDifference {
    /// What it is about: the instance that was placed, what was used, or the account whose request it was.
    pub resource_id: String,
    /// The placement decision, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<String>,
    /// What the active policy answered: a host, an amount, or what became of the request; absent: no host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<String>,
    /// What this one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<String>,
}

/// Prices of two policies in one currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PluginTotal {
    /// ISO 4217 code.
    pub currency: String,
    /// What was charged: decimal.
    pub active: String,
    /// What this policy would have charged: decimal.
    pub other: String,
}
