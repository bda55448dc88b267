//! Meters: what is counted beside instances and disks, by names that billing policies have prices for.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Set a meter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetMeter {
    /// How much of it lasts from now on: a decimal above 0, at most 10⁹, with at most 9 decimals.
    pub quantity: String,
    /// It lasts only while the instance runs; for instances only.
    #[serde(default)]
    pub while_running: bool,
}

/// Who has something metered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MeterSetter {
    /// Who runs the host.
    #[default]
    Operator,
    /// The billing policy.
    BillingPolicy,
}

/// Something that is metered of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Meter {
    /// The instance, disk or image that it is of: its id.
    pub resource_id: String,
    /// The name that billing policies know it by.
    pub name: String,
    /// How much of it lasts, a decimal.
    pub quantity: String,
    /// Whether it lasts only while the instance runs.
    #[serde(default)]
    pub while_running: bool,
    /// Who has it metered.
    #[serde(default)]
    pub set_by: MeterSetter,
    /// When it was set first (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
}
