//! How things are paid for: charge types, subscriptions, accounts, the market of preemptible instances.

use billing::{ArrearsAction, Due, PriceHistory, Purchase, QuoteLine, SpotLease, Subscription};
use serde::{Deserialize, Serialize};
use types::{
    AccountId, Decimal, Money, PaymentId, PolicyFailure, PolicyIdentity, SubscriptionId, Timestamp,
};

/// How an instance is paid for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum InstanceCharge {
    /// By the second, afterwards (ECS PostPaid).
    #[default]
    PayAsYouGo,
    /// In advance (ECS PrePaid), with the disks that were made with it.
    Subscription {
        /// Under which subscription.
        subscription: SubscriptionId,
    },
    /// By the second, and it may be reclaimed (ECS SpotStrategy).
    Preemptible {
        /// Its bid, its protection, and the notice it was given.
        lease: SpotLease,
    },
}

impl InstanceCharge {
    /// For programs: `pay_as_you_go`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::PayAsYouGo => "pay_as_you_go",
            Self::Subscription { .. } => "subscription",
            Self::Preemptible { .. } => "preemptible",
        }
    }

    /// Under which subscription, if under any.
    #[must_use]
    pub const fn subscription(&self) -> Option<SubscriptionId> {
        match self {
            Self::Subscription { subscription } => Some(*subscription),
            Self::PayAsYouGo | Self::Preemptible { .. } => None,
        }
    }

    /// What it may be reclaimed under, if it may.
    #[must_use]
    pub const fn lease(&self) -> Option<&SpotLease> {
        match self {
            Self::Preemptible { lease } => Some(lease),
            Self::PayAsYouGo | Self::Subscription { .. } => None,
        }
    }
}

/// Why an instance must not run, for want of money (ECS OperationLocks, LockReason `financial`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum FinancialLock {
    /// Its account owes.
    Arrears {
        /// Whether it ran when it was stopped for that, and is started once all is paid.
        restart: bool,
    },
    /// Its subscription has expired.
    Expired {
        /// Whether it ran when it was stopped for that, and is started once it is renewed.
        restart: bool,
    },
}

impl FinancialLock {
    /// For programs: `arrears`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arrears { .. } => "arrears",
            Self::Expired { .. } => "expired",
        }
    }

    /// Whether the instance ran when it was stopped for this.
    #[must_use]
    pub const fn restart(self) -> bool {
        let (Self::Arrears { restart } | Self::Expired { restart }) = self;
        restart
    }
}

/// How an account pays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayBy {
    /// By its monthly invoice, outside of this program: it is never in arrears here.
    #[default]
    Invoice,
    /// From what it has paid in: each settlement and purchase is taken from its balance.
    Balance,
}

impl PayBy {
    /// For programs: `invoice`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invoice => "invoice",
            Self::Balance => "balance",
        }
    }
}

/// Somebody who pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Who.
    pub id: AccountId,
    /// How it pays.
    pub pay_by: PayBy,
    /// What it has paid in and not used yet, in each currency; below zero it owes. Empty of one that pays by invoice.
    pub balances: Vec<Money>,
    /// Its debts, one for each currency.
    pub arrears: Vec<AccountArrears>,
}

/// A debt of an account in one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountArrears {
    /// How much.
    pub owed: Money,
    /// T: when payment first failed.
    pub since: Timestamp,
    /// When what the account has was stopped for it.
    pub stopped: Option<Timestamp>,
    /// What is done next if nothing is paid, and when.
    pub next: Option<Due<ArrearsAction>>,
}

/// Money that an account paid in, or that was taken from it otherwise. Never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// `pay-…`
    pub id: PaymentId,
    /// Whose.
    pub account: AccountId,
    /// How much; below zero is a payout.
    #[serde(flatten)]
    pub money: Money,
    /// When.
    pub at: Timestamp,
    /// Of what kind.
    pub kind: PaymentKind,
    /// What people know it by, such as the number of a transfer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// Why an account's balance changed, apart from what it used and bought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentKind {
    /// Money was paid in, or out.
    Deposit,
    /// It began to pay from its balance: what it had used before is paid by invoice.
    Opening,
}

impl PaymentKind {
    /// For programs: `deposit`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deposit => "deposit",
            Self::Opening => "opening",
        }
    }
}

/// A subscription, and what it paid for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionStatus {
    /// Terms, plan and stage.
    pub subscription: Subscription,
    /// Its purchases, oldest first.
    pub purchases: Vec<Purchase>,
}

/// What a purchase would cost, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Its lines: each for all instances asked about.
    pub lines: Vec<QuoteLine>,
    /// All of them together.
    pub total: Money,
    /// The market price of one instance per hour, if it is preemptible and there is a market.
    pub market: Option<Decimal>,
    /// Whose prices they are.
    pub policy: PolicyIdentity,
    /// Why the configured policy's prices were not used, if they were not.
    pub fallback: Option<PolicyFailure>,
}

/// The market of preemptible instances of one type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpotMarket {
    /// Name of the type.
    pub instance_type: String,
    /// The price of one instance per hour over time: at most [`MAX_SPOT_STEPS`] steps, the oldest are forgotten.
    pub prices: PriceHistory,
}

/// So many changes of a market's price are kept.
pub const MAX_SPOT_STEPS: usize = 1000;
