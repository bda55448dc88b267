//! A charge, and how far an interval has been charged.

use crate::UsageInterval;
use serde::{Deserialize, Serialize};
use types::{
    ChargeId, Decimal, InstanceId, ModuleDigest, Money, PolicyFailure, PolicyIdentity,
    Sha256Digest, Timestamp, UsageId,
};

/// Decimals a charge is rounded to: a millionth of the currency's main unit. What is to be paid is rounded once more, where
/// charges are settled.
pub const AMOUNT_DECIMALS: u32 = 6;

/// The price of some whole seconds of an interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// Its id, determined by the interval and the first second charged: the same seconds charged twice have the same id.
    pub id: ChargeId,
    /// The interval.
    pub interval: UsageId,
    /// Id of what was used: `i-…`, `d-…`, ….
    pub resource: String,
    /// Name of the meter: `instance-running`, `disk-allocated`, ….
    pub meter: String,
    /// First point in time charged.
    pub from: Timestamp,
    /// First point in time not charged any more; a whole number of seconds after `from`.
    pub to: Timestamp,
    /// How many seconds that is; at least 1.
    pub seconds: u64,
    /// How much, with [`AMOUNT_DECIMALS`] decimals.
    #[serde(flatten)]
    pub money: Money,
    /// Name of the policy that set the price.
    pub policy: String,
    /// Its code.
    pub module_sha256: ModuleDigest,
    /// Digest of its parameters.
    pub configuration_sha256: Sha256Digest,
    /// If the configured policy failed: how. The price is then the built-in policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<PolicyFailure>,
}

impl Charge {
    /// The instance it is for, if it is for one.
    #[must_use]
    pub fn instance(&self) -> Option<InstanceId> {
        self.resource.parse().ok()
    }

    /// Who set the price.
    #[must_use]
    pub fn identity(&self) -> PolicyIdentity {
        PolicyIdentity {
            name: self.policy.clone(),
            module_sha256: self.module_sha256,
            configuration_sha256: self.configuration_sha256,
        }
    }
}

/// How far an interval has been charged, and the segment its last charge belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Seconds since the opening that are charged.
    pub seconds: u64,
    /// Whose segment it is; `None` before the first charge.
    policy: Option<PolicyIdentity>,
    /// Seconds since the opening at which the segment began.
    segment_start: u64,
    /// What the segment has been charged so far.
    segment_amount: Decimal,
}

/// The part of an interval a policy is asked to price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Seconds since the interval's opening at which it begins.
    pub start: u64,
    /// What has been charged of it.
    pub charged: Decimal,
}

impl Progress {
    /// The segment that a charge by `policy` would belong to.
    pub(crate) fn segment(&self, policy: &PolicyIdentity) -> Segment {
        if self.policy.as_ref() == Some(policy) {
            Segment {
                start: self.segment_start,
                charged: self.segment_amount,
            }
        } else {
            Segment {
                start: self.seconds,
                charged: Decimal::ZERO,
            }
        }
    }

    /// The id of the next charge of `interval`.
    pub(crate) fn next_id(&self, interval: &UsageInterval) -> ChargeId {
        let unique = format!("charge {} {}", interval.id, self.seconds);
        ChargeId::generate(Sha256Digest::of(unique.as_bytes()).id_bits())
    }

    /// The charge up to `seconds` after the opening, of which `money` is the rounded price of the whole segment.
    /// `None` when that is less than what the segment has been charged.
    pub(crate) fn charge(
        &self,
        interval: &UsageInterval,
        seconds: u64,
        policy: &PolicyIdentity,
        money: Money,
        fallback: Option<PolicyFailure>,
    ) -> Option<Charge> {
        let amount = money
            .amount
            .checked_sub(self.segment(policy).charged)
            .filter(|amount| !amount.is_sign_negative() || amount.is_zero())?;
        let key = interval.usage.key();
        Some(Charge {
            id: self.next_id(interval),
            interval: interval.id,
            resource: key.resource,
            meter: key.meter,
            from: interval.point(self.seconds),
            to: interval.point(seconds),
            seconds: seconds - self.seconds,
            money: Money::new(amount, money.currency),
            policy: policy.name.clone(),
            module_sha256: policy.module_sha256,
            configuration_sha256: policy.configuration_sha256,
            fallback,
        })
    }

    /// Goes on after a `charge` that does not fit, if it reaches beyond what is charged; whether it does.
    pub(crate) fn resume_after(&mut self, interval: &UsageInterval, charge: &Charge) -> bool {
        let reached = charge.to.saturating_since(interval.from).as_secs();
        let further = reached > self.seconds;
        self.seconds = self.seconds.max(reached);
        further
    }

    /// Notes that `charge` was made.
    ///
    /// # Errors
    /// Says what does not fit: charged seconds must follow on each other without a gap and lie within the interval.
    pub(crate) fn record(
        &mut self,
        interval: &UsageInterval,
        charge: &Charge,
    ) -> Result<(), String> {
        let expected = interval.point(self.seconds);
        if charge.from != expected {
            return Err(format!(
                "it begins at {}, but the interval is charged up to {expected}",
                charge.from
            ));
        }
        let seconds = self.seconds.saturating_add(charge.seconds);
        if charge.seconds == 0 || interval.point(seconds) != charge.to {
            let length = charge.seconds;
            return Err(format!(
                "it does not end {length} s (at least 1) after it begins"
            ));
        }
        if interval.to.is_some_and(|end| charge.to > end) {
            return Err(format!("it ends at {}, after the interval", charge.to));
        }
        if charge.money.is_negative() {
            return Err(format!("its amount is negative: {}", charge.money));
        }
        let policy = charge.identity();
        let segment = self.segment(&policy);
        self.segment_amount = segment
            .charged
            .checked_add(charge.money.amount)
            .ok_or("the sum of its segment is out of range")?;
        self.segment_start = segment.start;
        self.policy = Some(policy);
        self.seconds = seconds;
        Ok(())
    }
}
