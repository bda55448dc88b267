//! Terms, what parts of them are worth, and the record of what was paid.

use super::Plan;
use crate::{PAYABLE_DECIMALS, Period};
use serde::{Deserialize, Serialize};
use types::{AccountId, Currency, Decimal, Money, PurchaseId, SubscriptionId, Timestamp};

/// A stretch of time that was bought at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// When it begins.
    pub from: Timestamp,
    /// When it ends: at the start of the day after its last.
    pub to: Timestamp,
    /// How it was sold.
    pub period: Period,
    /// What it is made of: without a gap, one more for each change of plan.
    pub pieces: Vec<Piece>,
}

/// A part of a term under one plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// When it begins.
    pub from: Timestamp,
    /// When it ends.
    pub to: Timestamp,
    /// The plan's name.
    pub plan: String,
    /// What was paid for it and not refunded.
    pub price: Decimal,
}

/// A payment for a subscription, or a refund.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purchase {
    /// Its id, determined by the subscription and its number there.
    pub id: PurchaseId,
    /// Of which subscription.
    pub subscription: SubscriptionId,
    /// Who paid, or is paid back.
    pub account: AccountId,
    /// For what: `i-…`, `d-…`, ….
    pub resource: String,
    /// Why.
    pub kind: PurchaseKind,
    /// The plan from then on.
    pub plan: String,
    /// When.
    pub at: Timestamp,
    /// The time it is for: from …
    pub from: Timestamp,
    /// … to.
    pub to: Timestamp,
    /// How much; below zero is a refund.
    #[serde(flatten)]
    pub money: Money,
}

/// Why something was paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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

impl PurchaseKind {
    /// Its name, as it is serialised.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Renewal => "renewal",
            Self::AutoRenewal => "auto-renewal",
            Self::Upgrade => "upgrade",
            Self::Downgrade => "downgrade",
        }
    }
}

impl Term {
    pub(super) fn new(
        from: Timestamp,
        to: Timestamp,
        period: Period,
        plan: &Plan,
        price: Money,
    ) -> Self {
        Self {
            from,
            to,
            period,
            pieces: vec![Piece {
                from,
                to,
                plan: plan.name().to_owned(),
                price: price.amount,
            }],
        }
    }

    /// Puts what is left of it at `at` under `plan`, of which the whole term costs `price`; what that costs more. `None` out of range.
    pub(super) fn change_plan(
        &mut self,
        plan: &Plan,
        price: Money,
        at: Timestamp,
    ) -> Option<Money> {
        let Money { amount, currency } = price;
        if at >= self.to {
            return Some(money(Decimal::ZERO, currency));
        }
        let mut refund = Decimal::ZERO;
        for piece in &mut self.pieces {
            let used = used(piece.price, (piece.from, piece.to), at)?;
            refund += piece.price - used;
            piece.price = used;
            piece.to = piece.to.min(at);
        }
        self.pieces.retain(|piece| piece.from < piece.to);
        let price = amount - used(amount, (self.from, self.to), at)?;
        self.pieces.push(Piece {
            from: at.max(self.from),
            to: self.to,
            plan: plan.name().to_owned(),
            price,
        });
        Some(money(price - refund, currency))
    }
}

fn money(amount: Decimal, currency: Currency) -> Money {
    Money::new(amount, currency).rounded(PAYABLE_DECIMALS)
}

/// What of `price` for the time between `from` and `to` is used up at `at`, to the millisecond, rounded half to even. `None` out of
/// range.
fn used(price: Decimal, (from, to): (Timestamp, Timestamp), at: Timestamp) -> Option<Decimal> {
    if at >= to {
        return Some(price);
    }
    let millis = |end: Timestamp| {
        let millis = end.saturating_since(from).as_millis();
        i64::try_from(millis).ok().map(Decimal::from)
    };
    let used = price.checked_mul(millis(at)?)?.checked_div(millis(to)?)?;
    Some(used.round_dp(PAYABLE_DECIMALS))
}
