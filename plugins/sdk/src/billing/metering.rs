//! What else is metered of instances.

use super::{
    Billing,
    bindings::exports::ashlar::policy::metering::{self, Guest},
    bindings::exports::ashlar::policy::rating::Parameter,
    configured,
};
use crate::Decimal;
use alloc::{string::String, vec::Vec};

pub use metering::{Instance, Tag};

/// Something that is metered of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    /// Its name, which [`Billing::price`] is asked about: 1 to 64 characters of `0-9`, `a-z`, `.` and `-`, and none that the host
    /// program meters by itself.
    pub name: String,
    /// How much of it lasts: above 0, at most 10⁹, with at most 9 decimals.
    pub quantity: Decimal,
    /// Whether it lasts only while the instance runs; otherwise until the instance is released.
    pub while_running: bool,
}

impl Instance {
    /// The value of its label of that key.
    #[must_use]
    pub fn tag(&self, key: &str) -> Option<&str> {
        let tag = self.tags.iter().find(|tag| tag.key == key);
        tag.map(|tag| tag.value.as_str())
    }
}

impl<P: Billing> Guest for super::Exported<P> {
    fn meters(
        configuration: Vec<Parameter>,
        instance: Instance,
    ) -> Result<Vec<metering::Meter>, String> {
        let policy: P = configured(configuration)?;
        let meter = |meter: Meter| metering::Meter {
            name: meter.name,
            quantity: crate::text::decimal(meter.quantity),
            while_running: meter.while_running,
        };
        let meters = policy.meters(&instance)?;
        Ok(meters.into_iter().map(meter).collect())
    }
}
