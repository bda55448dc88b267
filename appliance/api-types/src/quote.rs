//! Quotes: what instances would cost.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::NewCharge;

/// Ask what instances would cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuoteInstances {
    /// An instance type such as `ecs.g6.large`; or else `vcpus` and `memory_mib`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    /// Virtual CPUs; with `memory_mib`, instead of `instance_type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub vcpus: Option<u32>,
    /// Memory, MiB; with `vcpus`, instead of `instance_type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub memory_mib: Option<u64>,
    /// The disks of each, its system disk included; the local disks of its type are added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 17)]
    pub disks: Vec<QuoteDisk>,
    /// How they would be paid for; absent: by the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charge: Option<NewCharge>,
    /// How many. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    pub count: Option<u32>,
}

/// A disk of each instance asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuoteDisk {
    /// Its size, GiB.
    #[schema(minimum = 1, maximum = 32768)]
    pub size_gib: u64,
    /// What it is on; default `cloud_essd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<crate::DiskCategory>,
}

/// What instances would cost. Nothing is reserved: prices may change until something is bought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quote {
    /// What it is made of: each line for all instances asked about.
    pub lines: Vec<QuoteLine>,
    /// All lines together, a decimal.
    pub total: String,
    /// ISO 4217 code of all amounts.
    pub currency: String,
    /// What all amounts are for.
    pub per: PriceUnit,
    /// The market price of one instance per hour, a decimal; only of preemptible ones, where there is a market.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub market_price: Option<String>,
    /// The policy whose prices they are: its name.
    pub policy: String,
    /// SHA-256 of the policy's module, lower-case hex; absent for the built-in policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_sha256: Option<String>,
    /// SHA-256 of the policy's parameters, lower-case hex.
    pub configuration_sha256: String,
    /// Why the configured policy's prices were not used, if they were not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_reason: Option<String>,
}

/// One line of a quote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuoteLine {
    /// What it is for, for people.
    pub item: String,
    /// Its price after the discount, a decimal.
    pub amount: String,
    /// Why it is less than the list price, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discount: Option<String>,
}

/// What a price is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PriceUnit {
    /// Each hour.
    Hour,
    /// The whole period.
    Term,
}
