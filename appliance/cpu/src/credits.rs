//! The account of a burstable instance.
//!
//! ```text
//!            used up ────────────► baseline
//!  full speed                         │  earns more than it uses, nothing owed
//!      ▲────── enough again ──────────┘
//! ```
//!
//! Launch credits are spent first and do not count towards the most there can be. What was used before anybody noticed that
//! nothing was left is owed, and what is earned next goes there: over a long time an instance never has more than its
//! baseline and what it was given at first. What is owed is at most what 24 hours earn.

use crate::Plan;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Credits of an instance, in microseconds of one virtual CPU, as of when they were last settled.
///
/// Two clocks come in from outside, and neither is believed more than it must be: milliseconds of a clock that does not go
/// back while the machine runs, and the CPU time that the machine has used since it was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credits {
    launch_us: u64,
    earned_us: u64,
    owed_us: u64,
    settled_ms: u64,
    seen_us: u64,
    throttled: bool,
}

impl Credits {
    /// The account of a new instance: launch credits and nothing earned. Without launch credits it begins at its baseline.
    #[must_use]
    pub fn new(plan: Plan, now_ms: u64) -> Self {
        Self {
            launch_us: plan.launch_us(),
            earned_us: 0,
            owed_us: 0,
            settled_ms: now_ms,
            seen_us: 0,
            throttled: plan.launch_us() == 0,
        }
    }

    /// A machine was started: the time until now earns nothing, and its CPU time is counted from 0. The balance is kept.
    pub fn resume(&mut self, now_ms: u64) {
        self.settled_ms = now_ms;
        self.seen_us = 0;
    }

    /// Earns for the time that passed and spends what was used: the machine has used `used` since it was started. A clock
    /// that went back earns nothing until it is where it was; a count that went back is one that began anew.
    pub fn settle(&mut self, plan: Plan, used: Duration, now_ms: u64) {
        let earned = plan.earned_us(now_ms.saturating_sub(self.settled_ms));
        self.settled_ms = self.settled_ms.max(now_ms);
        let reading = u64::try_from(used.as_micros()).unwrap_or(u64::MAX);
        let spent = match reading.checked_sub(self.seen_us) {
            Some(more) => more,
            None => reading,
        };
        self.seen_us = reading;
        self.book(plan, earned, spent);
        let left = self.launch_us.saturating_add(self.earned_us);
        if left == 0 {
            self.throttled = true;
        } else if left >= plan.enough_us() {
            self.throttled = false;
        }
    }

    fn book(&mut self, plan: Plan, earned: u64, spent: u64) {
        // What is used is paid with launch credits, then with what this very time earned, then with what was kept: so no
        // time above the most there can be is lost to an instance that uses it.
        let from_launch = spent.min(self.launch_us);
        self.launch_us -= from_launch;
        let due = (spent - from_launch).saturating_add(self.owed_us);
        let have = self.earned_us.saturating_add(earned);
        self.earned_us = have.saturating_sub(due).min(plan.max_us());
        self.owed_us = due.saturating_sub(have).min(plan.max_us());
    }

    /// What there is to spend; never more than [`Plan::max`] and the launch credits.
    #[must_use]
    pub fn balance(&self) -> Duration {
        Duration::from_micros(self.launch_us.saturating_add(self.earned_us))
    }

    /// Of the balance, what the instance was given at first.
    #[must_use]
    pub fn launch(&self) -> Duration {
        Duration::from_micros(self.launch_us)
    }

    /// Whether nothing is left: it runs at its baseline until enough was earned.
    #[must_use]
    pub fn throttled(&self) -> bool {
        self.throttled
    }

    /// The CPU time it may use now in each [`crate::PERIOD`].
    #[must_use]
    pub fn quota(&self, plan: Plan) -> Duration {
        if self.throttled {
            plan.baseline()
        } else {
            plan.full()
        }
    }

    /// After what time the quota may have to change at the earliest, whatever the instance does; `None`: it cannot.
    /// At least a millisecond.
    #[must_use]
    pub fn look_again_in(&self, plan: Plan) -> Option<Duration> {
        let (missing, rate) = if self.throttled {
            let left = self.launch_us.saturating_add(self.earned_us);
            let missing =
                plan.enough_us().saturating_add(self.owed_us) - left.min(plan.enough_us());
            (missing, plan.us_per_ms())
        } else {
            let rate = plan.full_us_per_ms().checked_sub(plan.us_per_ms())?;
            (self.launch_us.saturating_add(self.earned_us), rate)
        };
        if rate == 0 {
            return None;
        }
        Some(Duration::from_millis(missing.div_ceil(rate).max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CREDIT;
    use proptest::prelude::*;

    const MINUTE_MS: u64 = 60_000;

    fn large() -> (Plan, Credits) {
        let plan = Plan::new(2, 20);
        (plan, Credits::new(plan, 0))
    }

    #[test]
    fn without_launch_credits_an_instance_begins_at_its_baseline_and_saves_for_more() {
        let plan = Plan::new(2, 20).with_launch_credits(0);
        let mut credits = Credits::new(plan, 0);
        assert!(credits.throttled());
        assert_eq!(credits.quota(plan), plan.baseline());
        // 2 × 20 % earn the tenth of a credit per virtual CPU that it takes in 30 s.
        credits.settle(plan, Duration::ZERO, 29_999);
        assert!(credits.throttled());
        credits.settle(plan, Duration::ZERO, 30_000);
        assert_eq!(credits.quota(plan), plan.full());
    }

    #[test]
    fn launch_credits_go_first_and_do_not_count_towards_the_most() {
        let (plan, mut credits) = large();
        // A day idle: everything that can be earned, on top of what it was given.
        credits.settle(plan, Duration::ZERO, 48 * 60 * MINUTE_MS);
        assert_eq!(credits.balance(), CREDIT * (60 + 576));
        credits.settle(plan, CREDIT * 10, 48 * 60 * MINUTE_MS);
        assert_eq!(credits.launch(), CREDIT * 50);
        assert_eq!(credits.balance(), CREDIT * (50 + 576));
    }

    #[test]
    fn a_full_burst_ends_at_the_baseline_and_begins_again_after_a_rest() {
        let (plan, mut credits) = large();
        assert_eq!(credits.quota(plan), plan.full());
        // 60 launch credits at 2 vCPUs; what is earned meanwhile is spent too.
        let until = credits.look_again_in(plan).unwrap();
        assert_eq!(until, Duration::from_millis(2_250_000));
        credits.settle(plan, until * 2, 2_250_000);
        assert!(credits.throttled());
        assert_eq!(credits.balance(), Duration::ZERO);
        assert_eq!(credits.quota(plan), plan.baseline());
        // At the baseline it stays there.
        let used = until * 2 + Duration::from_secs(24);
        credits.settle(plan, used, 2_250_000 + MINUTE_MS);
        assert!(credits.throttled());
        assert_eq!(credits.balance(), Duration::ZERO);
        // At rest it has enough when it said it would.
        let rest = credits.look_again_in(plan).unwrap();
        assert_eq!(rest, Duration::from_secs(30));
        credits.settle(plan, used, 2_250_000 + MINUTE_MS + 29_999);
        assert!(credits.throttled());
        credits.settle(plan, used, 2_250_000 + MINUTE_MS + 30_000);
        assert!(!credits.throttled());
    }

    #[test]
    fn what_was_used_unnoticed_is_owed() {
        let (plan, mut credits) = large();
        // An hour of full speed that nobody looked at: 120 credits used, 60 + 24 there.
        credits.settle(plan, CREDIT * 120, 60 * MINUTE_MS);
        assert_eq!(credits.balance(), Duration::ZERO);
        // 36 owed, 24 earned.
        credits.settle(plan, CREDIT * 120, 120 * MINUTE_MS);
        assert_eq!(credits.balance(), Duration::ZERO);
        assert!(credits.throttled());
        credits.settle(plan, CREDIT * 120, 180 * MINUTE_MS);
        assert_eq!(credits.balance(), CREDIT * 12);
        assert!(!credits.throttled());
    }

    #[test]
    fn a_stop_earns_nothing_and_takes_nothing() {
        let (plan, mut credits) = large();
        credits.settle(plan, CREDIT, 10 * MINUTE_MS);
        let balance = credits.balance();
        // Stopped for a day; the next machine counts its CPU time from 0, and its host was booted meanwhile.
        credits.resume(5);
        assert_eq!(credits.balance(), balance);
        credits.settle(plan, CREDIT, 5);
        assert_eq!(credits.balance(), balance - CREDIT);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let (plan, mut credits) = large();
        credits.settle(plan, Duration::ZERO, 10 * MINUTE_MS);
        let balance = credits.balance();
        for now in [5, 0, 7, 10] {
            credits.settle(plan, Duration::ZERO, now * MINUTE_MS);
            assert_eq!(credits.balance(), balance);
        }
        credits.settle(plan, Duration::ZERO, 11 * MINUTE_MS);
        assert!(credits.balance() > balance);
    }

    #[test]
    fn an_account_survives_being_written_down() {
        let (plan, mut credits) = large();
        credits.settle(plan, CREDIT, MINUTE_MS);
        let text = serde_json::to_string(&credits).unwrap();
        assert_eq!(serde_json::from_str::<Credits>(&text).unwrap(), credits);
    }

    /// Stretches of time in milliseconds, each with how busy it was, in per mille of full speed.
    fn life() -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec((0_u64..600_000, 0_u64..=1000), 1..60)
    }

    fn plans() -> impl Strategy<Value = Plan> {
        (1_u32..8, 1_u32..=100).prop_map(|(vcpus, percent)| Plan::new(vcpus, percent))
    }

    fn micros(duration: Duration) -> u64 {
        u64::try_from(duration.as_micros()).unwrap()
    }

    proptest! {
        #[test]
        fn a_balance_stays_within_its_bounds(plan in plans(), life in life()) {
            let mut credits = Credits::new(plan, 0);
            let (mut now, mut used) = (0, 0);
            for (ms, busy) in life {
                now += ms;
                used += ms * plan.full_us_per_ms() / 1000 * busy;
                let launch = credits.launch();
                credits.settle(plan, Duration::from_micros(used), now);
                prop_assert!(credits.balance() - credits.launch() <= plan.max());
                prop_assert!(credits.launch() <= launch, "launch credits are given once");
                let quota = credits.quota(plan);
                prop_assert!(quota == plan.full() || quota == plan.baseline());
            }
        }

        /// An instance that always takes what its quota lets it have, looked at when the account asks for it.
        #[test]
        fn over_a_long_time_nobody_has_more_than_the_baseline_and_what_was_given(
            plan in plans(),
            looks in prop::collection::vec(1_u64..100_000, 1..200),
        ) {
            let mut credits = Credits::new(plan, 0);
            let (mut now, mut used) = (0, 0);
            for ms in looks {
                let ms = match credits.look_again_in(plan) {
                    Some(soonest) => ms.min(u64::try_from(soonest.as_millis()).unwrap()),
                    None => ms,
                };
                now += ms;
                used += ms * micros(credits.quota(plan)) / 100;
                credits.settle(plan, Duration::from_micros(used), now);
                // A millisecond of full speed is what a look in time may be late by.
                let most = plan.launch_us() + plan.earned_us(now) + plan.full_us_per_ms();
                prop_assert!(used <= most, "{used} used, {most} to be had");
            }
        }

        /// Looks that come late lend, and what was lent is paid back.
        #[test]
        fn however_late_the_looks_are_nothing_is_given(plan in plans(), life in life()) {
            let mut credits = Credits::new(plan, 0);
            let (mut now, mut used) = (0, 0);
            for (ms, busy) in life {
                now += ms;
                used += ms * plan.full_us_per_ms() / 1000 * busy;
                credits.settle(plan, Duration::from_micros(used), now);
                if credits.owed_us == plan.max_us() {
                    // More is not kept in mind.
                    break;
                }
                let given = plan.launch_us() + plan.earned_us(now);
                prop_assert!(micros(credits.balance()) + used <= given + credits.owed_us);
            }
        }

        #[test]
        fn it_does_not_matter_how_often_it_is_looked_at(
            plan in plans(), ms in 1_u64..1_000_000, busy in 0_u64..=1000, parts in 1_u64..50,
        ) {
            // Steady use: only the rounding of time to milliseconds and the change of the quota could tell.
            let step = (ms / parts).max(1);
            let per_step = step * plan.full_us_per_ms() / 1000 * busy;
            let (mut once, mut often) = (Credits::new(plan, 0), Credits::new(plan, 0));
            for part in 1..=parts {
                often.settle(plan, Duration::from_micros(per_step * part), step * part);
            }
            once.settle(plan, Duration::from_micros(per_step * parts), step * parts);
            prop_assert_eq!(once.balance() + owed(&often), often.balance() + owed(&once));
            prop_assert_eq!(once.launch(), often.launch());
        }
    }

    fn owed(credits: &Credits) -> Duration {
        Duration::from_micros(credits.owed_us)
    }
}
