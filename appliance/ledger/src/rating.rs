//! What a rating policy is, what counts as an answer, and what happens without one.

use crate::{
    Charge, PriceList, Usage, UsageInterval,
    charge::{AMOUNT_DECIMALS, Progress},
};
use std::sync::Arc;
use types::{
    Currency, Decimal, FailureKind, Money, PolicyFailure, PolicyIdentity, Timestamp, UsageId,
};

/// The most intervals a policy is asked to price in one call.
pub const MAX_BATCH: usize = 1024;

/// The highest price of one segment, in the currency's main unit.
pub const MAX_AMOUNT: Decimal = Decimal::from_parts(0xA4C6_8000, 0x0003_8D7E, 0, false, 0);

/// Usage to be priced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RatingInput {
    /// The interval it belongs to.
    pub interval: UsageId,
    /// Of what.
    pub usage: Usage,
    /// From when.
    pub from: Timestamp,
    /// For how many seconds; at least 1.
    pub seconds: u64,
}

/// Sets prices.
///
/// An answer depends on nothing but the arguments and [`identity`](Self::identity).
pub trait RatingPolicy: Send + Sync {
    /// Name, code and parameters.
    fn identity(&self) -> PolicyIdentity;

    /// The price of each of `usage` (at most [`MAX_BATCH`]), in their order, in `currency`; exact or with as many decimals
    /// as the policy likes: the ledger rounds.
    ///
    /// # Errors
    /// [`PolicyFailure`] when there is no usable answer.
    fn rate(&self, currency: Currency, usage: &[RatingInput]) -> Result<Vec<Money>, PolicyFailure>;
}

/// Whether `amounts` can be the prices of `usage`: as many, not negative, not above [`MAX_AMOUNT`], in `currency`.
///
/// # Errors
/// What is wrong with the first amount that is.
pub fn check_amounts(
    currency: Currency,
    usage: &[RatingInput],
    amounts: &[Money],
) -> Result<(), String> {
    if amounts.len() != usage.len() {
        let (said, asked) = (amounts.len(), usage.len());
        return Err(format!("{said} prices for {asked} intervals"));
    }
    for (input, money) in usage.iter().zip(amounts) {
        let interval = input.interval;
        if money.currency != currency {
            return Err(format!(
                "the price of interval {interval} is in {}; prices here are in {currency}",
                money.currency
            ));
        }
        if money.is_negative() {
            return Err(format!(
                "the price of interval {interval} is negative: {money}"
            ));
        }
        if money.amount > MAX_AMOUNT {
            return Err(format!(
                "the price of interval {interval} is {money}; at most {MAX_AMOUNT} is believed"
            ));
        }
    }
    Ok(())
}

/// The configured policy, with the built-in price list behind it.
#[derive(Clone)]
pub struct Rater {
    policy: Arc<dyn RatingPolicy>,
    fallback: PriceList,
}

/// An interval with seconds to charge.
#[derive(Clone, Copy)]
pub(crate) struct Due<'a> {
    pub interval: &'a UsageInterval,
    pub progress: &'a Progress,
    /// Seconds since the opening up to which it is to be charged; more than it has been.
    pub seconds: u64,
}

impl Rater {
    /// Asks `policy`; where that gives no usable answer, `fallback` sets the price. Prices are in the currency of
    /// `fallback`.
    #[must_use]
    pub fn new(policy: Arc<dyn RatingPolicy>, fallback: PriceList) -> Self {
        Self { policy, fallback }
    }

    /// The built-in price list alone.
    #[must_use]
    pub fn built_in(prices: PriceList) -> Self {
        Self::new(Arc::new(prices.clone()), prices)
    }

    /// The configured policy.
    #[must_use]
    pub fn identity(&self) -> PolicyIdentity {
        self.policy.identity()
    }

    /// What the configured policy says `usage` costs, in its order, rounded as charges are: for comparisons, which charge nothing and for
    /// which the built-in prices are no answer. Agreed prices are what they are.
    ///
    /// # Errors
    /// [`PolicyFailure`] when it gives no usable answer for any of it.
    pub fn price(&self, usage: &[RatingInput]) -> Result<Vec<Money>, PolicyFailure> {
        let currency = self.currency();
        let prices = self.split(
            usage,
            |input| input.usage.agreed().is_some(),
            |policy, batch| {
                let amounts = policy.rate(currency, batch)?;
                let checked = check_amounts(currency, batch, &amounts);
                checked.map_err(|message| PolicyFailure {
                    policy: Box::new(policy.identity()),
                    kind: FailureKind::InvalidAnswer,
                    message,
                })?;
                Ok(amounts)
            },
        )?;
        let rounded = prices.into_iter();
        Ok(rounded
            .map(|money| money.rounded(AMOUNT_DECIMALS))
            .collect())
    }

    /// The currency of all prices.
    #[must_use]
    pub fn currency(&self) -> Currency {
        self.fallback.currency()
    }

    /// Who may have set a price: the configured policy, and the list behind it.
    #[must_use]
    pub fn policies(&self) -> [&dyn RatingPolicy; 2] {
        [&*self.policy, &self.fallback]
    }

    /// One charge for each of `due`, in their order.
    pub(crate) fn charges(&self, due: &[Due<'_>]) -> Result<Vec<Charge>, PolicyFailure> {
        self.split(
            due,
            |due| due.interval.usage.agreed().is_some(),
            |policy, batch| {
                let answer = self.ask(policy, batch, None);
                answer.or_else(|failure| self.ask(&self.fallback, batch, Some(&failure)))
            },
        )
    }

    /// Asks the price list about what was agreed and the configured policy about the rest, batch by batch; one answer for each of
    /// `all`, in their order.
    fn split<Q: Clone, A>(
        &self,
        all: &[Q],
        agreed: impl Fn(&Q) -> bool,
        ask: impl Fn(&dyn RatingPolicy, &[Q]) -> Result<Vec<A>, PolicyFailure>,
    ) -> Result<Vec<A>, PolicyFailure> {
        let batches = |policy: &dyn RatingPolicy, questions: &[Q]| {
            let mut answers = Vec::with_capacity(questions.len());
            for batch in questions.chunks(MAX_BATCH) {
                answers.extend(ask(policy, batch)?);
            }
            Ok(answers)
        };
        if !all.iter().any(&agreed) {
            return batches(&*self.policy, all);
        }
        let (fixed, open): (Vec<Q>, Vec<Q>) = all.iter().cloned().partition(&agreed);
        let mut fixed = batches(&self.fallback, &fixed)?.into_iter();
        let mut open = batches(&*self.policy, &open)?.into_iter();
        let answer = |question| match agreed(question) {
            true => fixed.next(),
            false => open.next(),
        };
        Ok(all.iter().filter_map(answer).collect())
    }

    fn ask(
        &self,
        policy: &dyn RatingPolicy,
        due: &[Due<'_>],
        after: Option<&PolicyFailure>,
    ) -> Result<Vec<Charge>, PolicyFailure> {
        let identity = policy.identity();
        let invalid = |message: String| PolicyFailure {
            policy: Box::new(identity.clone()),
            kind: FailureKind::InvalidAnswer,
            message,
        };
        let input = |due: &Due<'_>| {
            let start = due.progress.segment(&identity).start;
            RatingInput {
                interval: due.interval.id,
                usage: due.interval.usage.clone(),
                from: due.interval.point(start),
                seconds: due.seconds - start,
            }
        };
        let usage: Vec<RatingInput> = due.iter().map(input).collect();
        let currency = self.fallback.currency();
        let amounts = policy.rate(currency, &usage)?;
        check_amounts(currency, &usage, &amounts).map_err(invalid)?;
        let charge = |(due, money): (&Due<'_>, Money)| {
            let money = money.rounded(AMOUNT_DECIMALS);
            let charge =
                due.progress
                    .charge(due.interval, due.seconds, &identity, money, after.cloned());
            charge.ok_or_else(|| {
                invalid(format!(
                    "the price of interval {} fell to {money} as it grew longer",
                    due.interval.id
                ))
            })
        };
        due.iter().zip(amounts).map(charge).collect()
    }
}
