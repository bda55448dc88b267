//! Budgets: what an account means to spend in a month.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Set a budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetBudget {
    /// What is planned for a month, a decimal above 0.
    pub limit: String,
    /// ISO 4217 code of `limit`; absent: that of the host's prices, which it must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// When to tell: 1 to 10 different percentages of the limit, 1 to 1000.
    #[serde(default = "thresholds")]
    #[schema(default = json!([50, 80, 100]))]
    pub thresholds: Vec<u32>,
}

fn thresholds() -> Vec<u32> {
    vec![50, 80, 100]
}

/// A budget, and how far it is used up in the month that it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Budget {
    /// Its name.
    pub name: String,
    /// Whose spending it is about.
    pub account: String,
    /// What is planned for a month, a decimal.
    pub limit: String,
    /// ISO 4217 code of the amounts.
    pub currency: String,
    /// When is told: percentages of the limit.
    pub thresholds: Vec<u32>,
    /// The month that it is: `2026-01`.
    pub month: String,
    /// What was settled in it.
    pub spent: String,
    /// The thresholds that were told of in it.
    pub told: Vec<u32>,
}
