//! Budgets: a month's spending, and who is told when it passes a part of what was planned.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use types::{AccountId, CurrencyMismatch, Decimal, Money, Month};

/// The most thresholds of a budget.
const MAX_THRESHOLDS: usize = 10;
/// The highest threshold, in percent.
const MAX_PERCENT: u32 = 1000;

/// What an account means to spend in a month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    account: AccountId,
    limit: Money,
    thresholds: BTreeSet<u32>,
    /// Thresholds already told of, by month.
    fired: BTreeMap<Month, BTreeSet<u32>>,
}

/// A threshold was reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Whose budget.
    pub account: AccountId,
    /// In which month.
    pub month: Month,
    /// The threshold, in percent of the limit.
    pub percent: u32,
    /// The limit.
    pub limit: Money,
    /// What was spent when it was noticed.
    pub spent: Money,
}

/// A budget that cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBudget {
    /// The limit is not above zero.
    #[error("a budget of {0} cannot be used up; give a limit above 0")]
    Limit(Money),
    /// The thresholds are none, too many or out of range.
    #[error(
        "the thresholds {0:?} are not 1 to {MAX_THRESHOLDS} different whole percentages from 1 to {MAX_PERCENT}"
    )]
    Thresholds(Vec<u32>),
}

impl Budget {
    /// A budget of `limit` each month, with alerts at `thresholds` percent of it (1–1000; 1 to 10 different ones).
    ///
    /// # Errors
    /// [`InvalidBudget`] for a limit not above zero or thresholds out of range.
    pub fn new(
        account: AccountId,
        limit: Money,
        thresholds: &[u32],
    ) -> Result<Self, InvalidBudget> {
        if limit.is_negative() || limit.amount.is_zero() {
            return Err(InvalidBudget::Limit(limit));
        }
        let set: BTreeSet<u32> = thresholds.iter().copied().collect();
        let in_range = set
            .iter()
            .all(|percent| (1..=MAX_PERCENT).contains(percent));
        if set.len() != thresholds.len() || !(1..=MAX_THRESHOLDS).contains(&set.len()) || !in_range
        {
            return Err(InvalidBudget::Thresholds(thresholds.to_vec()));
        }
        Ok(Self {
            account,
            limit,
            thresholds: set,
            fired: BTreeMap::new(),
        })
    }

    /// Whose it is.
    #[must_use]
    pub const fn account(&self) -> &AccountId {
        &self.account
    }

    /// What is planned for a month.
    #[must_use]
    pub const fn limit(&self) -> Money {
        self.limit
    }

    /// When to tell: percentages of the limit, lowest first.
    pub fn thresholds(&self) -> impl Iterator<Item = u32> + '_ {
        self.thresholds.iter().copied()
    }

    /// The thresholds told of in `month`, lowest first.
    pub fn fired(&self, month: Month) -> impl Iterator<Item = u32> + '_ {
        self.fired.get(&month).into_iter().flatten().copied()
    }

    /// Alerts to give now that `spent` was spent in `month`, lowest first; then [`record`](Self::record) each. Those given once are
    /// not given again that month, whatever is paid back or spent again.
    ///
    /// # Errors
    /// [`CurrencyMismatch`] when `spent` is in another currency than the budget.
    pub fn alerts(&self, month: Month, spent: Money) -> Result<Vec<Alert>, CurrencyMismatch> {
        // Only for its error: what is spent must be comparable with the limit.
        spent.checked_sub(self.limit)?;
        let fired = self.fired.get(&month);
        let reached = |percent: u32| {
            let part = self.limit.amount / Decimal::ONE_HUNDRED * Decimal::from(percent);
            spent.amount >= part
        };
        Ok(self
            .thresholds
            .iter()
            .copied()
            .filter(|percent| !fired.is_some_and(|fired| fired.contains(percent)))
            .filter(|percent| reached(*percent))
            .map(|percent| Alert {
                account: self.account.clone(),
                month,
                percent,
                limit: self.limit,
                spent,
            })
            .collect())
    }

    /// Notes that `alert` was given. Again changes nothing.
    pub fn record(&mut self, alert: &Alert) {
        let fired = self.fired.entry(alert.month).or_default();
        fired.insert(alert.percent);
    }
}
