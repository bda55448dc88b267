//! Pay as you go: prices per hour, charged by the second.
//!
//! Parameters, all decimal numbers in the currency's main unit per hour:
//! - `instance-type.<name>`: an instance of that type, running or stopped with what it has;
//! - `vcpu` and `memory-gib`: a vCPU and a GiB of memory of an instance of any other type;
//! - `disk-category.<name>`: a GiB of a disk of that category; `disk-gib`: of any other category;
//! - `meter.<name>`: a unit of any other meter; meters without a price are free. An instance with the label `licence=<name>` for which there
//!   is a price `meter.licence.<name>` has so many units of that metered as it has virtual CPUs, while it runs;
//!
//! and `currency`, an ISO 4217 code. `currency`, `vcpu`, `memory-gib` and `disk-gib` must be set.

use ashlar_policy::{
    Configuration, Decimal,
    billing::{Billing, Instance, Meter, Usage, UsageInterval},
    export_billing,
};
use std::collections::BTreeMap;

/// The policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayAsYouGo {
    currency: String,
    vcpu: Decimal,
    memory_gib: Decimal,
    disk_gib: Decimal,
    instance_types: BTreeMap<String, Decimal>,
    disk_categories: BTreeMap<String, Decimal>,
    meters: BTreeMap<String, Decimal>,
}

const GIB: u64 = 1 << 30;
const SECONDS_PER_HOUR: u64 = 3600;
const LISTS: [&str; 3] = ["instance-type.", "disk-category.", "meter."];

impl Billing for PayAsYouGo {
    fn configure(configuration: &Configuration) -> Result<Self, String> {
        configuration.allow(&["currency", "vcpu", "memory-gib", "disk-gib"], &LISTS)?;
        let needed = |name: &str| {
            let value = configuration.get(name);
            value.ok_or_else(|| format!("parameter `{name}` is missing"))
        };
        let list = |prefix: &'static str| {
            configuration
                .with_prefix(prefix)
                .map(|(name, value)| {
                    Ok((name.to_owned(), price(&format!("{prefix}{name}"), value)?))
                })
                .collect::<Result<BTreeMap<String, Decimal>, String>>()
        };
        Ok(Self {
            currency: needed("currency")?.to_owned(),
            vcpu: price("vcpu", needed("vcpu")?)?,
            memory_gib: price("memory-gib", needed("memory-gib")?)?,
            disk_gib: price("disk-gib", needed("disk-gib")?)?,
            instance_types: list(LISTS[0])?,
            disk_categories: list(LISTS[1])?,
            meters: list(LISTS[2])?,
        })
    }

    fn currency(&self) -> &str {
        &self.currency
    }

    fn price(&self, interval: &UsageInterval) -> Result<Decimal, String> {
        self.per_hour(&interval.usage)?
            .checked_mul(Decimal::from(interval.seconds))
            .map(|price| price / Decimal::from(SECONDS_PER_HOUR))
            .ok_or_else(|| format!("the price of {} is out of range", interval.resource))
    }

    fn meters(&self, instance: &Instance) -> Result<Vec<Meter>, String> {
        let licence = instance
            .tag("licence")
            .map(|name| format!("licence.{name}"));
        let licence = licence.filter(|name| self.meters.contains_key(name));
        let meter = licence.map(|name| Meter {
            name,
            quantity: instance.size.vcpus.into(),
            while_running: true,
        });
        Ok(meter.into_iter().collect())
    }
}

impl PayAsYouGo {
    fn per_hour(&self, usage: &Usage) -> Result<Decimal, String> {
        Ok(match usage {
            Usage::InstanceRunning(instance) | Usage::InstanceStopped(instance) => {
                match self.instance_types.get(&instance.instance_type) {
                    Some(price) => *price,
                    None => {
                        self.vcpu * Decimal::from(instance.vcpus)
                            + self.memory_gib * gib(instance.memory)
                    }
                }
            }
            Usage::DiskAllocated(disk) => {
                let price = self.disk_categories.get(&disk.category);
                *price.unwrap_or(&self.disk_gib) * gib(disk.size)
            }
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
}

/// A price per hour from 0 to 1,000,000: with these no product of a price, a size and a time is out of range.
fn price(name: &str, value: &str) -> Result<Decimal, String> {
    let price: Decimal = value
        .parse()
        .map_err(|error| format!("parameter `{name}` is `{value}`: {error}"))?;
    if price < Decimal::ZERO || price > Decimal::from(1_000_000) {
        return Err(format!(
            "parameter `{name}` is {price}; it must be from 0 to 1000000"
        ));
    }
    Ok(price)
}

fn gib(bytes: u64) -> Decimal {
    Decimal::from(bytes) / Decimal::from(GIB)
}

export_billing!(PayAsYouGo);

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_policy::billing::{DiskUsage, InstanceUsage, Tag};

    fn policy() -> PayAsYouGo {
        let prices = [
            ("currency", "CNY"),
            ("vcpu", "0.1"),
            ("memory-gib", "0.05"),
            ("disk-gib", "0.0036"),
            ("instance-type.ecs.g6.large", "0.72"),
            ("meter.licence.database", "0.12"),
        ];
        PayAsYouGo::configure(&prices.into_iter().collect()).unwrap()
    }

    fn interval(usage: Usage, seconds: u64) -> UsageInterval {
        UsageInterval {
            resource: "i-0123456789abcdefg".to_owned(),
            usage,
            from: 0,
            seconds,
        }
    }

    #[test]
    fn a_licence_with_a_price_is_metered_for_each_vcpu() {
        let instance = |licence: &str| Instance {
            id: "i-0123456789abcdefg".to_owned(),
            account: "team-a".to_owned(),
            size: InstanceUsage {
                instance_type: "ecs.g6.xlarge".to_owned(),
                vcpus: 4,
                memory: 16 * GIB,
            },
            image: "m-0123456789abcdefg".to_owned(),
            tags: vec![Tag {
                key: "licence".to_owned(),
                value: licence.to_owned(),
            }],
            subscribed: false,
        };
        let meter = Meter {
            name: "licence.database".to_owned(),
            quantity: Decimal::from(4),
            while_running: true,
        };
        assert_eq!(policy().meters(&instance("database")), Ok(vec![meter]));
        assert_eq!(policy().meters(&instance("none")), Ok(Vec::new()));
    }

    #[test]
    fn a_listed_type_has_its_price_and_others_pay_for_their_size() {
        let instance = |instance_type: &str| {
            Usage::InstanceRunning(InstanceUsage {
                instance_type: instance_type.to_owned(),
                vcpus: 2,
                memory: 8 * GIB,
            })
        };
        let disk = Usage::DiskAllocated(DiskUsage {
            category: "cloud_essd".to_owned(),
            size: 20 * GIB,
        });
        for (usage, seconds, price) in [
            (instance("ecs.g6.large"), 3600, "0.72"),
            (instance("ecs.g6.large"), 1, "0.0002"),
            (instance("probe"), 3600, "0.6"),
            (disk, 50, "0.001"),
        ] {
            let expected: Decimal = price.parse().unwrap();
            assert_eq!(policy().price(&interval(usage, seconds)), Ok(expected));
        }
    }

    #[test]
    fn bad_prices_are_refused_by_name() {
        for (name, value, said) in [
            ("vcpu", "-1", "`vcpu` is -1"),
            ("vcpu", "cheap", "`vcpu` is `cheap`"),
            ("instance-type.x", "1000001", "`instance-type.x`"),
            ("vpcu", "1", "unknown parameter `vpcu`"),
        ] {
            let mut prices = BTreeMap::from([
                ("currency", "CNY"),
                ("vcpu", "0.1"),
                ("memory-gib", "0.05"),
                ("disk-gib", "0"),
            ]);
            prices.insert(name, value);
            let error = PayAsYouGo::configure(&prices.into_iter().collect()).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
