//! Commands about how things are paid for.

use super::Request;
use crate::model::{DiskCategory, PayBy};
use billing::Period;
use types::{AccountId, ByteCount, Currency, Decimal, SubscriptionId};

/// How new instances are to be paid for.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Charging {
    /// By the second, afterwards (ECS PostPaid).
    #[default]
    PayAsYouGo,
    /// In advance (ECS PrePaid).
    Subscription {
        /// For how long at first.
        period: Period,
        /// For how long it is renewed by itself; `None`: it is not.
        auto_renew: Option<Period>,
    },
    /// By the second, and they may be reclaimed (ECS SpotStrategy).
    Preemptible {
        /// The most each pays per hour (ECS SpotWithPriceLimit); `None`: whatever the market price is (SpotAsPriceGo).
        limit: Option<Decimal>,
    },
}

/// Ask what instances would cost (ECS DescribePrice).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteInstances {
    /// The type: sets vCPUs and memory unless they are given.
    pub instance_type: Option<String>,
    /// Virtual CPUs.
    pub vcpus: Option<u32>,
    /// Memory.
    pub memory: Option<ByteCount>,
    /// The disks of each, at most 17; the local disks of its type are added.
    pub disks: Vec<(ByteCount, DiskCategory)>,
    /// How they would be paid for.
    pub charging: Charging,
    /// How many, 1 to 100.
    pub count: u32,
}

/// Buy another term (ECS RenewInstance).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RenewSubscription {
    /// Token and dry run.
    pub request: Request,
    /// Which.
    pub subscription: SubscriptionId,
    /// For how long.
    pub period: Period,
}

/// Make what is subscribed to larger or smaller for the rest of what is paid (ECS ModifyPrepayInstanceSpec).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ChangeSubscription {
    /// Token and dry run.
    pub request: Request,
    /// Which.
    pub subscription: SubscriptionId,
    /// The new instance type.
    pub instance_type: String,
}

/// Say how an account pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAccount {
    /// Which; `None`: the host's.
    pub account: Option<AccountId>,
    /// How.
    pub pay_by: PayBy,
}

/// Note that an account paid.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PayIn {
    /// Token and dry run.
    pub request: Request,
    /// Which; `None`: the host's.
    pub account: Option<AccountId>,
    /// How much; below zero it is paid out.
    pub amount: Decimal,
    /// In what; `None`: that of the prices in force.
    pub currency: Option<Currency>,
    /// What people know it by: at most 128 characters.
    pub reference: Option<String>,
}

/// Set the market price of preemptible instances from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetSpotPrice {
    /// Of which type.
    pub instance_type: String,
    /// The price of one per hour, in the currency of the prices in force; not negative.
    pub price: Decimal,
}
