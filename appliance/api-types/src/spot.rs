//! The market of preemptible instances.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a preemptible instance of a type costs now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpotPrice {
    /// Name of the type.
    pub instance_type: String,
    /// The price of one per hour, a decimal.
    pub price: String,
    /// ISO 4217 code of it.
    pub currency: String,
    /// Since when it is that (RFC 3339).
    #[schema(format = DateTime)]
    pub since: String,
}

/// What preemptible instances of a type cost over time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpotPriceHistory {
    /// What they cost now.
    #[serde(flatten)]
    pub now: SpotPrice,
    /// From when which price held, oldest first: the last 1000.
    pub history: Vec<SpotPriceStep>,
}

/// A price from some time on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpotPriceStep {
    /// From when (RFC 3339).
    #[schema(format = DateTime)]
    pub from: String,
    /// The price of one per hour, a decimal.
    pub price: String,
}

/// Set the market price of a type from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSpotPrice {
    /// The price of one per hour in the currency of the host's prices, a decimal, not negative.
    pub price: String,
}
