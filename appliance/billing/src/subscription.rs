//! Subscriptions: resources paid for in advance. ECS contract: Money (PrePaid).
//!
//! ```text
//!            renew, auto-renew          expiry              15 days
//!                ┌──────┐                  │                   │
//! purchase ──► Active ◄─┘ ───────────────► Stopped ──────────► Released
//!                ▲  │ upgrade, downgrade      │
//!                │  └──► Active               │ renew: a new term from now
//!                └────────────────────────────┘
//! ```
//!
//! A term ends at 00:00 of the day after its last, at the subscription's offset from UTC. Auto-renewal is tried daily from
//! [`AUTO_RENEW_DAYS`] days before that, the last time a day before; not before the term begins, nor before it was switched on.

mod plan;
mod term;

pub use plan::Plan;
pub use term::{Piece, Purchase, PurchaseKind, Term};

use crate::{
    KEPT_DAYS, OutOfOrder, PAYABLE_DECIMALS, Period, RenewalRequest, days,
    due::{self, Due},
    period::Calendar,
};
use serde::{Deserialize, Serialize};
use types::{
    AccountId, CurrencyMismatch, Money, PurchaseId, Sha256Digest, SubscriptionId, Timestamp,
    UtcOffset,
};

/// How many days before the expiry auto-renewal is tried first.
pub const AUTO_RENEW_DAYS: u8 = 9;

/// Where a subscription is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Paid for.
    Active,
    /// Expired, and its resource stopped. It can be renewed.
    Stopped,
    /// Its resource is gone.
    Released,
}

/// What is to be done about a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum SubscriptionAction {
    /// Try to collect a renewal's price. [`Subscription::auto_renew`] if that works, [`Subscription::done`] if it does not.
    AutoRenew {
        /// Which try, from 1 to 9.
        attempt: u8,
        /// The term to buy.
        period: Period,
    },
    /// Stop the resource (event `InstanceExpiration.Stop`).
    Stop,
    /// Release the resource (event `InstanceExpiration.Delete`).
    Release,
}

/// A change that a subscription does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionError {
    /// A plan's price is below 0 or too high.
    #[error("plan `{plan}` has the price {price}; it must be from 0 to {max}", max = plan::MAX_PRICE)]
    Price {
        /// The plan's name.
        plan: String,
        /// The price.
        price: types::Decimal,
    },
    /// A change needs a subscription that runs.
    #[error("subscription {0} has expired; renew it first")]
    Expired(SubscriptionId),
    /// It is too late to renew.
    #[error(
        "subscription {0} is past the {KEPT_DAYS} days it is kept after its expiry; buy a new one"
    )]
    Gone(SubscriptionId),
    /// A term would end past the year 9999, or an amount would be out of range.
    #[error(
        "a term or amount of subscription {0} would be out of range; choose a shorter term or a lower price"
    )]
    OutOfRange(SubscriptionId),
    /// The new plan is in another currency.
    #[error(transparent)]
    Currency(#[from] CurrencyMismatch),
    /// Another action is due first, or the renewal was done already.
    #[error(transparent)]
    OutOfOrder(#[from] OutOfOrder),
}

/// What is bought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The new subscription's id.
    pub id: SubscriptionId,
    /// Who pays.
    pub account: AccountId,
    /// What for: `i-…`, `d-…`, ….
    pub resource: String,
    /// At what prices.
    pub plan: Plan,
    /// For how long at first.
    pub period: Period,
    /// Where its days begin.
    pub zone: UtcOffset,
    /// For how long it is renewed by itself, if it is.
    pub auto_renew: Option<Period>,
}

/// A resource paid for in advance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    id: SubscriptionId,
    account: AccountId,
    resource: String,
    plan: Plan,
    #[serde(flatten)]
    calendar: Calendar,
    stage: Stage,
    auto_renew: Option<AutoRenew>,
    terms: Vec<Term>,
    expires: Timestamp,
    /// How many purchases were made.
    purchases: u64,
    /// The latest change; none is before it.
    changed: Timestamp,
    /// When the last action that was done should have been done.
    done: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AutoRenew {
    period: Period,
    since: Timestamp,
}

impl Subscription {
    /// Buys `order` at `now`. Store both once the purchase is paid.
    ///
    /// # Errors
    /// [`SubscriptionError::OutOfRange`].
    pub fn buy(order: Order, now: Timestamp) -> Result<(Self, Purchase), SubscriptionError> {
        Self::buy_for(order, None, now)
    }

    /// As [`buy`](Self::buy), with the first term for `price` if there is one: what a commercial policy quoted.
    ///
    /// # Errors
    /// As of [`buy`](Self::buy); [`SubscriptionError::Currency`] and [`SubscriptionError::Price`] as of
    /// [`renew_for`](Self::renew_for).
    pub fn buy_for(
        order: Order,
        price: Option<Money>,
        now: Timestamp,
    ) -> Result<(Self, Purchase), SubscriptionError> {
        let Order { id, period, .. } = order;
        let out_of_range = || SubscriptionError::OutOfRange(id);
        let calendar = Calendar::from(order.zone, now).ok_or_else(out_of_range)?;
        let mut bought = Self {
            id,
            account: order.account,
            resource: order.resource,
            plan: order.plan,
            calendar,
            stage: Stage::Active,
            auto_renew: order
                .auto_renew
                .map(|period| AutoRenew { period, since: now }),
            terms: Vec::new(),
            expires: now,
            purchases: 0,
            changed: now,
            done: None,
        };
        let end = calendar.first_end(now, period).ok_or_else(out_of_range)?;
        let price = bought.renewal_price(period, price)?;
        let purchase = bought.add_term(PurchaseKind::New, (now, end), (period, price), now)?;
        Ok((bought, purchase))
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> SubscriptionId {
        self.id
    }

    /// Who pays.
    #[must_use]
    pub const fn account(&self) -> &AccountId {
        &self.account
    }

    /// What for.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// At what prices it is renewed.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where it is in its life.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// When what is paid ends.
    #[must_use]
    pub const fn expires(&self) -> Timestamp {
        self.expires
    }

    /// For how long it is renewed by itself, if it is.
    #[must_use]
    pub fn auto_renewed(&self) -> Option<Period> {
        self.auto_renew.map(|auto_renew| auto_renew.period)
    }

    /// What was paid for, oldest first.
    #[must_use]
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// What is due at `now` and not done yet, in the order to do it. After each, report it, and ask again: a renewal ends it.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> Vec<Due<SubscriptionAction>> {
        due::until(self.upcoming(), now)
    }

    /// When something is due next; `None` once it is released.
    #[must_use]
    pub fn wake(&self) -> Option<Timestamp> {
        self.upcoming().first().map(|due| due.at)
    }

    /// Notes that `due` was done (of a [`SubscriptionAction::AutoRenew`]: in vain). Again changes nothing.
    ///
    /// # Errors
    /// [`OutOfOrder`] if something else is due before it.
    pub fn done(&mut self, due: &Due<SubscriptionAction>) -> Result<(), OutOfOrder> {
        if due::advances(&self.upcoming(), self.done, due)? {
            self.done = Some(due.at);
            match due.action {
                SubscriptionAction::AutoRenew { .. } => {}
                SubscriptionAction::Stop => self.stage = Stage::Stopped,
                SubscriptionAction::Release => self.stage = Stage::Released,
            }
        }
        Ok(())
    }

    /// The auto-renewal that is `due` was paid at `now`: the state after it, and the purchase.
    ///
    /// # Errors
    /// [`SubscriptionError::OutOfOrder`] if that is not the next action, or was done; otherwise as of [`renew`](Self::renew).
    pub fn auto_renew(
        &self,
        due: &Due<SubscriptionAction>,
        now: Timestamp,
    ) -> Result<(Self, Purchase), SubscriptionError> {
        self.auto_renew_for(due, None, now)
    }

    /// As [`auto_renew`](Self::auto_renew), for `price` if there is one: what a commercial policy set.
    ///
    /// # Errors
    /// As of [`auto_renew`](Self::auto_renew) and [`renew_for`](Self::renew_for).
    pub fn auto_renew_for(
        &self,
        due: &Due<SubscriptionAction>,
        price: Option<Money>,
        now: Timestamp,
    ) -> Result<(Self, Purchase), SubscriptionError> {
        let SubscriptionAction::AutoRenew { period, .. } = due.action else {
            return Err(OutOfOrder::of(due).into());
        };
        if !due::advances(&self.upcoming(), self.done, due)? {
            return Err(OutOfOrder::of(due).into());
        }
        let mut next = self.clone();
        next.done = Some(due.at);
        let price = self.renewal_price(period, price)?;
        let purchase = next.extend(PurchaseKind::AutoRenewal, (period, price), now)?;
        Ok((next, purchase))
    }

    /// Renews it for `period` at `now`: the state after that, and the purchase. The term follows on the last one; after the
    /// expiry it begins at `now`.
    ///
    /// # Errors
    /// [`SubscriptionError::Gone`] when it is released or due to be; [`SubscriptionError::OutOfRange`].
    pub fn renew(
        &self,
        period: Period,
        now: Timestamp,
    ) -> Result<(Self, Purchase), SubscriptionError> {
        self.renew_for(period, None, now)
    }

    /// As [`renew`](Self::renew), for `price` if there is one: what a commercial policy set. The plan stays.
    ///
    /// # Errors
    /// As of [`renew`](Self::renew); [`SubscriptionError::Currency`] when the price is not in the plan's currency,
    /// [`SubscriptionError::Price`] when it is below 0.
    pub fn renew_for(
        &self,
        period: Period,
        price: Option<Money>,
        now: Timestamp,
    ) -> Result<(Self, Purchase), SubscriptionError> {
        let now = now.max(self.changed);
        let kept = self.expires.checked_add(days(KEPT_DAYS));
        if self.stage == Stage::Released || kept.is_none_or(|kept| now >= kept) {
            return Err(SubscriptionError::Gone(self.id));
        }
        let price = self.renewal_price(period, price)?;
        let mut next = self.clone();
        if self.stage == Stage::Active && now < self.expires {
            let purchase = next.extend(PurchaseKind::Renewal, (period, price), now)?;
            return Ok((next, purchase));
        }
        let out_of_range = || SubscriptionError::OutOfRange(self.id);
        next.stage = Stage::Active;
        next.calendar = self.calendar.restarted(now).ok_or_else(out_of_range)?;
        let end = next.calendar.first_end(now, period);
        let end = end.ok_or_else(out_of_range)?;
        let purchase = next.add_term(PurchaseKind::Renewal, (now, end), (period, price), now)?;
        Ok((next, purchase))
    }

    /// A renewal for `period` as a commercial policy is asked about it at `now`; `attempt` is of an automatic one.
    ///
    /// # Errors
    /// [`SubscriptionError::OutOfRange`].
    pub fn renewal(
        &self,
        period: Period,
        attempt: Option<u8>,
        now: Timestamp,
    ) -> Result<RenewalRequest, SubscriptionError> {
        Ok(RenewalRequest {
            account: self.account.clone(),
            subscription: self.id,
            resource: self.resource.clone(),
            plan: self.plan.name().to_owned(),
            period,
            price: self.renewal_price(period, None)?,
            terms: u32::try_from(self.terms.len()).unwrap_or(u32::MAX),
            attempt,
            expires: self.expires,
            now,
        })
    }

    /// Changes the plan at `now`, for the rest of what is paid and for renewals: the state after that, and the purchase, whose
    /// amount is the unused time at the new price less the same time at the old one. Below zero it is a refund.
    ///
    /// # Errors
    /// [`SubscriptionError::Expired`] when there is no time left; [`SubscriptionError::Currency`],
    /// [`SubscriptionError::OutOfRange`].
    pub fn change_plan(
        &self,
        plan: Plan,
        now: Timestamp,
    ) -> Result<(Self, Purchase), SubscriptionError> {
        self.change_plan_for(plan, |_| None, now)
    }

    /// The same, where a whole term of the new plan costs what `quoted` says; where it says nothing, what the plan does.
    ///
    /// # Errors
    /// Those of [`change_plan`](Self::change_plan); [`SubscriptionError::Price`].
    pub fn change_plan_for(
        &self,
        plan: Plan,
        quoted: impl Fn(Period) -> Option<Money>,
        now: Timestamp,
    ) -> Result<(Self, Purchase), SubscriptionError> {
        let now = now.max(self.changed);
        if self.stage != Stage::Active || now >= self.expires {
            return Err(SubscriptionError::Expired(self.id));
        }
        // Only for its error.
        self.plan.zero().checked_add(plan.zero())?;
        let mut next = self.clone();
        let mut money = plan.zero();
        next.plan = plan;
        let mut terms = std::mem::take(&mut next.terms);
        for term in &mut terms {
            let price = next.renewal_price(term.period, quoted(term.period))?;
            let change = term.change_plan(&next.plan, price, now);
            let change = change.ok_or(SubscriptionError::OutOfRange(self.id))?;
            money = money.checked_add(change)?;
        }
        next.terms = terms;
        let kind = if money.is_negative() {
            PurchaseKind::Downgrade
        } else {
            PurchaseKind::Upgrade
        };
        let purchase = next.purchase(kind, (now, self.expires), money, now);
        Ok((next, purchase))
    }

    /// Renews it by itself from `now` on, for `period`; or does not any more.
    pub fn set_auto_renew(&mut self, period: Option<Period>, now: Timestamp) {
        let since = now.max(self.changed);
        self.auto_renew = period.map(|period| AutoRenew { period, since });
        self.changed = since;
    }

    /// What is paid and not yet refunded, over all its terms.
    ///
    /// # Errors
    /// [`CurrencyMismatch`] when it is out of range.
    pub fn paid(&self) -> Result<Money, CurrencyMismatch> {
        let pieces = self.terms.iter().flat_map(|term| &term.pieces);
        let mut sum = self.plan.zero();
        for piece in pieces {
            sum = sum.checked_add(Money::new(piece.price, sum.currency))?;
        }
        Ok(sum)
    }

    /// The ids of the purchases that were made, oldest first.
    pub fn purchase_ids(&self) -> impl Iterator<Item = PurchaseId> + '_ {
        (0..self.purchases).map(|number| self.purchase_id(number))
    }

    /// What is wrong with its terms: each begins where the one before it ends, or later, and is made of pieces without a gap.
    pub(crate) fn gaps(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let ends = std::iter::once(None).chain(self.terms.iter().map(|term| Some(term.to)));
        for (term, end) in self.terms.iter().zip(ends) {
            if end.is_some_and(|end| term.from < end) {
                wrong.push(format!(
                    "its term from {} overlaps the one before it",
                    term.from
                ));
            }
            let mut reached = term.from;
            for piece in &term.pieces {
                if piece.from != reached || piece.to <= piece.from {
                    let (from, to) = (piece.from, piece.to);
                    wrong.push(format!(
                        "its part from {from} to {to} does not follow at {reached}"
                    ));
                }
                reached = piece.to;
            }
            if reached != term.to {
                wrong.push(format!("its term to {} has parts up to {reached}", term.to));
            }
        }
        if self.terms.last().is_none_or(|term| term.to != self.expires) {
            wrong.push(format!(
                "it expires at {}, its last term does not",
                self.expires
            ));
        }
        wrong
    }

    fn purchase_id(&self, number: u64) -> PurchaseId {
        let unique = format!("purchase {} {number}", self.id);
        PurchaseId::generate(Sha256Digest::of(unique.as_bytes()).id_bits())
    }

    /// Adds a term that follows on the last one.
    fn extend(
        &mut self,
        kind: PurchaseKind,
        (period, price): (Period, Money),
        now: Timestamp,
    ) -> Result<Purchase, SubscriptionError> {
        let out_of_range = || SubscriptionError::OutOfRange(self.id);
        let from = self.expires;
        let end = self
            .calendar
            .next_end(from, period)
            .ok_or_else(out_of_range)?;
        self.add_term(kind, (from, end), (period, price), now)
    }

    /// What a renewal costs: `price`, or what the plan says.
    fn renewal_price(
        &self,
        period: Period,
        price: Option<Money>,
    ) -> Result<Money, SubscriptionError> {
        let Some(price) = price else {
            let listed = self.plan.price(period);
            return listed.ok_or(SubscriptionError::OutOfRange(self.id));
        };
        // Only for its error.
        self.plan.zero().checked_add(price)?;
        if price.is_negative() {
            return Err(SubscriptionError::Price {
                plan: self.plan.name().to_owned(),
                price: price.amount,
            });
        }
        Ok(price.rounded(PAYABLE_DECIMALS))
    }

    fn add_term(
        &mut self,
        kind: PurchaseKind,
        (from, to): (Timestamp, Timestamp),
        (period, price): (Period, Money),
        now: Timestamp,
    ) -> Result<Purchase, SubscriptionError> {
        let out_of_range = || SubscriptionError::OutOfRange(self.id);
        let calendar = self.calendar.after(to, period);
        self.calendar = calendar.ok_or_else(out_of_range)?;
        self.terms
            .push(Term::new(from, to, period, &self.plan, price));
        self.expires = to;
        Ok(self.purchase(kind, (from, to), price, now))
    }

    fn purchase(
        &mut self,
        kind: PurchaseKind,
        (from, to): (Timestamp, Timestamp),
        money: Money,
        now: Timestamp,
    ) -> Purchase {
        self.changed = self.changed.max(now);
        let id = self.purchase_id(self.purchases);
        self.purchases += 1;
        Purchase {
            id,
            subscription: self.id,
            account: self.account.clone(),
            resource: self.resource.clone(),
            kind,
            plan: self.plan.name().to_owned(),
            at: self.changed,
            from,
            to,
            money,
        }
    }

    /// What is not done yet, in order of time.
    fn upcoming(&self) -> Vec<Due<SubscriptionAction>> {
        let mut upcoming = Vec::new();
        let mut push = |at: Option<Timestamp>, action| {
            upcoming.extend(at.map(|at| Due { at, action }));
        };
        if let (Stage::Active, Some(AutoRenew { period, since })) = (self.stage, self.auto_renew) {
            let begun = self.terms.last().map_or(since, |term| term.from.max(since));
            for attempt in 1..=AUTO_RENEW_DAYS {
                let before = AUTO_RENEW_DAYS + 1 - attempt;
                let at = self.expires.checked_sub(days(u32::from(before)));
                let at = at.filter(|at| *at > begun);
                push(at, SubscriptionAction::AutoRenew { attempt, period });
            }
        }
        if self.stage == Stage::Active {
            push(Some(self.expires), SubscriptionAction::Stop);
        }
        if self.stage != Stage::Released {
            let kept = self.expires.checked_add(days(KEPT_DAYS));
            push(kept, SubscriptionAction::Release);
        }
        upcoming.retain(|due| self.done.is_none_or(|done| due.at > done));
        upcoming
    }
}
