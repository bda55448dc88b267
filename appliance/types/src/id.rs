//! Ids: a prefix that tells the kind and 17 characters of `[0-9a-z]`, as ECS writes them.

use crate::{ParseError, serde_as_text};
use std::{fmt, str::FromStr};

/// Characters behind the prefix.
const BODY: usize = 17;
const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

fn body_from_random(random: u128) -> [u8; BODY] {
    let mut rest = random;
    let mut body = [0_u8; BODY];
    for slot in body.iter_mut().rev() {
        let digit = usize::try_from(rest % 36).unwrap_or_default();
        *slot = ALPHABET[digit];
        rest /= 36;
    }
    body
}

fn body_from_text(text: &str) -> Option<[u8; BODY]> {
    let body: [u8; BODY] = text.as_bytes().try_into().ok()?;
    body.iter()
        .all(|byte| ALPHABET.contains(byte))
        .then_some(body)
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal, $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; BODY]);

        impl $name {
            /// What every id of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// An id from random bits (the lowest 87 or so count); the caller brings the randomness.
            #[must_use]
            pub fn generate(random: u128) -> Self {
                Self(body_from_random(random))
            }

            /// The 17 characters behind the prefix.
            #[must_use]
            pub fn body(&self) -> &str {
                // Only ASCII ever gets in, by `generate` or by `from_str`.
                std::str::from_utf8(&self.0).unwrap_or_default()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if f.width().is_none() && f.precision().is_none() {
                    f.write_str($prefix)?;
                    return f.write_str(self.body());
                }
                // So that widths work in tables.
                f.pad(&[$prefix, self.body()].concat())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                f.write_str(self.body())
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                text.strip_prefix($prefix).and_then(body_from_text).map(Self).ok_or_else(|| {
                    ParseError::new(
                        $kind,
                        concat!("`", $prefix, "` followed by 17 characters of 0-9 and a-z"),
                        text,
                    )
                })
            }
        }

        serde_as_text!($name);
    )*};
}

ids! {
    /// An instance.
    InstanceId = "i-", "an instance id";
    /// A disk.
    DiskId = "d-", "a disk id";
    /// An image.
    ImageId = "m-", "an image id";
    /// A security group.
    SecurityGroupId = "sg-", "a security group id";
    /// A rule of a security group.
    RuleId = "sgr-", "a security group rule id";
    /// A virtual private cloud.
    VpcId = "vpc-", "a VPC id";
    /// A virtual switch: a part of a VPC's address range.
    VswitchId = "vsw-", "a vswitch id";
    /// A network interface.
    InterfaceId = "eni-", "a network interface id";
    /// A deployment set: instances that are kept on different hosts, or together.
    DeploymentSetId = "ds-", "a deployment set id";
    /// A host.
    HostId = "h-", "a host id";
    /// A placement decision.
    DecisionId = "dec-", "a decision id";
    /// An entry of the usage ledger.
    UsageId = "u-", "a usage id";
    /// A charge: a rated entry of the usage ledger.
    ChargeId = "chg-", "a charge id";
    /// A settlement: an account's charges of an hour, summed up.
    SettlementId = "stl-", "a settlement id";
    /// A subscription: a resource paid for in advance.
    SubscriptionId = "sub-", "a subscription id";
    /// A purchase: of a term of a subscription, or of a change to it.
    PurchaseId = "pur-", "a purchase id";
    /// A payment: what an account paid in.
    PaymentId = "pay-", "a payment id";
    /// An invoice.
    InvoiceId = "inv-", "an invoice id";
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_is_not_exactly_an_id() {
        let good = "i-0123456789abcdefg";
        assert_eq!(good.parse::<InstanceId>().unwrap().to_string(), good);
        for bad in [
            "",
            "i-",
            "i-0123456789abcdef",
            "i-0123456789abcdefgh",
            "i-0123456789ABCDEFG",
            "i-0123456789abcde.g",
            "d-0123456789abcdefg",
            "I-0123456789abcdefg",
            " i-0123456789abcdefg",
            "i-0123456789abcdefg\n",
            "i-0123456789abcdeé",
        ] {
            let error = bad.parse::<InstanceId>().unwrap_err().to_string();
            assert!(
                error.contains("an instance id") && error.contains("`i-` followed by 17"),
                "{bad:?}: {error}"
            );
        }
    }

    #[test]
    fn a_long_text_is_cut_in_the_error() {
        let error = "x"
            .repeat(100_000)
            .parse::<DiskId>()
            .unwrap_err()
            .to_string();
        assert!(error.len() < 300, "{}", error.len());
    }

    proptest! {
        #[test]
        fn text_and_json_come_back(random: u128) {
            let id = InterfaceId::generate(random);
            prop_assert_eq!(id.to_string().parse::<InterfaceId>().unwrap(), id);
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<InterfaceId>(&json).unwrap(), id);
        }
    }
}
