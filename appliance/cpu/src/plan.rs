//! What a burstable instance may use, by its type.

use std::time::Duration;

/// One credit: one virtual CPU at 100 % for a minute.
pub const CREDIT: Duration = Duration::from_secs(60);

/// Credits that a new instance gets for each virtual CPU, once, where nothing else is said.
pub const LAUNCH_CREDITS: u32 = 30;

/// The stretch of time that a quota is for.
pub const PERIOD: Duration = Duration::from_millis(100);

/// Earned credits are kept for what so many hours earn.
const KEPT_HOURS: u64 = 24;
const CREDIT_US: u64 = 60_000_000;
const PERIOD_US: u64 = 100_000;

/// Virtual CPUs, and how much of each can be used for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    vcpus: u32,
    baseline_percent: u32,
    launch_credits: u32,
}

impl Plan {
    /// The plan of an instance with that many virtual CPUs (at least 1), which earns `baseline_percent` (1–100) of each.
    #[must_use]
    pub fn new(vcpus: u32, baseline_percent: u32) -> Self {
        Self {
            vcpus: vcpus.max(1),
            baseline_percent: baseline_percent.clamp(1, 100),
            launch_credits: LAUNCH_CREDITS,
        }
    }

    /// The same, where a new instance gets that many credits for each virtual CPU instead of [`LAUNCH_CREDITS`].
    #[must_use]
    pub fn with_launch_credits(self, credits: u32) -> Self {
        Self {
            launch_credits: credits,
            ..self
        }
    }

    /// How much of each virtual CPU can be used for ever, in percent.
    #[must_use]
    pub fn baseline_percent(self) -> u32 {
        self.baseline_percent
    }

    /// Hundredths of a credit that an hour earns: 2400 is 24 credits.
    #[must_use]
    pub fn centicredits_per_hour(self) -> u64 {
        u64::from(self.vcpus) * u64::from(self.baseline_percent) * 60
    }

    /// Microseconds of one virtual CPU that so many milliseconds earn. Exact: a millisecond earns whole microseconds.
    pub(crate) fn earned_us(self, elapsed_ms: u64) -> u64 {
        elapsed_ms.saturating_mul(self.us_per_ms())
    }

    /// Microseconds of one virtual CPU that a millisecond earns.
    pub(crate) fn us_per_ms(self) -> u64 {
        u64::from(self.vcpus) * u64::from(self.baseline_percent) * 10
    }

    /// Microseconds of one virtual CPU that a millisecond at full speed uses.
    pub(crate) fn full_us_per_ms(self) -> u64 {
        u64::from(self.vcpus) * 1000
    }

    /// The most earned credits there can be, in microseconds of one virtual CPU.
    pub(crate) fn max_us(self) -> u64 {
        self.earned_us(KEPT_HOURS * 3_600_000)
    }

    /// What a new instance gets, in microseconds of one virtual CPU.
    pub(crate) fn launch_us(self) -> u64 {
        u64::from(self.vcpus) * u64::from(self.launch_credits) * CREDIT_US
    }

    /// With so many microseconds an instance that had run out may go at full speed again: a tenth of a credit for each
    /// virtual CPU, so that it does not change to and fro.
    pub(crate) fn enough_us(self) -> u64 {
        u64::from(self.vcpus) * CREDIT_US / 10
    }

    /// The most earned credits there can be.
    #[must_use]
    pub fn max(self) -> Duration {
        Duration::from_micros(self.max_us())
    }

    /// CPU time per [`PERIOD`] at full speed: all of every virtual CPU.
    #[must_use]
    pub fn full(self) -> Duration {
        PERIOD * self.vcpus
    }

    /// CPU time per [`PERIOD`] at the baseline.
    #[must_use]
    pub fn baseline(self) -> Duration {
        Duration::from_micros(
            u64::from(self.vcpus) * u64::from(self.baseline_percent) * PERIOD_US / 100,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_come_to_the_figures_of_the_instance_types() {
        // vCPUs, baseline → credits an hour, most credits (the vendor's table of t6).
        for (vcpus, percent, per_hour, max) in [
            (2, 20, 24, 576),
            (2, 30, 36, 864),
            (4, 40, 96, 2304),
            (4, 20, 48, 1152),
        ] {
            let plan = Plan::new(vcpus, percent);
            assert_eq!(plan.centicredits_per_hour(), per_hour * 100);
            assert_eq!(plan.max(), CREDIT * max);
            assert_eq!(
                plan.earned_us(3_600_000),
                per_hour * CREDIT_US,
                "an hour earns what it says"
            );
        }
        let plan = Plan::new(2, 20);
        assert_eq!(plan.full(), Duration::from_millis(200));
        assert_eq!(plan.baseline(), Duration::from_millis(40));
        assert_eq!(plan.launch_us(), 60 * CREDIT_US);
    }
}
