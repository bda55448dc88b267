//! The commercial decisions: what a policy may say about quotes, renewals, debts, preemption and meters, what counts as an answer, and
//! what happens without one.
//!
//! ```text
//! question ─► CommercialPolicy ─► check_quote, check_renewal, Debt::check, check_order, check_meters ─► Decided
//!                    └─ fails, or its answer does not pass ─► StandardTerms ───────────────────────────────┘
//! ```

mod debt;
mod metering;
mod preemption;
mod quote;
mod renewal;
mod standard;

pub use debt::{ArrearsStep, Debt};
pub use metering::{
    MAX_METERS, METER_DECIMALS, MeteredInstance, PolicyMeter, check_meter_name,
    check_meter_quantity, check_meters,
};
pub use preemption::check_order;
pub use quote::{
    ChargeType, MAX_LINES, MAX_WORDS, PriceUnit, Quote, QuoteLine, QuoteRequest, QuotedDisk,
    check_quote,
};
pub use renewal::{MAX_REFUSAL, Renewal, RenewalRequest, check_renewal};
pub use standard::StandardTerms;

use crate::{SpotLease, StockNeed, StockPlan, reclaim_in_order};
use ledger::{MAX_AMOUNT, PriceList};
use std::sync::Arc;
use types::{Currency, Decided, InstanceId, Money, PolicyFailure, PolicyIdentity, Timestamp};

/// Makes the commercial decisions besides rating.
///
/// An answer depends on nothing but the arguments and [`identity`](Self::identity).
pub trait CommercialPolicy: Send + Sync {
    /// Name, code and parameters.
    fn identity(&self) -> PolicyIdentity;

    /// The price of a purchase before it is made, in `currency`.
    ///
    /// # Errors
    /// [`PolicyFailure`] when there is no usable answer, as of the other methods.
    fn quote(&self, currency: Currency, request: &QuoteRequest) -> Result<Quote, PolicyFailure>;

    /// Whether a term is renewed, and for how much, in the currency of its plan.
    ///
    /// # Errors
    /// As of [`quote`](Self::quote).
    fn renewal(&self, request: &RenewalRequest) -> Result<Renewal, PolicyFailure>;

    /// What is done about a debt now: [`Debt::due`] or something milder.
    ///
    /// # Errors
    /// As of [`quote`](Self::quote).
    fn arrears(&self, debt: &Debt) -> Result<ArrearsStep, PolicyFailure>;

    /// Those of a host's `leases` that may be given notice at `now`, first the one to go first. `missing` is what is needed beyond
    /// what instances under notice free.
    ///
    /// # Errors
    /// As of [`quote`](Self::quote).
    fn preempt(
        &self,
        leases: &[SpotLease],
        missing: StockNeed,
        now: Timestamp,
    ) -> Result<Vec<InstanceId>, PolicyFailure>;

    /// What is metered of an instance beside what the host meters by itself.
    ///
    /// # Errors
    /// As of [`quote`](Self::quote).
    fn meters(&self, instance: &MeteredInstance) -> Result<Vec<PolicyMeter>, PolicyFailure>;
}

/// The configured policy, with [`StandardTerms`] behind it.
#[derive(Clone)]
pub struct Commerce {
    policy: Arc<dyn CommercialPolicy>,
    standard: StandardTerms,
}

impl Commerce {
    /// Asks `policy`; where that gives no usable answer, the standard terms over `prices` hold. Quotes are in the currency of
    /// `prices`.
    #[must_use]
    pub fn new(policy: Arc<dyn CommercialPolicy>, prices: PriceList) -> Self {
        Self {
            policy,
            standard: StandardTerms::new(prices),
        }
    }

    /// The standard terms alone.
    #[must_use]
    pub fn built_in(prices: PriceList) -> Self {
        Self::new(Arc::new(StandardTerms::new(prices.clone())), prices)
    }

    /// The configured policy.
    #[must_use]
    pub fn identity(&self) -> PolicyIdentity {
        self.policy.identity()
    }

    /// The price of a purchase before it is made, rounded as it would be charged.
    #[must_use]
    pub fn quote(&self, request: &QuoteRequest) -> Decided<Quote> {
        let currency = self.standard.currency();
        let mut decided = Decided::new(
            self.policy.identity(),
            self.policy.quote(currency, request),
            |quote| check_quote(currency, request, quote),
            || (self.standard.identity(), self.standard.quoted(request)),
        );
        decided.answer.round();
        decided
    }

    /// Whether a term is renewed, and for how much, rounded as it would be paid.
    #[must_use]
    pub fn renewal(&self, request: &RenewalRequest) -> Decided<Renewal> {
        let mut decided = Decided::new(
            self.policy.identity(),
            self.policy.renewal(request),
            |renewal| check_renewal(request, renewal),
            || (self.standard.identity(), StandardTerms::renewed(request)),
        );
        decided.answer.round();
        decided
    }

    /// What is done about a debt now.
    #[must_use]
    pub fn arrears(&self, debt: &Debt) -> Decided<ArrearsStep> {
        Decided::new(
            self.policy.identity(),
            self.policy.arrears(debt),
            |step| debt.check(*step),
            || (self.standard.identity(), debt.due()),
        )
    }

    /// Which of a host's `leases` must go so that `need` is met: as few as the policy's order allows. Nobody is asked when what is
    /// under notice is enough.
    #[must_use]
    pub fn preempt(
        &self,
        leases: &[SpotLease],
        need: StockNeed,
        now: Timestamp,
    ) -> Decided<StockPlan> {
        let missing = need.beyond_noticed(leases);
        if missing.is_met() {
            return Decided {
                answer: StockPlan::UnderWay,
                policy: self.standard.identity(),
                fallback: None,
            };
        }
        let decided = Decided::new(
            self.policy.identity(),
            self.policy.preempt(leases, missing, now),
            |order| check_order(leases, now, order),
            || {
                let order = StandardTerms::order(leases, now);
                (self.standard.identity(), order)
            },
        );
        Decided {
            answer: reclaim_in_order(leases, &decided.answer, need, now),
            policy: decided.policy,
            fallback: decided.fallback,
        }
    }

    /// What is metered of an instance beside what the host meters by itself; `None` without a usable answer: meters then stay as
    /// they are.
    #[must_use]
    pub fn meters(&self, instance: &MeteredInstance) -> Decided<Option<Vec<PolicyMeter>>> {
        Decided::new(
            self.policy.identity(),
            self.policy.meters(instance).map(Some),
            |meters| check_meters(meters.as_deref().unwrap_or_default()),
            || (self.standard.identity(), None),
        )
    }
}

/// Whether `money` can be a price: in `currency`, not negative, not above [`MAX_AMOUNT`].
fn check_price(what: &str, currency: Currency, money: &Money) -> Result<(), String> {
    if money.currency != currency {
        return Err(format!(
            "the price of {what} is in {}; prices here are in {currency}",
            money.currency
        ));
    }
    if money.is_negative() {
        return Err(format!("the price of {what} is negative: {money}"));
    }
    if money.amount > MAX_AMOUNT {
        return Err(format!(
            "the price of {what} is {money}; at most {MAX_AMOUNT} is believed"
        ));
    }
    Ok(())
}
