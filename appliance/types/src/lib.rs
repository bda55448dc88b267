//! Vocabulary: typed ids, byte and sector counts, money and time.
//!
//! The words every other crate speaks. Nothing here reads a clock, a file or a random source: whoever makes an id
//! passes the random bits, whoever stamps an event passes the time. On the wire and in the store every value is
//! the text that people see, so a stored record can be read with the eye.

#![forbid(unsafe_code)]

mod account;
mod calendar;
mod digest;
mod id;
mod mac;
mod money;
mod policy;
mod size;
mod time;

pub use account::AccountId;
pub use calendar::{Month, UtcOffset};
pub use digest::Sha256Digest;
pub use id::{
    ChargeId, DecisionId, DeploymentSetId, DiskId, HostId, ImageId, InstanceId, InterfaceId,
    InvoiceId, PaymentId, PurchaseId, RuleId, SecurityGroupId, SettlementId, SubscriptionId,
    UsageId, VpcId, VswitchId,
};
pub use mac::MacAddress;
pub use money::{Currency, CurrencyMismatch, Money};
pub use policy::{Decided, FailureKind, ModuleDigest, PolicyFailure, PolicyIdentity, check_words};
pub use rust_decimal::Decimal;
pub use size::{ByteCount, SECTOR_SIZE};
pub use time::Timestamp;

/// A text that is not what it should be: what kind of value was read, the text itself and the form it must have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {kind}: expected {expected}")]
pub struct ParseError {
    kind: &'static str,
    expected: &'static str,
    text: String,
}

impl ParseError {
    /// An error about `text`; at most its first 64 characters are kept, as it may come from anyone.
    #[must_use]
    pub fn new(kind: &'static str, expected: &'static str, text: &str) -> Self {
        let mut kept: String = text.chars().take(64).flat_map(char::escape_debug).collect();
        if text.chars().nth(64).is_some() {
            kept.push('…');
        }
        Self {
            kind,
            expected,
            text: kept,
        }
    }

    /// What was being read, with its article: "an instance id".
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The form that would have been accepted.
    #[must_use]
    pub fn expected(&self) -> &'static str {
        self.expected
    }
}

/// Serialises a type as its `Display` text and reads it back with `FromStr`.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;
