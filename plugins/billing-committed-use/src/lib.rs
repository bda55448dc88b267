//! A committed amount of each instance at a discount, the rest on demand.
//!
//! Parameters, prices being decimal numbers in the currency's main unit per hour:
//! - `currency`, an ISO 4217 code; `vcpu`, `memory-gib` and `disk-gib`, the prices on demand; all four must be set;
//! - `meter.<name>`: a unit of any other meter; meters without a price are free;
//! - `committed-vcpus` and `committed-memory-gib` (default 0): how much of each instance is committed, running or stopped with what it has;
//! - `discount` (default 0): by what part of the price on demand the committed amount is cheaper, from 0 to 1;
//! - `from` and `until`: the days, such as `2026-12-31`, at whose start (UTC) the commitment begins and ends; without them it always holds.
//!
//! The amount is one of each instance, not of an account: a price may depend on nothing but the usage that is asked about. A
//! subscription is a commitment, too: its whole size costs what is committed, and its renewal is refused once the commitment has ended.

use ashlar_policy::{
    Configuration, Decimal,
    billing::{
        Billing, ChargeType, InstanceUsage, PriceLine, QuoteRequest, Renewal, RenewalRequest,
        Usage, UsageInterval, quote_by_rating,
    },
    calendar, export_billing,
};
use std::collections::BTreeMap;

/// The policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedUse {
    currency: String,
    vcpu: Decimal,
    memory_gib: Decimal,
    disk_gib: Decimal,
    meters: BTreeMap<String, Decimal>,
    committed_vcpus: Decimal,
    committed_memory_gib: Decimal,
    discount: Decimal,
    /// From when the commitment holds, and until when: milliseconds since 1970-01-01T00:00:00Z.
    term: (i64, i64),
}

const GIB: u64 = 1 << 30;
const HOUR_MS: i64 = 3_600_000;
const NAMES: [&str; 9] = [
    "currency",
    "vcpu",
    "memory-gib",
    "disk-gib",
    "committed-vcpus",
    "committed-memory-gib",
    "discount",
    "from",
    "until",
];

impl Billing for CommittedUse {
    fn configure(configuration: &Configuration) -> Result<Self, String> {
        configuration.allow(&NAMES, &["meter."])?;
        let needed = |name: &str| {
            let value = configuration.get(name);
            value.ok_or_else(|| format!("parameter `{name}` is missing"))
        };
        let price = |name: &str| number(name, needed(name)?, 1_000_000);
        let amount = |name: &str| number(name, configuration.get(name).unwrap_or("0"), 1_000_000);
        let meters = configuration.with_prefix("meter.");
        let meters = meters.map(|(name, value)| {
            let price = number(&format!("meter.{name}"), value, 1_000_000)?;
            Ok((name.to_owned(), price))
        });
        let day = |name: &str, without: i64| {
            let day = configuration.get(name).map(calendar::day).transpose();
            let day = day.map_err(|why| format!("parameter `{name}`: {why}"))?;
            Ok::<i64, String>(day.unwrap_or(without))
        };
        let term = (day("from", i64::MIN)?, day("until", i64::MAX)?);
        if term.0 >= term.1 {
            return Err("parameter `until` must be a day after `from`".to_owned());
        }
        Ok(Self {
            currency: needed("currency")?.to_owned(),
            vcpu: price("vcpu")?,
            memory_gib: price("memory-gib")?,
            disk_gib: price("disk-gib")?,
            meters: meters.collect::<Result<_, String>>()?,
            committed_vcpus: amount("committed-vcpus")?,
            committed_memory_gib: amount("committed-memory-gib")?,
            discount: number("discount", configuration.get("discount").unwrap_or("0"), 1)?,
            term,
        })
    }

    fn currency(&self) -> &str {
        &self.currency
    }

    fn price(&self, interval: &UsageInterval) -> Result<Decimal, String> {
        let out_of_range = || format!("the price of {} is out of range", interval.resource);
        let (committed, rest) = self.hours(interval).ok_or_else(out_of_range)?;
        let on_demand = self.on_demand(&interval.usage)?;
        let saved = match &interval.usage {
            Usage::InstanceRunning(instance) | Usage::InstanceStopped(instance) => {
                self.saved(instance)
            }
            Usage::DiskAllocated(_) | Usage::Other(_) => Decimal::ZERO,
        };
        let committed = (on_demand - saved).checked_mul(committed);
        let rest = on_demand.checked_mul(rest);
        let sum = committed.and_then(|committed| committed.checked_add(rest?));
        sum.ok_or_else(out_of_range)
    }

    fn quote(&self, request: &QuoteRequest) -> Result<Vec<PriceLine>, String> {
        let mut lines = quote_by_rating(self, request)?;
        if self.discount.is_zero() || !self.holds(request.at) {
            return Ok(lines);
        }
        let words = format!("committed use, {} % off", self.percent());
        let whole = matches!(request.charge, ChargeType::Subscription(_));
        if whole {
            lines = quote_by_rating(&self.without_commitment(), request)?;
            if let Some(instances) = lines.first_mut() {
                instances.price *= Decimal::ONE - self.discount;
            }
        }
        // A preemptible instance costs the market price.
        let market = matches!(&request.charge, ChargeType::Preemptible(terms) if terms.market_price.is_some());
        let saved = self.saved(&InstanceUsage {
            instance_type: request.instance_type.clone(),
            vcpus: request.vcpus,
            memory: request.memory,
        });
        if let Some(instances) = lines.first_mut()
            && !market
            && (whole || !saved.is_zero())
        {
            instances.discount = Some(words);
        }
        Ok(lines)
    }

    fn renewal(&self, request: &RenewalRequest, listed: Decimal) -> Result<Renewal, String> {
        if request.expires >= self.term.1 {
            return Ok(Renewal::Refuse(
                "The commitment has ended; choose pay as you go or a new commitment.".to_owned(),
            ));
        }
        Ok(Renewal::Renew {
            price: listed,
            discount: None,
        })
    }
}

impl CommittedUse {
    fn holds(&self, at: i64) -> bool {
        (self.term.0..self.term.1).contains(&at)
    }

    fn percent(&self) -> Decimal {
        (self.discount * Decimal::ONE_HUNDRED).normalize()
    }

    fn without_commitment(&self) -> Self {
        Self {
            discount: Decimal::ZERO,
            ..self.clone()
        }
    }

    /// Hours of an interval within the term of the commitment, and outside of it.
    fn hours(&self, interval: &UsageInterval) -> Option<(Decimal, Decimal)> {
        let length = i64::try_from(interval.seconds).ok()?.checked_mul(1_000)?;
        let to = interval.from.checked_add(length)?;
        let begin = interval.from.max(self.term.0);
        let within = to.min(self.term.1).saturating_sub(begin).max(0);
        let hours = |millis: i64| Decimal::from(millis) / Decimal::from(HOUR_MS);
        Some((hours(within), hours(length - within)))
    }

    /// What an hour costs on demand.
    fn on_demand(&self, usage: &Usage) -> Result<Decimal, String> {
        Ok(match usage {
            Usage::InstanceRunning(instance) | Usage::InstanceStopped(instance) => {
                self.vcpu * Decimal::from(instance.vcpus) + self.memory_gib * gib(instance.memory)
            }
            Usage::DiskAllocated(disk) => self.disk_gib * gib(disk.size),
            Usage::Other(other) => {
                let price = self.meters.get(&other.meter).copied().unwrap_or_default();
                let quantity: Decimal = other.quantity.parse().map_err(|error| {
                    format!(
                        "`{}` is no quantity of {}: {error}",
                        other.quantity, other.meter
                    )
                })?;
                let product = price.checked_mul(quantity);
                product.ok_or_else(|| format!("the price of {} is out of range", other.meter))?
            }
        })
    }

    /// What the commitment saves on an hour of an instance.
    fn saved(&self, instance: &InstanceUsage) -> Decimal {
        let vcpus = Decimal::from(instance.vcpus).min(self.committed_vcpus);
        let memory = gib(instance.memory).min(self.committed_memory_gib);
        (self.vcpu * vcpus + self.memory_gib * memory) * self.discount
    }
}

/// A number from 0 to `most`.
fn number(name: &str, value: &str, most: u32) -> Result<Decimal, String> {
    let number: Decimal = value
        .parse()
        .map_err(|error| format!("parameter `{name}` is `{value}`: {error}"))?;
    if number < Decimal::ZERO || number > Decimal::from(most) {
        return Err(format!(
            "parameter `{name}` is {number}; it must be from 0 to {most}"
        ));
    }
    Ok(number)
}

fn gib(bytes: u64) -> Decimal {
    Decimal::from(bytes) / Decimal::from(GIB)
}

export_billing!(CommittedUse);

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_policy::billing::{Period, PeriodUnit};
    use calendar::day;

    fn parameters() -> BTreeMap<&'static str, &'static str> {
        BTreeMap::from([
            ("currency", "CNY"),
            ("vcpu", "0.10"),
            ("memory-gib", "0.05"),
            ("disk-gib", "0.002"),
            ("committed-vcpus", "2"),
            ("committed-memory-gib", "8"),
            ("discount", "0.4"),
            ("from", "2026-01-01"),
            ("until", "2027-01-01"),
        ])
    }

    fn policy() -> CommittedUse {
        CommittedUse::configure(&parameters().into_iter().collect()).unwrap()
    }

    fn price(vcpus: u32, gib: u64, from: &str, hours: u64) -> String {
        let interval = UsageInterval {
            resource: "i-0123456789abcdefg".to_owned(),
            usage: Usage::InstanceRunning(InstanceUsage {
                instance_type: "ecs.g6.large".to_owned(),
                vcpus,
                memory: gib * GIB,
            }),
            from: day(from).unwrap(),
            seconds: hours * 3600,
        };
        policy().price(&interval).unwrap().normalize().to_string()
    }

    #[test]
    fn what_is_committed_is_cheaper_while_the_commitment_holds() {
        for (vcpus, gib, from, hours, expected) in [
            // 0.2 + 0.4, all of it committed: 40 % off.
            (2, 8, "2026-03-01", 1, "0.36"),
            // Less than what is committed.
            (1, 4, "2026-03-01", 1, "0.18"),
            // 0.4 + 0.8 on demand, of which 0.6 is committed.
            (4, 16, "2026-03-01", 1, "0.96"),
            (2, 8, "2025-03-01", 1, "0.6"),
            (2, 8, "2027-01-01", 1, "0.6"),
            // A day before the commitment begins, and one in it.
            (2, 8, "2025-12-31", 48, "23.04"),
        ] {
            assert_eq!(price(vcpus, gib, from, hours), expected, "{from}");
        }
    }

    #[test]
    fn longer_never_costs_less_also_across_the_ends_of_the_commitment() {
        let of = |from: &str, hours: u64| price(4, 4, from, hours).parse::<Decimal>().unwrap();
        for from in ["2025-12-31", "2026-12-31"] {
            let prices: Vec<Decimal> = (1..60).map(|hours| of(from, hours)).collect();
            assert!(prices.is_sorted(), "{from}: {prices:?}");
        }
    }

    #[test]
    fn a_quote_says_what_the_commitment_saves() {
        let request = |charge, at: &str| QuoteRequest {
            account: "team-a".to_owned(),
            instance_type: "ecs.g6.xlarge".to_owned(),
            vcpus: 4,
            memory: 16 * GIB,
            disks: Vec::new(),
            charge,
            count: 1,
            at: day(at).unwrap(),
        };
        let week = ChargeType::Subscription(Period {
            unit: PeriodUnit::Week,
            count: 1,
        });
        let words = Some("committed use, 40 % off");
        for (charge, at, price, discount) in [
            (ChargeType::PayAsYouGo, "2026-03-01", "0.96", words),
            (ChargeType::PayAsYouGo, "2027-03-01", "1.2", None),
            // 168 hours at 1.2, all of it committed.
            (week.clone(), "2026-03-01", "120.96", words),
            (week, "2027-03-01", "201.6", None),
        ] {
            let lines = policy().quote(&request(charge, at)).unwrap();
            assert_eq!(lines[0].price.normalize().to_string(), price);
            assert_eq!(lines[0].discount.as_deref(), discount);
        }
    }

    #[test]
    fn wrong_parameters_are_refused_by_name() {
        for (name, value, said) in [
            ("discount", "1.1", "`discount` is 1.1"),
            ("vcpu", "-1", "`vcpu` is -1"),
            ("from", "soon", "`from`: `soon` is no day"),
            ("until", "2026-01-01", "a day after `from`"),
            ("commited-vcpus", "1", "unknown parameter `commited-vcpus`"),
        ] {
            let mut parameters = parameters();
            parameters.insert(name, value);
            let error = CommittedUse::configure(&parameters.into_iter().collect());
            let error = error.unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
