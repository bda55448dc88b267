//! Tiered prices with a monthly free quota by meter.
//!
//! Meters count unit-hours: `vcpu` and `memory-gib` of instances that run or keep what they have, `disk-gib` of disks, and any other meter by its own name.
//! Parameters:
//! - `currency`, an ISO 4217 code; must be set;
//! - `tiers.<meter>`: prices of a unit-hour by how many were used in a month, such as `0: 0.10; 500: 0.08; 2000: 0.05`; the first tier
//!   begins at 0. A meter without tiers is free;
//! - `free.<meter>`: how many unit-hours of a month are free. Tiers count what is used beyond them.
//!
//! Each resource has quota and tiers of its own, and they begin anew with each calendar month (UTC): a price may depend on nothing but
//! the usage that is asked about. Longer use never costs less, because a tier's price is never below 0.

use ashlar_policy::{
    Configuration, Decimal,
    billing::{
        Billing, ChargeType, InstanceUsage, PriceLine, QuoteRequest, Usage, UsageInterval,
        quote_by_rating,
    },
    calendar::Month,
    export_billing,
};
use std::collections::BTreeMap;

/// The policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiered {
    currency: String,
    meters: BTreeMap<String, Meter>,
}

/// What a meter costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Meter {
    /// Unit-hours a month.
    free: Decimal,
    /// From how many unit-hours of a month which price holds, ascending.
    tiers: Vec<(Decimal, Decimal)>,
}

const GIB: u64 = 1 << 30;
const HOUR_MS: i64 = 3_600_000;
/// The most months an interval may touch: a century.
const MAX_MONTHS: u32 = 1_200;
const LISTS: [&str; 2] = ["tiers.", "free."];

impl Billing for Tiered {
    fn configure(configuration: &Configuration) -> Result<Self, String> {
        configuration.allow(&["currency"], &LISTS)?;
        let currency = configuration.get("currency");
        let mut meters: BTreeMap<String, Meter> = BTreeMap::new();
        for (meter, value) in configuration.with_prefix(LISTS[0]) {
            meters.entry(meter.to_owned()).or_default().tiers = tiers(meter, value)?;
        }
        for (meter, value) in configuration.with_prefix(LISTS[1]) {
            let free = number(&format!("free.{meter}"), value)?;
            meters.entry(meter.to_owned()).or_default().free = free;
        }
        Ok(Self {
            currency: currency
                .ok_or("parameter `currency` is missing")?
                .to_owned(),
            meters,
        })
    }

    fn currency(&self) -> &str {
        &self.currency
    }

    fn price(&self, interval: &UsageInterval) -> Result<Decimal, String> {
        let out_of_range = || format!("the price of {} is out of range", interval.resource);
        let months = months(interval.from, interval.seconds).ok_or_else(out_of_range)?;
        let mut sum = Decimal::ZERO;
        for (meter, units) in metered(&interval.usage)? {
            let Some(meter) = self.meters.get(meter) else {
                continue;
            };
            for hours in &months {
                let used = units.checked_mul(*hours).ok_or_else(out_of_range)?;
                let price = meter.price(used).ok_or_else(out_of_range)?;
                sum = sum.checked_add(price).ok_or_else(out_of_range)?;
            }
        }
        Ok(sum)
    }

    /// An hour is quoted at what it costs beyond the free quota and in the first tier, a term as it is rated.
    fn quote(&self, request: &QuoteRequest) -> Result<Vec<PriceLine>, String> {
        if matches!(request.charge, ChargeType::Subscription(_)) {
            return quote_by_rating(self, request);
        }
        let mut lines = quote_by_rating(&self.first_tier(), request)?;
        let free = self.meters.values().any(|meter| !meter.free.is_zero());
        for line in lines.iter_mut().filter(|_| free) {
            line.item += ", beyond the free quota";
        }
        Ok(lines)
    }
}

impl Tiered {
    /// The same prices without quotas and later tiers.
    fn first_tier(&self) -> Self {
        let first = |(name, meter): (&String, &Meter)| {
            let meter = Meter {
                free: Decimal::ZERO,
                tiers: meter.tiers.iter().take(1).copied().collect(),
            };
            (name.clone(), meter)
        };
        Self {
            currency: self.currency.clone(),
            meters: self.meters.iter().map(first).collect(),
        }
    }
}

impl Meter {
    /// The price of that many unit-hours of one month.
    fn price(&self, used: Decimal) -> Option<Decimal> {
        let used = (used - self.free).max(Decimal::ZERO);
        let ends = self.tiers.iter().skip(1).map(|(from, _)| *from);
        let ends = ends.chain([Decimal::MAX]);
        let mut sum = Decimal::ZERO;
        for ((from, price), end) in self.tiers.iter().zip(ends) {
            if used <= *from {
                break;
            }
            sum = sum.checked_add(price.checked_mul(used.min(end) - from)?)?;
        }
        Some(sum)
    }
}

/// The meters of some usage, and how many units run on each.
fn metered(usage: &Usage) -> Result<Vec<(&str, Decimal)>, String> {
    Ok(match usage {
        Usage::InstanceRunning(InstanceUsage { vcpus, memory, .. })
        | Usage::InstanceStopped(InstanceUsage { vcpus, memory, .. }) => {
            vec![("vcpu", (*vcpus).into()), ("memory-gib", gib(*memory))]
        }
        Usage::DiskAllocated(disk) => vec![("disk-gib", gib(disk.size))],
        Usage::Other(other) => {
            let quantity = other.quantity.parse().map_err(|error| {
                format!(
                    "`{}` is no quantity of {}: {error}",
                    other.quantity, other.meter
                )
            })?;
            vec![(other.meter.as_str(), quantity)]
        }
    })
}

/// How many hours of each month it touches an interval lasts. `None` if it touches more than [`MAX_MONTHS`].
fn months(from: i64, seconds: u64) -> Option<Vec<Decimal>> {
    let length = i64::try_from(seconds).ok()?.checked_mul(1_000)?;
    let to = from.checked_add(length)?;
    let mut months = Vec::new();
    let mut reached = from;
    for _ in 0..MAX_MONTHS {
        let end = Month::of(reached).end().min(to);
        months.push(Decimal::from(end - reached) / Decimal::from(HOUR_MS));
        reached = end;
        if reached >= to {
            return Some(months);
        }
    }
    None
}

fn tiers(meter: &str, text: &str) -> Result<Vec<(Decimal, Decimal)>, String> {
    let name = format!("tiers.{meter}");
    let mut tiers: Vec<(Decimal, Decimal)> = Vec::new();
    for tier in text.split(';') {
        let (from, price) = tier
            .split_once(':')
            .ok_or_else(|| format!("parameter `{name}`: `{tier}` must be `from: price`"))?;
        let (from, price) = (number(&name, from.trim())?, number(&name, price.trim())?);
        let follows = match tiers.last() {
            None => from.is_zero(),
            Some((before, _)) => from > *before,
        };
        if !follows {
            return Err(format!(
                "parameter `{name}`: tiers begin at 0 and go up; one begins at {from}"
            ));
        }
        tiers.push((from, price));
    }
    Ok(tiers)
}

/// A number from 0 to 10⁹: with these no price of a time in reach is out of range.
fn number(name: &str, value: &str) -> Result<Decimal, String> {
    let number: Decimal = value
        .parse()
        .map_err(|error| format!("parameter `{name}` has `{value}`: {error}"))?;
    if number < Decimal::ZERO || number > Decimal::from(1_000_000_000) {
        return Err(format!(
            "parameter `{name}` has {number}; it must be from 0 to 1000000000"
        ));
    }
    Ok(number)
}

fn gib(bytes: u64) -> Decimal {
    Decimal::from(bytes) / Decimal::from(GIB)
}

export_billing!(Tiered);

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_policy::{billing::OtherUsage, calendar::day};

    const DAY: u64 = 24 * 3600;

    fn policy() -> Tiered {
        let parameters = [
            ("currency", "CNY"),
            ("tiers.vcpu", "0: 0.10; 500: 0.08; 1000: 0.05"),
            ("free.vcpu", "100"),
            ("tiers.memory-gib", "0: 0"),
            ("tiers.traffic-gib", "0:0.5"),
        ];
        Tiered::configure(&parameters.into_iter().collect()).unwrap()
    }

    fn instance(vcpus: u32, from: &str, seconds: u64) -> UsageInterval {
        UsageInterval {
            resource: "i-0123456789abcdefg".to_owned(),
            usage: Usage::InstanceRunning(InstanceUsage {
                instance_type: "ecs.g6.large".to_owned(),
                vcpus,
                memory: 8 * GIB,
            }),
            from: day(from).unwrap(),
            seconds,
        }
    }

    fn price(interval: &UsageInterval) -> String {
        policy().price(interval).unwrap().normalize().to_string()
    }

    #[test]
    fn the_quota_is_free_then_tier_follows_tier_and_months_begin_anew() {
        for (vcpus, from, days, expected) in [
            // 96 vCPU-hours.
            (1, "2026-01-01", 4, "0"),
            // 240: 140 at 0.10.
            (2, "2026-01-01", 5, "14"),
            // 744: 500 at 0.10, 144 at 0.08.
            (1, "2026-01-01", 31, "61.52"),
            // 2,976: 500 at 0.10, 500 at 0.08, 1,876 at 0.05.
            (4, "2026-01-01", 31, "183.8"),
            // Two days before and two after the end of a month: 96 in each.
            (2, "2026-01-30", 4, "0"),
        ] {
            assert_eq!(price(&instance(vcpus, from, days * DAY)), expected);
        }
    }

    #[test]
    fn longer_never_costs_less() {
        let mut before = Decimal::ZERO;
        for hours in (1..24 * 70).step_by(5) {
            let price = policy().price(&instance(3, "2026-01-20", hours * 3600));
            let price = price.unwrap();
            assert!(price >= before, "{hours} h");
            before = price;
        }
    }

    #[test]
    fn other_meters_go_by_their_names_and_those_without_tiers_are_free() {
        let other = |meter: &str, quantity: &str| UsageInterval {
            usage: Usage::Other(OtherUsage {
                meter: meter.to_owned(),
                quantity: quantity.to_owned(),
            }),
            ..instance(1, "2026-01-01", 7_200)
        };
        assert_eq!(price(&other("traffic-gib", "1.5")), "1.5");
        assert_eq!(price(&other("requests", "1000")), "0");
        let error = policy().price(&other("traffic-gib", "much")).unwrap_err();
        assert!(error.contains("no quantity of traffic-gib"), "{error}");
        let forever = instance(1, "2026-01-01", u64::MAX);
        assert!(policy().price(&forever).is_err());
    }

    #[test]
    fn an_hour_is_quoted_beyond_the_free_quota() {
        let request = QuoteRequest {
            account: "team-a".to_owned(),
            instance_type: "ecs.g6.large".to_owned(),
            vcpus: 2,
            memory: 8 * GIB,
            disks: Vec::new(),
            charge: ChargeType::PayAsYouGo,
            count: 3,
            at: 0,
        };
        let lines = policy().quote(&request).unwrap();
        assert_eq!(lines[0].item, "3 × ecs.g6.large, beyond the free quota");
        assert_eq!(lines[0].price.normalize(), Decimal::new(6, 1));
    }

    #[test]
    fn bad_tiers_are_refused_by_name() {
        for (name, value, said) in [
            ("tiers.vcpu", "0.1", "`0.1` must be `from: price`"),
            ("tiers.vcpu", "5: 0.1", "one begins at 5"),
            ("tiers.vcpu", "0: 1; 9: 1; 9: 1", "one begins at 9"),
            ("tiers.vcpu", "0: -1", "`tiers.vcpu` has -1"),
            ("free.vcpu", "some", "`free.vcpu` has `some`"),
            ("free", "1", "unknown parameter `free`"),
        ] {
            let parameters = [("currency", "CNY"), (name, value)];
            let error = Tiered::configure(&parameters.into_iter().collect()).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        let error = Tiered::configure(&Configuration::default()).unwrap_err();
        assert!(error.contains("`currency` is missing"), "{error}");
    }
}
