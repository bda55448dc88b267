//! What was used and what it costs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One charge: a stretch of something's use, priced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Charge {
    /// `chg-…`
    pub id: String,
    /// What was used: an instance, a disk, an image.
    pub resource_id: String,
    /// The instance, if that is what was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// What was metered: `instance-running`, `instance-stopped`, `disk-allocated`, `image-stored`, or a meter's name.
    pub meter: String,
    /// Start of the stretch (RFC 3339).
    #[schema(format = DateTime)]
    pub from: String,
    /// End of the stretch (RFC 3339).
    #[schema(format = DateTime)]
    pub to: String,
    /// Its length, seconds.
    pub seconds: u64,
    /// What it costs, a decimal.
    pub amount: String,
    /// ISO 4217 code of `amount`.
    pub currency: String,
    /// The policy that priced it: its name.
    pub policy: String,
    /// SHA-256 of the policy's module, lower-case hex; absent for the built-in policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_sha256: Option<String>,
    /// SHA-256 of the policy's parameters, lower-case hex.
    pub configuration_sha256: String,
    /// Why the built-in policy had to price it in the plugin's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_reason: Option<String>,
}

/// What a meter of something cost so far, in one currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageTotal {
    /// What was used: an instance, a disk, an image.
    pub resource_id: String,
    /// What was metered of it.
    #[serde(default)]
    pub meter: String,
    /// The instance, if that is what was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Seconds charged.
    pub seconds: u64,
    /// What they cost, a decimal.
    pub amount: String,
    /// ISO 4217 code of `amount`.
    pub currency: String,
}

/// Use and charges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// The charges, oldest first, a page at a time.
    pub charges: Vec<Charge>,
    /// The totals over everything the request asked for, not only over this page.
    pub totals: Vec<UsageTotal>,
    /// Give this as `next_token` to get the next page of charges; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}
