//! Meters beside those of instances and disks: what images take, and what the operator meters.

use ledger::{Usage, UsageKey};
use types::{Decimal, Timestamp};

/// The name of the meter of what images take: GiB, from when an image is available until it is deleted.
pub const IMAGE_METER: &str = "image-stored";

/// Something that the operator has metered of a resource, by a name that the billing policy knows the price of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Meter {
    /// [`Meter::key_of`] its resource and name.
    pub key: String,
    /// Its name: 1 to 64 characters of `[0-9a-z.-]`.
    pub name: String,
    /// Id of the instance, disk or image that it is of.
    pub resource: String,
    /// How much of it lasts; above 0.
    pub quantity: Decimal,
    /// It lasts only while the instance runs.
    #[serde(default)]
    pub while_running: bool,
    /// When it was set first.
    pub created_at: Timestamp,
}

impl Meter {
    /// What it is found by.
    #[must_use]
    pub fn key_of(resource: &str, name: &str) -> String {
        format!("{resource} {name}")
    }

    /// It in the ledger.
    pub(crate) fn usage(&self) -> Usage {
        Usage::Other {
            name: self.name.clone(),
            resource: self.resource.clone(),
            quantity: self.quantity,
        }
    }

    /// What its intervals in the ledger are found by.
    pub(crate) fn usage_key(&self) -> UsageKey {
        UsageKey::other(self.resource.clone(), &self.name)
    }
}
