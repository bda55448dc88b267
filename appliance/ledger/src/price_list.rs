//! The price list that is always there: pay as you go.

use crate::{RatingInput, RatingPolicy, Usage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{
    ByteCount, Currency, Decimal, ModuleDigest, Money, PolicyFailure, PolicyIdentity, Sha256Digest,
};

/// The highest price per hour, in the currency's main unit. With it no product of a price, a quantity and a time
/// leaves the range of a decimal.
pub const MAX_PRICE: Decimal = Decimal::from_parts(1_000_000, 0, 0, false, 0);

const SECONDS_PER_HOUR: u64 = 3600;

/// Prices per hour, in the currency's main unit. Time is charged by the second: a second is the 3600th part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// The currency of all of them.
    pub currency: Currency,
    /// A running instance of the named type, or a stopped one that keeps its virtual CPUs and memory.
    #[serde(default)]
    pub instance_types: BTreeMap<String, Decimal>,
    /// One vCPU of an instance of any other type …
    pub vcpu: Decimal,
    /// … plus one GiB of its memory. Parts of a GiB count in proportion.
    pub memory_gib: Decimal,
    /// One GiB of a disk of the named category.
    #[serde(default)]
    pub disk_categories: BTreeMap<String, Decimal>,
    /// One GiB of a disk of any other category.
    pub disk_gib: Decimal,
    /// One unit of any other meter, by the meter's name; those not listed are free.
    #[serde(default)]
    pub meters: BTreeMap<String, Decimal>,
}

/// Charges by [`Prices`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Prices", into = "Prices")]
pub struct PriceList {
    prices: Prices,
    configuration_sha256: Sha256Digest,
}

/// A price is negative or above [`MAX_PRICE`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the price of {of} is {price} per hour; it must be from 0 to {MAX_PRICE}")]
pub struct InvalidPrice {
    of: String,
    price: Decimal,
}

impl PriceList {
    /// A list of these prices.
    ///
    /// # Errors
    /// [`InvalidPrice`] for the first one that is.
    pub fn new(prices: Prices) -> Result<Self, InvalidPrice> {
        let single = [
            ("vcpu", &prices.vcpu),
            ("memory-gib", &prices.memory_gib),
            ("disk-gib", &prices.disk_gib),
        ];
        let single = single.map(|(name, price)| (name.to_owned(), price));
        for (of, price) in single.into_iter().chain(prices.listed()) {
            let negative = price.is_sign_negative() && !price.is_zero();
            if negative || *price > MAX_PRICE {
                return Err(InvalidPrice { of, price: *price });
            }
        }
        let mut list = Self {
            prices,
            configuration_sha256: Sha256Digest::new([0; 32]),
        };
        // One parameter per line; a name or value with a line break would need a quote, so quote all.
        let lines: Vec<String> = list
            .parameters()
            .iter()
            .map(|(name, value)| format!("{name:?} = {value:?}\n"))
            .collect();
        list.configuration_sha256 = Sha256Digest::of(lines.concat().as_bytes());
        Ok(list)
    }

    /// The currency it charges in.
    #[must_use]
    pub fn currency(&self) -> Currency {
        self.prices.currency
    }

    /// The prices.
    #[must_use]
    pub fn prices(&self) -> &Prices {
        &self.prices
    }

    /// The prices as named parameters, which is how a billing policy takes them: `vcpu`, `memory-gib`, `disk-gib`,
    /// `instance-type.<name>`, `disk-category.<name>`, `meter.<name>`, and `currency`.
    #[must_use]
    pub fn parameters(&self) -> Vec<(String, String)> {
        let prices = &self.prices;
        let mut parameters = vec![
            ("currency".to_owned(), prices.currency.to_string()),
            ("vcpu".to_owned(), prices.vcpu.to_string()),
            ("memory-gib".to_owned(), prices.memory_gib.to_string()),
            ("disk-gib".to_owned(), prices.disk_gib.to_string()),
        ];
        parameters.extend(
            prices
                .listed()
                .map(|(name, price)| (name, price.to_string())),
        );
        parameters
    }

    /// The exact price, or the nearest decimal of 28 digits.
    fn price(&self, usage: &Usage, seconds: u64) -> Decimal {
        let prices = &self.prices;
        let per_hour = match usage {
            Usage::InstanceRunning {
                instance_type,
                vcpus,
                memory,
                ..
            }
            | Usage::InstanceStopped {
                instance_type,
                vcpus,
                memory,
                hourly: None,
                ..
            } => match prices.instance_types.get(instance_type) {
                Some(price) => *price,
                None => prices.vcpu * Decimal::from(*vcpus) + prices.memory_gib * gib(*memory),
            },
            Usage::InstancePreemptible { hourly, .. }
            | Usage::InstanceStopped {
                hourly: Some(hourly),
                ..
            } => *hourly,
            Usage::DiskAllocated { category, size, .. } => {
                let price = prices.disk_categories.get(category);
                *price.unwrap_or(&prices.disk_gib) * gib(*size)
            }
            Usage::Other { name, quantity, .. } => {
                let price = prices.meters.get(name).copied().unwrap_or_default();
                price.saturating_mul(*quantity)
            }
        };
        per_hour.saturating_mul(Decimal::from(seconds)) / Decimal::from(SECONDS_PER_HOUR)
    }
}

impl Prices {
    /// The prices that have a name of their own, by parameter name.
    fn listed(&self) -> impl Iterator<Item = (String, &Decimal)> {
        [
            ("instance-type", &self.instance_types),
            ("disk-category", &self.disk_categories),
            ("meter", &self.meters),
        ]
        .into_iter()
        .flat_map(|(kind, prices)| {
            let named = move |(name, price)| (format!("{kind}.{name}"), price);
            prices.iter().map(named)
        })
    }
}

fn gib(size: ByteCount) -> Decimal {
    Decimal::from(size.bytes()) / Decimal::from(ByteCount::GIB.bytes())
}

impl RatingPolicy for PriceList {
    fn identity(&self) -> PolicyIdentity {
        PolicyIdentity {
            name: "price-list".to_owned(),
            module_sha256: ModuleDigest::BuiltIn,
            configuration_sha256: self.configuration_sha256,
        }
    }

    fn rate(&self, _: Currency, usage: &[RatingInput]) -> Result<Vec<Money>, PolicyFailure> {
        let price = |input: &RatingInput| {
            let amount = self.price(&input.usage, input.seconds);
            Money::new(amount, self.prices.currency)
        };
        Ok(usage.iter().map(price).collect())
    }
}

impl TryFrom<Prices> for PriceList {
    type Error = InvalidPrice;

    fn try_from(prices: Prices) -> Result<Self, InvalidPrice> {
        Self::new(prices)
    }
}

impl From<PriceList> for Prices {
    fn from(list: PriceList) -> Self {
        list.prices
    }
}
