//! The terms that are always there: the price list, and the rules of this crate.

use super::{
    ArrearsStep, ChargeType, CommercialPolicy, Debt, MeteredInstance, PolicyMeter, Quote,
    QuoteLine, QuoteRequest, Renewal, RenewalRequest,
};
use crate::{PeriodUnit, SpotLease, StockNeed, reclaim_order};
use ledger::{PriceList, RatingInput, RatingPolicy, Usage};
use types::{
    Currency, Decimal, DiskId, InstanceId, Money, PolicyFailure, PolicyIdentity, Timestamp, UsageId,
};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Quotes what the price list says, an hour of it or a term; a preemptible instance costs the market price where there is one. Renews
/// everything for what its plan says, follows debts up as they are due, and reclaims the lowest bid first.
///
/// A week is quoted as 7 days, a month as 30 and a year as 365.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandardTerms {
    prices: PriceList,
}

impl StandardTerms {
    /// Over these prices.
    #[must_use]
    pub const fn new(prices: PriceList) -> Self {
        Self { prices }
    }

    pub(super) fn currency(&self) -> Currency {
        self.prices.currency()
    }

    pub(super) fn quoted(&self, request: &QuoteRequest) -> Quote {
        let line = |what: String, each: Decimal| QuoteLine {
            item: format!("{} × {what}", request.count),
            price: Money::new(
                each.saturating_mul(request.count.into()),
                self.prices.currency(),
            ),
            per: request.charge.per(),
            discount: None,
        };
        let instance = match request.charge {
            ChargeType::Preemptible {
                market: Some(price),
                ..
            } => price,
            _ => self.price(
                Usage::InstanceRunning {
                    instance: InstanceId::generate(0),
                    instance_type: request.instance_type.clone(),
                    vcpus: request.vcpus,
                    memory: request.memory,
                },
                request,
            ),
        };
        let mut lines = vec![line(request.instance_type.clone(), instance)];
        for disk in &request.disks {
            let usage = Usage::DiskAllocated {
                disk: DiskId::generate(0),
                category: disk.category.clone(),
                size: disk.size,
            };
            let what = format!("{} of {}", disk.category, disk.size);
            lines.push(line(what, self.price(usage, request)));
        }
        Quote { lines }
    }

    /// What that use costs for an hour, or for a term.
    fn price(&self, usage: Usage, request: &QuoteRequest) -> Decimal {
        let input = RatingInput {
            interval: UsageId::generate(0),
            usage,
            from: request.now,
            seconds: seconds(&request.charge),
        };
        let rated = self.prices.rate(self.prices.currency(), &[input]);
        // The price list has a price for everything.
        rated.map_or(Decimal::ZERO, |prices| {
            prices.first().map_or(Decimal::ZERO, |price| price.amount)
        })
    }

    pub(super) fn renewed(request: &RenewalRequest) -> Renewal {
        Renewal::Renew {
            price: request.price,
            discount: None,
        }
    }

    pub(super) fn order(leases: &[SpotLease], now: Timestamp) -> Vec<InstanceId> {
        let order = reclaim_order(leases, now).into_iter();
        order.map(|lease| lease.instance).collect()
    }
}

fn seconds(charge: &ChargeType) -> u64 {
    let ChargeType::Subscription { period } = charge else {
        return HOUR;
    };
    let (unit, count) = period.parts();
    let days = match unit {
        PeriodUnit::Week => 7,
        PeriodUnit::Month => 30,
        PeriodUnit::Year => 365,
    };
    u64::from(count) * days * DAY
}

impl CommercialPolicy for StandardTerms {
    fn identity(&self) -> PolicyIdentity {
        PolicyIdentity {
            name: "standard-terms".to_owned(),
            ..self.prices.identity()
        }
    }

    fn quote(&self, _: Currency, request: &QuoteRequest) -> Result<Quote, PolicyFailure> {
        Ok(self.quoted(request))
    }

    fn renewal(&self, request: &RenewalRequest) -> Result<Renewal, PolicyFailure> {
        Ok(Self::renewed(request))
    }

    fn arrears(&self, debt: &Debt) -> Result<ArrearsStep, PolicyFailure> {
        Ok(debt.due())
    }

    fn preempt(
        &self,
        leases: &[SpotLease],
        _: StockNeed,
        now: Timestamp,
    ) -> Result<Vec<InstanceId>, PolicyFailure> {
        Ok(Self::order(leases, now))
    }

    fn meters(&self, _: &MeteredInstance) -> Result<Vec<PolicyMeter>, PolicyFailure> {
        Ok(Vec::new())
    }
}
