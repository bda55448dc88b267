//! A billing policy that is a component.

mod commerce;

use crate::{
    LoadError,
    bindings::billing::{
        BillingPre,
        exports::ashlar::policy::rating::{
            DiskUsage, InstanceUsage, OtherUsage, Parameter, PriceResult, Usage as UsageParam,
            UsageInterval,
        },
    },
    plugin::{Plugin, interface},
    sandbox::{Sandbox, seed},
};
use ledger::{RatingInput, RatingPolicy, Usage, check_amounts};
use types::{ByteCount, Currency, Decimal, Money, PolicyFailure, PolicyIdentity};

/// A component of world `billing`.
pub struct BillingPlugin {
    plugin: Plugin,
    world: BillingPre<Sandbox>,
}

impl BillingPlugin {
    /// Makes sure that it exports what it should, and that it takes its parameters.
    pub(crate) fn new(plugin: Plugin) -> Result<Self, LoadError> {
        let world = BillingPre::new(plugin.instance.clone())
            .map_err(|error| interface(&plugin.identity.name, &error))?;
        let loaded = Self { plugin, world };
        loaded.plugin.check_configuration(|store| {
            let world = loaded.world.instantiate(&mut *store)?;
            let rating = world.ashlar_policy_rating();
            rating.call_check_configuration(store, &loaded.parameters())
        })?;
        Ok(loaded)
    }

    fn parameters(&self) -> Vec<Parameter<'_>> {
        let parameters = self.plugin.parameters.iter();
        parameters
            .map(|(name, value)| Parameter { name, value })
            .collect()
    }
}

impl RatingPolicy for BillingPlugin {
    fn identity(&self) -> PolicyIdentity {
        self.plugin.identity.clone()
    }

    fn rate(&self, currency: Currency, usage: &[RatingInput]) -> Result<Vec<Money>, PolicyFailure> {
        let texts: Vec<Texts> = usage.iter().map(Texts::of).collect();
        let intervals: Vec<UsageInterval<'_>> = usage
            .iter()
            .zip(&texts)
            .map(|(input, texts)| interval(input, texts))
            .collect();
        let seed = usage
            .first()
            .map_or(0, |first| seed(&first.interval.to_string()));
        let answer = self.plugin.call(seed, |store| {
            let world = self.world.instantiate(&mut *store)?;
            let rating = world.ashlar_policy_rating();
            rating.call_rate(store, &self.parameters(), currency.code(), &intervals)
        })?;
        let amounts = answer
            .iter()
            .map(money)
            .collect::<Result<Vec<Money>, String>>()
            .and_then(|amounts| {
                check_amounts(currency, usage, &amounts)?;
                Ok(amounts)
            });
        self.plugin.usable(amounts)
    }
}

/// The parts of an interval that cross the border as text and aren't text yet.
struct Texts {
    resource: String,
    quantity: String,
}

impl Texts {
    fn of(input: &RatingInput) -> Self {
        Self {
            resource: input.usage.resource(),
            quantity: match &input.usage {
                Usage::Other { quantity, .. } => quantity.to_string(),
                _ => String::new(),
            },
        }
    }
}

fn interval<'a>(input: &'a RatingInput, texts: &'a Texts) -> UsageInterval<'a> {
    let instance = |instance_type: &'a str, vcpus: u32, memory: ByteCount| InstanceUsage {
        instance_type,
        vcpus,
        memory: memory.bytes(),
    };
    UsageInterval {
        resource: &texts.resource,
        usage: match &input.usage {
            Usage::InstanceRunning {
                instance_type,
                vcpus,
                memory,
                ..
            }
            | Usage::InstancePreemptible {
                instance_type,
                vcpus,
                memory,
                ..
            } => UsageParam::InstanceRunning(instance(instance_type, *vcpus, *memory)),
            Usage::InstanceStopped {
                instance_type,
                vcpus,
                memory,
                ..
            } => UsageParam::InstanceStopped(instance(instance_type, *vcpus, *memory)),
            Usage::DiskAllocated { category, size, .. } => UsageParam::DiskAllocated(DiskUsage {
                category,
                size: size.bytes(),
            }),
            Usage::Other { name, .. } => UsageParam::Other(OtherUsage {
                meter: name,
                quantity: &texts.quantity,
            }),
        },
        from: input.from.unix_millis(),
        seconds: input.seconds,
    }
}

fn money(price: &PriceResult) -> Result<Money, String> {
    let amount = Decimal::from_str_exact(&price.amount)
        .map_err(|error| format!("`{:.64}` is no price: {error}", price.amount))?;
    let currency: Currency = price.currency.parse().map_err(|error| format!("{error}"))?;
    Ok(Money::new(amount, currency))
}
