//! How instances are paid for.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How long a term is (ECS Period and PeriodUnit): 1 to 4 weeks, 1 to 60 months or 1 to 5 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Period {
    /// How many.
    #[schema(minimum = 1, maximum = 60)]
    pub count: u32,
    /// Of what.
    pub unit: PeriodUnit,
}

/// What terms are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeriodUnit {
    /// Seven days.
    Week,
    /// A calendar month.
    Month,
    /// Twelve calendar months.
    Year,
}

/// What kinds of charge there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChargeType {
    /// By the second, afterwards (ECS PostPaid).
    PayAsYouGo,
    /// In advance, for a period (ECS PrePaid).
    Subscription,
    /// By the second, and it may be reclaimed (ECS SpotStrategy).
    Preemptible,
}

/// How new instances are to be paid for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCharge {
    /// Of what kind.
    #[serde(rename = "type")]
    pub kind: ChargeType,
    /// Of a subscription, which needs one: for how long at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
    /// Of a subscription: for how long it is renewed by itself; absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_renew: Option<Period>,
    /// Of preemptible instances: the most each pays per hour, a decimal (ECS SpotWithPriceLimit); absent: whatever the market
    /// price is (ECS SpotAsPriceGo).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_limit: Option<String>,
}

/// How an instance is paid for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum InstanceCharge {
    /// By the second, afterwards.
    #[default]
    PayAsYouGo,
    /// In advance, with the disks that were made with it.
    Subscription {
        /// `sub-…`
        subscription_id: String,
    },
    /// By the second, and it may be reclaimed.
    Preemptible {
        /// The most it pays per hour, a decimal; absent: whatever the market price is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        price_limit: Option<String>,
        /// What it costs per hour while it is protected, a decimal.
        entry_price: String,
        /// ISO 4217 code of both.
        currency: String,
        /// Until when it is neither given notice nor reclaimed (RFC 3339).
        #[schema(format = DateTime)]
        protected_until: String,
        /// The notice it was given, if it was. It stands.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        notice: Option<SpotNotice>,
    },
}

/// Word to a preemptible instance that it will be reclaimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpotNotice {
    /// When it was given (RFC 3339).
    #[schema(format = DateTime)]
    pub given_at: String,
    /// When the instance is reclaimed: five minutes later (RFC 3339).
    #[schema(format = DateTime)]
    pub reclaim_at: String,
    /// Why.
    pub reason: SpotReason,
    /// The market price per hour that was above its limit, a decimal; only of that reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<String>,
}

/// Why a preemptible instance is reclaimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpotReason {
    /// The market price rose above its limit.
    PriceAboveLimit,
    /// Others need what it takes.
    StockNeeded,
}

/// An instance that does not run before something is paid (ECS OperationLocks, LockReason `financial`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceLock {
    /// Why.
    pub reason: LockReason,
}

/// What is not paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LockReason {
    /// Its account owes.
    Arrears,
    /// Its subscription has expired.
    Expired,
}
