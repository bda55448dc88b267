//! The commercial decisions, and what is answered by a policy that only rates.

use super::{
    Billing, DiskUsage, InstanceUsage, Usage, UsageInterval,
    bindings::exports::ashlar::policy::commerce::{
        self, Guest, PriceUnit, RenewalAnswer, RenewalOffer,
    },
    bindings::exports::ashlar::policy::rating::{Parameter, Price},
    configured_in,
};
use crate::Decimal;
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::cmp::Reverse;

pub use commerce::{
    ArrearsStep, ChargeType, Debt, Period, PeriodUnit, PreemptibleInstance, Preemption,
    QuoteRequest, RenewalRequest, SpotTerms,
};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const GIB: u64 = 1 << 30;

/// One line of a quote, in the policy's currency. It is the price of an hour, or of the whole term of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceLine {
    /// What it is for, in words; 1 to 128 characters.
    pub item: String,
    /// Its price for all instances asked about, after the discount: not negative. The host program rounds.
    pub price: Decimal,
    /// Why it is less than the list price, in words; 1 to 128 characters.
    pub discount: Option<String>,
}

/// Whether a term is renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It is.
    Renew {
        /// The price of the term: not negative. The host program rounds.
        price: Decimal,
        /// Why it differs from the plan's, in words; 1 to 128 characters.
        discount: Option<String>,
    },
    /// It is not; a sentence for the customer of 1 to 256 characters.
    Refuse(String),
}

/// How long what is quoted lasts, in seconds: an hour, or a term, where a week has 7 days, a month 30 and a year 365.
#[must_use]
pub fn quoted_seconds(charge: &ChargeType) -> u64 {
    let ChargeType::Subscription(period) = charge else {
        return HOUR;
    };
    let days = match period.unit {
        PeriodUnit::Week => 7,
        PeriodUnit::Month => 30,
        PeriodUnit::Year => 365,
    };
    u64::from(period.count) * days * DAY
}

/// A line for the instances and one for each disk, at what [`Billing::price`] says of their use for an hour, or for a term. A
/// preemptible instance costs the market price where there is one.
///
/// # Errors
/// As of [`Billing::price`]; a market price that is no number; a price out of range.
pub fn quote_by_rating(
    policy: &impl Billing,
    request: &QuoteRequest,
) -> Result<Vec<PriceLine>, String> {
    let seconds = quoted_seconds(&request.charge);
    let of = |usage: Usage| {
        policy.price(&UsageInterval {
            resource: String::from("quote"),
            usage,
            from: request.at,
            seconds,
        })
    };
    let line = |what: String, each: Decimal| -> Result<PriceLine, String> {
        let item = format!("{} × {what}", request.count);
        let price = each.checked_mul(request.count.into());
        Ok(PriceLine {
            price: price.ok_or_else(|| format!("the price of {item} is out of range"))?,
            item,
            discount: None,
        })
    };
    let instance = match market_price(&request.charge)? {
        Some(price) => price,
        None => of(Usage::InstanceRunning(InstanceUsage {
            instance_type: request.instance_type.clone(),
            vcpus: request.vcpus,
            memory: request.memory,
        }))?,
    };
    let mut lines = Vec::from([line(request.instance_type.clone(), instance)?]);
    for disk in &request.disks {
        let price = of(Usage::DiskAllocated(DiskUsage {
            category: disk.category.clone(),
            size: disk.size,
        }))?;
        let size = (Decimal::from(disk.size) / Decimal::from(GIB)).normalize();
        lines.push(line(format!("{} of {size} GiB", disk.category), price)?);
    }
    Ok(lines)
}

fn market_price(charge: &ChargeType) -> Result<Option<Decimal>, String> {
    let ChargeType::Preemptible(terms) = charge else {
        return Ok(None);
    };
    let price = terms.market_price.as_deref();
    price
        .map(|price| decimal("market price", price))
        .transpose()
}

/// Who may be reclaimed, as the host program would have it: lowest limit first, who pays any price last, of equals the newest, then
/// by id.
///
/// # Errors
/// A price limit that is no number.
pub fn lowest_bid_first(preemption: &Preemption) -> Result<Vec<String>, String> {
    let mut order = Vec::new();
    for instance in &preemption.instances {
        if instance.noticed || preemption.at < instance.protected_until {
            continue;
        }
        let limit = instance.price_limit.as_deref();
        let limit = limit
            .map(|limit| decimal("price limit", limit))
            .transpose()?;
        let bid = (limit.is_none(), limit);
        order.push((bid, Reverse(instance.started), instance.id.as_str()));
    }
    order.sort();
    Ok(order.into_iter().map(|(_, _, id)| id.to_string()).collect())
}

fn decimal(what: &str, text: &str) -> Result<Decimal, String> {
    text.parse()
        .map_err(|error| format!("`{text}` is no {what}: {error}"))
}

impl<P: Billing> Guest for super::Exported<P> {
    fn quote(
        configuration: Vec<Parameter>,
        currency: String,
        request: QuoteRequest,
    ) -> Result<Vec<commerce::PriceLine>, String> {
        let policy: P = configured_in(configuration, &currency)?;
        let per = match request.charge {
            ChargeType::Subscription(_) => PriceUnit::Term,
            ChargeType::PayAsYouGo | ChargeType::Preemptible(_) => PriceUnit::Hour,
        };
        let line = |line: PriceLine| commerce::PriceLine {
            item: line.item,
            price: Price {
                amount: line.price.to_string(),
                currency: currency.clone(),
            },
            per,
            discount: line.discount,
        };
        let lines = policy.quote(&request)?;
        Ok(lines.into_iter().map(line).collect())
    }

    fn renewal(
        configuration: Vec<Parameter>,
        request: RenewalRequest,
    ) -> Result<RenewalAnswer, String> {
        let currency = request.price.currency.clone();
        let policy: P = configured_in(configuration, &currency)?;
        let listed = decimal("price", &request.price.amount)?;
        Ok(match policy.renewal(&request, listed)? {
            Renewal::Renew { price, discount } => RenewalAnswer::Renew(RenewalOffer {
                price: Price {
                    amount: price.to_string(),
                    currency,
                },
                discount,
            }),
            Renewal::Refuse(why) => RenewalAnswer::Refuse(why),
        })
    }

    fn arrears(configuration: Vec<Parameter>, debt: Debt) -> Result<ArrearsStep, String> {
        let policy: P = configured_in(configuration, &debt.owed.currency)?;
        policy.arrears(&debt)
    }

    fn preempt(
        configuration: Vec<Parameter>,
        preemption: Preemption,
    ) -> Result<Vec<String>, String> {
        super::configured::<P>(configuration)?.preempt(&preemption)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Configuration;

    /// A unit of money per vCPU and hour, a hundredth per GiB of disk.
    struct Flat;

    impl Billing for Flat {
        fn configure(_: &Configuration) -> Result<Self, String> {
            Ok(Self)
        }

        fn currency(&self) -> &str {
            "CNY"
        }

        fn price(&self, interval: &UsageInterval) -> Result<Decimal, String> {
            let per_hour = match &interval.usage {
                Usage::InstanceRunning(instance) | Usage::InstanceStopped(instance) => {
                    Decimal::from(instance.vcpus)
                }
                Usage::DiskAllocated(disk) => Decimal::new(1, 2) * Decimal::from(disk.size / GIB),
                Usage::Other(_) => Decimal::ZERO,
            };
            Ok(per_hour * Decimal::from(interval.seconds) / Decimal::from(HOUR))
        }
    }

    fn request(charge: ChargeType) -> QuoteRequest {
        QuoteRequest {
            account: String::from("team-a"),
            instance_type: String::from("ecs.g6.large"),
            vcpus: 2,
            memory: 8 * GIB,
            disks: Vec::from([DiskUsage {
                category: String::from("cloud_essd"),
                size: 40 * GIB,
            }]),
            charge,
            count: 3,
            at: 0,
        }
    }

    fn quoted(charge: ChargeType) -> Result<Vec<(String, String)>, String> {
        let lines = Flat.quote(&request(charge))?;
        let line = |line: PriceLine| (line.item, line.price.normalize().to_string());
        Ok(lines.into_iter().map(line).collect())
    }

    #[test]
    fn a_policy_that_only_rates_quotes_an_hour_or_a_term_of_what_it_rates() {
        let spot = |market: Option<&str>| {
            ChargeType::Preemptible(SpotTerms {
                price_limit: None,
                market_price: market.map(String::from),
            })
        };
        let term = |unit, count| ChargeType::Subscription(Period { unit, count });
        for (charge, instance, disk) in [
            (ChargeType::PayAsYouGo, "6", "1.2"),
            (spot(None), "6", "1.2"),
            (spot(Some("0.5")), "1.5", "1.2"),
            (term(PeriodUnit::Week, 1), "1008", "201.6"),
            (term(PeriodUnit::Month, 2), "8640", "1728"),
            (term(PeriodUnit::Year, 1), "52560", "10512"),
        ] {
            let expected = [
                ("3 × ecs.g6.large", instance),
                ("3 × cloud_essd of 40 GiB", disk),
            ];
            let expected = expected.map(|(item, price)| (String::from(item), String::from(price)));
            assert_eq!(quoted(charge).unwrap(), expected);
        }
        let error = quoted(spot(Some("cheap"))).unwrap_err();
        assert!(error.contains("`cheap` is no market price"), "{error}");
    }

    #[test]
    fn the_lowest_bid_goes_first_and_who_is_safe_is_not_named() {
        let instance = |id: &str, started: i64, limit: Option<&str>| PreemptibleInstance {
            id: String::from(id),
            vcpus: 1,
            memory: GIB,
            started,
            protected_until: started + 3_600_000,
            price_limit: limit.map(String::from),
            noticed: id == "i-noticed",
        };
        let preemption = Preemption {
            instances: Vec::from([
                instance("i-any", 0, None),
                instance("i-high", 0, Some("0.5")),
                instance("i-low-old", 0, Some("0.09")),
                instance("i-low-new", 5, Some("0.09")),
                instance("i-noticed", 0, Some("0.01")),
                instance("i-protected", 10, Some("0.01")),
            ]),
            vcpus: 1,
            memory: 0,
            at: 3_600_005,
        };
        let order = Flat.preempt(&preemption).unwrap();
        assert_eq!(order, ["i-low-new", "i-low-old", "i-high", "i-any"]);
    }
}
