//! What is done about a debt, and how harsh a policy may be. ECS contract: Money (arrears).

use crate::{KEPT_DAYS, RETRY_DAYS, STOP_DAYS, days};
use serde::{Deserialize, Serialize};
use std::fmt;
use types::{AccountId, Money, Timestamp};

/// What is done about a debt, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArrearsStep {
    /// Nothing now; it is asked again the next day at the latest.
    Wait,
    /// Try to collect what is owed.
    Retry,
    /// Stop what the account has.
    Stop,
    /// Release what the account has.
    Release,
}

impl fmt::Display for ArrearsStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Wait => "wait",
            Self::Retry => "retry",
            Self::Stop => "stop",
            Self::Release => "release",
        })
    }
}

/// What an account owes in one currency. [`Arrears::debt`](crate::Arrears::debt) makes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Debt {
    /// Who owes.
    pub account: AccountId,
    /// How much.
    pub owed: Money,
    /// T: when payment first failed.
    pub since: Timestamp,
    /// How often payment was tried again in vain.
    pub failed_payments: u32,
    /// When what the account has was really stopped for it; `None` if it is not.
    pub stopped: Option<Timestamp>,
    /// When it is asked.
    pub now: Timestamp,
}

impl Debt {
    /// Whole days of 24 hours since payment first failed.
    #[must_use]
    pub fn days(&self) -> u32 {
        let days = self.now.saturating_since(self.since).as_secs() / (24 * 3600);
        u32::try_from(days).unwrap_or(u32::MAX)
    }

    /// What the rules have done now: a policy may answer something milder, never something harsher. The retries come before the
    /// stop, however late it is, and the release at least [`KEPT_DAYS`] after the stop, however late that was.
    #[must_use]
    pub fn due(&self) -> ArrearsStep {
        let reached = |from: Timestamp, day: u32| {
            from.checked_add(days(day)).is_some_and(|at| self.now >= at)
        };
        if self.owed.is_negative() || self.owed.amount.is_zero() {
            return ArrearsStep::Wait;
        }
        if let Some(stopped) = self.stopped {
            let over = reached(stopped, KEPT_DAYS) && reached(self.since, STOP_DAYS + KEPT_DAYS);
            return if over {
                ArrearsStep::Release
            } else {
                ArrearsStep::Wait
            };
        }
        let failed = usize::try_from(self.failed_payments).unwrap_or(usize::MAX);
        match RETRY_DAYS.get(failed) {
            Some(day) if reached(self.since, *day) => ArrearsStep::Retry,
            None if reached(self.since, STOP_DAYS) => ArrearsStep::Stop,
            _ => ArrearsStep::Wait,
        }
    }

    /// Whether `step` may be done now.
    ///
    /// # Errors
    /// When it is harsher than what is due.
    pub fn check(&self, step: ArrearsStep) -> Result<(), String> {
        let due = self.due();
        if step <= due {
            return Ok(());
        }
        Err(format!(
            "`{step}` is harsher than what is due after {} days and {} failed payments: `{due}`",
            self.days(),
            self.failed_payments
        ))
    }
}
