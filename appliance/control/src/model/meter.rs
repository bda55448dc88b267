//! Meters beside those of instances and disks: what images take, and what the operator or the billing policy has metered.

use ledger::{Usage, UsageKey};
use types::{Decimal, Timestamp};

/// The name of the meter of what images take: GiB, from when an image is available until it is deleted.
pub const IMAGE_METER: &str = "image-stored";

/// Something that is metered of a resource beside what the host meters by itself, by a name that the billing policy knows the price of.
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
    /// The billing policy has it metered, not the operator.
    #[serde(default)]
    pub by_policy: bool,
    /// When it was set first.
    pub created_at: Timestamp,
}

impl Meter {
    /// What it is found by.
    #[must_use]
    pub fn key_of(resource: &str, name: &str) -> String {
        format!("{resource} {name}")
    }

    /// What the keys of a resource's meters begin with.
    pub(crate) fn keys_of(resource: &str) -> String {
        Self::key_of(resource, "")
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
