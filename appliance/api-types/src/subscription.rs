//! Subscriptions: instances paid for in advance.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Period;

/// A subscription, and what it paid for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Subscription {
    /// `sub-…`
    pub id: String,
    /// Who pays.
    pub account: String,
    /// What for: `i-…`.
    pub resource_id: String,
    /// The instance type it pays for, or `custom`.
    pub plan: String,
    /// Where it is in its life.
    pub state: SubscriptionState,
    /// How long its latest term is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
    /// When what is paid ends: 00:00 UTC of the day after its last (RFC 3339).
    #[schema(format = DateTime)]
    pub expires_at: String,
    /// For how long it is renewed by itself each time; absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_renew: Option<Period>,
    /// What was paid and paid back, oldest first.
    pub purchases: Vec<Purchase>,
}

/// Where a subscription is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionState {
    /// Paid for.
    Active,
    /// Expired, and its instance stopped. It can be renewed for 15 days.
    Stopped,
    /// Its instance is gone.
    Released,
}

/// A payment for a subscription, or a refund.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Purchase {
    /// `pur-…`
    pub id: String,
    /// Why.
    pub kind: PurchaseKind,
    /// The plan from then on.
    pub plan: String,
    /// When (RFC 3339).
    #[schema(format = DateTime)]
    pub at: String,
    /// Start of the time it is for (RFC 3339).
    #[schema(format = DateTime)]
    pub from: String,
    /// End of that time (RFC 3339).
    #[schema(format = DateTime)]
    pub to: String,
    /// How much, a decimal; below zero is a refund.
    pub amount: String,
    /// ISO 4217 code of it.
    pub currency: String,
}

/// Why something was paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PurchaseKind {
    /// A new subscription.
    New,
    /// A renewal that was asked for.
    Renewal,
    /// A renewal by itself.
    AutoRenewal,
    /// A change to a plan that costs as much or more.
    Upgrade,
    /// A change to a plan that costs less.
    Downgrade,
}

/// Buy another term.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewSubscription {
    /// For how long.
    pub period: Period,
    /// Makes a repeated request answer what the first answered: up to 64 ASCII characters of your choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64)]
    pub client_token: Option<String>,
    /// Check everything, change nothing: a request that would succeed answers the problem `DryRunOperation`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// Change how a subscription goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModifySubscription {
    /// For how long it is renewed by itself each time, from 9 days before its end on; null: it is not.
    // Not optional: a request that forgets it must not end anything.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required = true)]
    pub auto_renew: Option<Period>,
}

/// Give what is subscribed to another type for the rest of what is paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeSubscription {
    /// The new instance type.
    pub instance_type: String,
    /// Makes a repeated request answer what the first answered: up to 64 ASCII characters of your choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64)]
    pub client_token: Option<String>,
    /// Check everything, change nothing: a request that would succeed answers the problem `DryRunOperation`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}
