//! Preemptible instances: how long they are safe, what they cost, and which goes first. ECS contract: Money (preemptible).
//!
//! ```text
//!            1 h                price > limit, or stock is needed        5 min
//! Protected ─────► Running ─────────────────────────────────────► Noticed ─────► Reclaimed
//! entry price      market price                                   (stands, whatever the price does now)
//! ```

use serde::{Deserialize, Serialize};
use std::{cmp::Reverse, collections::BTreeMap, time::Duration};
use types::{ByteCount, Currency, CurrencyMismatch, Decimal, InstanceId, Money, Timestamp};

/// How long after its start an instance is not reclaimed, nor given notice, and costs its entry price.
pub const PROTECTION: Duration = Duration::from_secs(3600);

/// How long before it is reclaimed an instance is told.
pub const NOTICE: Duration = Duration::from_secs(5 * 60);

/// Whether an instance may be reclaimed, and what it bids. Named as ECS does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "strategy")]
pub enum SpotStrategy {
    /// Not preemptible.
    NoSpot,
    /// Runs while the market price is not above a limit.
    SpotWithPriceLimit {
        /// The limit per hour, in the currency of the entry price.
        limit: Decimal,
    },
    /// Pays whatever the market price is; reclaimed only when stock is needed.
    SpotAsPriceGo,
}

/// The market price of one instance type over time, per hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Steps", into = "Steps")]
pub struct PriceHistory(Steps);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Steps {
    currency: Currency,
    /// From when which price holds.
    steps: Vec<(Timestamp, Decimal)>,
}

/// Prices that are not a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the price {price} from {from} on does not follow: prices are from 0 to {max}, each from later on than the one before", max = ledger::MAX_PRICE)]
pub struct InvalidPrices {
    from: Timestamp,
    price: Decimal,
}

impl PriceHistory {
    /// `steps` say from when which price holds. Before the first, the first holds; without any, the price is 0.
    ///
    /// # Errors
    /// [`InvalidPrices`] for the first that is below 0, above [`ledger::MAX_PRICE`], or not later than the one before.
    pub fn new(
        currency: Currency,
        steps: Vec<(Timestamp, Decimal)>,
    ) -> Result<Self, InvalidPrices> {
        let mut history = Self(Steps {
            currency,
            steps: Vec::with_capacity(steps.len()),
        });
        for (from, price) in steps {
            history.push(from, price)?;
        }
        Ok(history)
    }

    /// From `from` on the price is `price`.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn push(&mut self, from: Timestamp, price: Decimal) -> Result<(), InvalidPrices> {
        let negative = price.is_sign_negative() && !price.is_zero();
        let later = self.0.steps.last().is_none_or(|(last, _)| from > *last);
        if negative || price > ledger::MAX_PRICE || !later {
            return Err(InvalidPrices { from, price });
        }
        self.0.steps.push((from, price));
        Ok(())
    }

    /// The currency of its prices.
    #[must_use]
    pub const fn currency(&self) -> Currency {
        self.0.currency
    }

    /// From when which price holds, oldest first.
    #[must_use]
    pub fn steps(&self) -> &[(Timestamp, Decimal)] {
        &self.0.steps
    }

    /// The price at `time`.
    #[must_use]
    pub fn at(&self, time: Timestamp) -> Decimal {
        let steps = &self.0.steps;
        let after = steps.partition_point(|(from, _)| *from <= time);
        let step = steps.get(after.saturating_sub(1));
        step.map_or(Decimal::ZERO, |(_, price)| *price)
    }

    /// Its changes after `from` and before `to`.
    fn changes(&self, from: Timestamp, to: Timestamp) -> &[(Timestamp, Decimal)] {
        let steps = &self.0.steps;
        // What is before the first step costs as the first, so that is no change.
        let first = steps.partition_point(|(at, _)| *at <= from).max(1);
        let last = steps.partition_point(|(at, _)| *at < to);
        steps.get(first..last).unwrap_or_default()
    }
}

impl TryFrom<Steps> for PriceHistory {
    type Error = InvalidPrices;

    fn try_from(steps: Steps) -> Result<Self, InvalidPrices> {
        Self::new(steps.currency, steps.steps)
    }
}

impl From<PriceHistory> for Steps {
    fn from(history: PriceHistory) -> Self {
        history.0
    }
}

/// A running instance that may be reclaimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpotLease {
    /// Which.
    pub instance: InstanceId,
    /// When it started.
    pub started: Timestamp,
    /// The market price per hour when it started.
    pub entry_price: Money,
    /// What it bids.
    #[serde(flatten)]
    pub strategy: SpotStrategy,
    /// Virtual CPUs that reclaiming it frees.
    pub vcpus: u32,
    /// Memory that reclaiming it frees.
    pub memory: ByteCount,
    /// The notice it was given. It stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<SpotNotice>,
}

/// Word to an instance that it will be reclaimed (event, and metadata `instance/spot/termination-time`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpotNotice {
    /// When it was given.
    pub given: Timestamp,
    /// When the instance is reclaimed: [`NOTICE`] later.
    pub reclaim_at: Timestamp,
    /// Why.
    pub reason: SpotReason,
}

/// Why an instance is reclaimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum SpotReason {
    /// The market price rose above the limit.
    PriceAboveLimit {
        /// When, or when the protection ended if it was above before.
        since: Timestamp,
        /// The price then, per hour.
        price: Decimal,
        /// The limit.
        limit: Decimal,
    },
    /// Others need what it takes.
    StockNeeded,
}

/// What becomes of an instance, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum SpotVerdict {
    /// It is not preemptible.
    NotPreemptible,
    /// Its first hour is not over.
    Protected {
        /// When it is.
        until: Timestamp,
    },
    /// The price is not above what it bids.
    Keep {
        /// The price per hour.
        price: Decimal,
    },
    /// It must be told, with [`SpotLease::give_notice`].
    Notify {
        /// Why.
        reason: SpotReason,
    },
    /// It has been told and has time left.
    Noticed(SpotNotice),
    /// It is to be stopped and released now.
    Reclaim(SpotNotice),
}

/// Some time at one price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PricedSpan {
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub to: Timestamp,
    /// The price per hour.
    pub price: Decimal,
}

impl PricedSpan {
    /// What that time costs; not rounded.
    #[must_use]
    pub fn cost(&self) -> Decimal {
        let millis = u64::try_from(self.to.saturating_since(self.from).as_millis());
        let millis = Decimal::from(millis.unwrap_or(u64::MAX));
        self.price.saturating_mul(millis) / Decimal::from(3_600_000)
    }
}

impl SpotLease {
    /// When its protection ends.
    #[must_use]
    pub fn protected_until(&self) -> Timestamp {
        self.started.checked_add(PROTECTION).unwrap_or(self.started)
    }

    /// When a verdict can change by itself; price changes and needs of stock are for the caller to notice.
    #[must_use]
    pub fn wake(&self, now: Timestamp) -> Option<Timestamp> {
        if self.strategy == SpotStrategy::NoSpot {
            return None;
        }
        let next = match self.notice {
            Some(notice) => notice.reclaim_at,
            None => self.protected_until(),
        };
        (next > now).then_some(next)
    }

    /// What becomes of it at `now`. A price above its limit counts from the end of the protection on, also if nobody looked while it
    /// was.
    ///
    /// # Errors
    /// [`CurrencyMismatch`] when `prices` are in another currency than the entry price.
    pub fn verdict(
        &self,
        prices: &PriceHistory,
        now: Timestamp,
    ) -> Result<SpotVerdict, CurrencyMismatch> {
        self.check_currency(prices)?;
        if self.strategy == SpotStrategy::NoSpot {
            return Ok(SpotVerdict::NotPreemptible);
        }
        if let Some(notice) = self.notice {
            return Ok(if now < notice.reclaim_at {
                SpotVerdict::Noticed(notice)
            } else {
                SpotVerdict::Reclaim(notice)
            });
        }
        let until = self.protected_until();
        if now < until {
            return Ok(SpotVerdict::Protected { until });
        }
        let above = self.first_above(prices, until, now);
        Ok(above.map_or(
            SpotVerdict::Keep {
                price: prices.at(now),
            },
            |reason| SpotVerdict::Notify { reason },
        ))
    }

    /// When from `from` to `now`, both included, the price was first above the limit.
    fn first_above(
        &self,
        prices: &PriceHistory,
        from: Timestamp,
        now: Timestamp,
    ) -> Option<SpotReason> {
        let SpotStrategy::SpotWithPriceLimit { limit } = self.strategy else {
            return None;
        };
        let changes = prices.changes(from, now).iter().copied();
        std::iter::once((from, prices.at(from)))
            .chain(changes)
            .chain([(now, prices.at(now))])
            .find(|(_, price)| *price > limit)
            .map(|(since, price)| SpotReason::PriceAboveLimit {
                since,
                price,
                limit,
            })
    }

    /// It is told at `now`. `None`, and nothing changes, if it is not preemptible, still protected or told already.
    pub fn give_notice(&mut self, reason: SpotReason, now: Timestamp) -> Option<SpotNotice> {
        if !self.reclaimable(now) {
            return None;
        }
        self.notice = Some(SpotNotice {
            given: now,
            reclaim_at: now.checked_add(NOTICE).unwrap_or(now),
            reason,
        });
        self.notice
    }

    /// What its time from `from` to `to` costs per hour: the entry price while protected, then the market price. Spans follow on each
    /// other; time before it started is left out.
    ///
    /// # Errors
    /// As of [`verdict`](Self::verdict).
    pub fn priced(
        &self,
        prices: &PriceHistory,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<PricedSpan>, CurrencyMismatch> {
        self.check_currency(prices)?;
        let from = from.max(self.started);
        let market = from.max(self.protected_until());
        let mut starts = vec![];
        if from < market {
            starts.push((from, self.entry_price.amount));
        }
        starts.push((market, prices.at(market)));
        starts.extend_from_slice(prices.changes(market, to));
        let ends = starts.iter().skip(1).map(|(at, _)| *at).chain([to]);
        Ok(starts
            .iter()
            .zip(ends)
            .map(|((from, price), end)| PricedSpan {
                from: *from,
                to: end.min(to),
                price: *price,
            })
            .filter(|span| span.from < span.to)
            .collect())
    }

    fn check_currency(&self, prices: &PriceHistory) -> Result<(), CurrencyMismatch> {
        self.entry_price
            .checked_sub(Money::zero(prices.0.currency))
            .map(|_| ())
    }

    /// Whether it can be given notice at `now`.
    fn reclaimable(&self, now: Timestamp) -> bool {
        self.check_reclaimable(now).is_ok()
    }

    /// Whether it can be given notice at `now`; else, as the end of a sentence, why not.
    pub(crate) fn check_reclaimable(&self, now: Timestamp) -> Result<(), String> {
        let until = self.protected_until();
        if self.strategy == SpotStrategy::NoSpot {
            Err("is not preemptible".to_owned())
        } else if self.notice.is_some() {
            Err("was given notice already".to_owned())
        } else if now < until {
            Err(format!("is protected until {until}"))
        } else {
            Ok(())
        }
    }
}

/// Those of `leases` that can be given notice at `now`, first the one to go first: lowest bid, then newest, then by id. Who pays any
/// price bids more than any limit.
#[must_use]
pub fn reclaim_order(leases: &[SpotLease], now: Timestamp) -> Vec<&SpotLease> {
    let mut order: Vec<&SpotLease> = leases
        .iter()
        .filter(|lease| lease.reclaimable(now))
        .collect();
    order.sort_by_key(|lease| {
        let bid = match lease.strategy {
            SpotStrategy::SpotWithPriceLimit { limit } => (false, limit),
            SpotStrategy::SpotAsPriceGo | SpotStrategy::NoSpot => (true, Decimal::ZERO),
        };
        (bid, Reverse(lease.started), lease.instance)
    });
    order
}

/// What others need of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockNeed {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory: ByteCount,
}

impl StockNeed {
    fn less(self, lease: &SpotLease) -> Self {
        Self {
            vcpus: self.vcpus.saturating_sub(lease.vcpus),
            memory: self.memory.saturating_sub(lease.memory),
        }
    }

    /// What of it instances under notice do not free.
    #[must_use]
    pub fn beyond_noticed(self, leases: &[SpotLease]) -> Self {
        let noticed = leases.iter().filter(|lease| lease.notice.is_some());
        noticed.fold(self, Self::less)
    }

    pub(crate) fn is_met(self) -> bool {
        self.vcpus == 0 && self.memory.bytes() == 0
    }
}

/// How a need of stock is met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "plan", rename_all = "kebab-case")]
pub enum StockPlan {
    /// What is under notice already frees enough.
    UnderWay,
    /// These get notice for [`SpotReason::StockNeeded`], in this order.
    Reclaim {
        /// Which.
        instances: Vec<InstanceId>,
    },
    /// All together would not free enough, so none is touched.
    TooLittle {
        /// What would still be missing.
        missing: StockNeed,
        /// When the next instance loses its protection and more can be had, if there is one.
        ask_again: Option<Timestamp>,
    },
}

/// Which of a host's `leases` must go so that `need` is met: as few as the order of [`reclaim_order`] allows.
#[must_use]
pub fn reclaim_for_stock(leases: &[SpotLease], need: StockNeed, now: Timestamp) -> StockPlan {
    let order = reclaim_order(leases, now).into_iter();
    let order: Vec<InstanceId> = order.map(|lease| lease.instance).collect();
    reclaim_in_order(leases, &order, need, now)
}

/// Which of a host's `leases` must go so that `need` is met: as few from the front of `order` as will do. Who cannot be given notice at
/// `now`, or is not there, is passed over.
#[must_use]
pub fn reclaim_in_order(
    leases: &[SpotLease],
    order: &[InstanceId],
    need: StockNeed,
    now: Timestamp,
) -> StockPlan {
    let mut missing = need.beyond_noticed(leases);
    if missing.is_met() {
        return StockPlan::UnderWay;
    }
    let reclaimable = leases.iter().filter(|lease| lease.reclaimable(now));
    let mut reclaimable: BTreeMap<InstanceId, &SpotLease> =
        reclaimable.map(|lease| (lease.instance, lease)).collect();
    let mut instances = Vec::new();
    for lease in order.iter().filter_map(|id| reclaimable.remove(id)) {
        missing = missing.less(lease);
        instances.push(lease.instance);
        if missing.is_met() {
            return StockPlan::Reclaim { instances };
        }
    }
    let waiting = leases.iter().filter(|lease| lease.notice.is_none());
    StockPlan::TooLittle {
        missing,
        ask_again: waiting.filter_map(|lease| lease.wake(now)).min(),
    }
}
