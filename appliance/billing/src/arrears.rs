//! An account that did not pay. ECS contract: Money (arrears).
//!
//! ```text
//!              T   T+7 d  T+14 d     T+15 d           T+30 d
//! unpaid ──► retry, retry, retry ──► stop ──(15 d)──► release
//!    ▲         │                      │                  │
//!    │ more is │ paid in full         │ paid in full     │ paid in full
//!    └─owed────┴─► cleared            └─► cleared,       └─► cleared, nothing to start
//!                                         start again
//! ```

use crate::{
    Debt, KEPT_DAYS, OutOfOrder, days,
    due::{self, Due},
};
use serde::{Deserialize, Serialize};
use types::{AccountId, CurrencyMismatch, Money, Timestamp};

/// When payment is tried again, in days after it first failed.
pub const RETRY_DAYS: [u32; 3] = [0, 7, 14];

/// When the account's resources are stopped, in days after payment first failed. They are released [`KEPT_DAYS`] later.
pub const STOP_DAYS: u32 = 15;

/// What is to be done about an account in arrears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum ArrearsAction {
    /// Try to collect what is owed. [`Arrears::pay`] if that works, [`Arrears::done`] if it does not.
    Retry {
        /// Which try, from 1 to 3.
        attempt: u8,
    },
    /// Stop what the account has (event `AccountUnbalanced.Stop`).
    Stop,
    /// Release what the account has (event `AccountUnbalanced.Delete`).
    Release,
}

/// The arrears of one account in one currency, from the first payment that failed. Gone once all is paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrears {
    account: AccountId,
    owed: Money,
    since: Timestamp,
    /// When the last action that was done should have been done.
    done: Option<(Timestamp, ArrearsAction)>,
}

/// What a payment did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cleared {
    /// Some is still owed.
    Partly(Arrears),
    /// Nothing is owed any more.
    Wholly {
        /// What was paid beyond it.
        credit: Money,
        /// Whether what the account has was stopped for it, and can be started again.
        start_again: bool,
    },
}

impl Arrears {
    /// `account` owes `owed` since a payment failed at `since`.
    #[must_use]
    pub const fn new(account: AccountId, owed: Money, since: Timestamp) -> Self {
        Self {
            account,
            owed,
            since,
            done: None,
        }
    }

    /// Who owes.
    #[must_use]
    pub const fn account(&self) -> &AccountId {
        &self.account
    }

    /// How much.
    #[must_use]
    pub const fn owed(&self) -> Money {
        self.owed
    }

    /// T: when payment first failed.
    #[must_use]
    pub const fn since(&self) -> Timestamp {
        self.since
    }

    /// What was last done about it.
    #[must_use]
    pub fn last_done(&self) -> Option<ArrearsAction> {
        self.done.map(|(_, action)| action)
    }

    /// What is due at `now` and not done yet, in the order to do it. After each, report it, and ask again: a payment ends it.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> Vec<Due<ArrearsAction>> {
        due::until(self.upcoming(), now)
    }

    /// The debt as a commercial policy is asked about it at `now`. `stopped` is when what the account has was really stopped, which is
    /// later than due if the policy had it so.
    #[must_use]
    pub fn debt(&self, stopped: Option<Timestamp>, now: Timestamp) -> Debt {
        let failed_payments = match self.last_done() {
            None => 0,
            Some(ArrearsAction::Retry { attempt }) => u32::from(attempt),
            // The retries are before the stop.
            Some(ArrearsAction::Stop | ArrearsAction::Release) => {
                u32::try_from(RETRY_DAYS.len()).unwrap_or(u32::MAX)
            }
        };
        Debt {
            account: self.account.clone(),
            owed: self.owed,
            since: self.since,
            failed_payments,
            stopped,
            now,
        }
    }

    /// What is due next, whenever that is; `None` once everything is done.
    #[must_use]
    pub fn next(&self) -> Option<Due<ArrearsAction>> {
        self.upcoming().into_iter().next()
    }

    /// When something is due next; `None` once everything is done.
    #[must_use]
    pub fn wake(&self) -> Option<Timestamp> {
        self.upcoming().first().map(|due| due.at)
    }

    /// Notes that `due` was done (of a [`ArrearsAction::Retry`]: in vain). Again changes nothing.
    ///
    /// # Errors
    /// [`OutOfOrder`] if something else is due before it.
    pub fn done(&mut self, due: &Due<ArrearsAction>) -> Result<(), OutOfOrder> {
        let through = self.done.map(|(at, _)| at);
        if due::advances(&self.upcoming(), through, due)? {
            self.done = Some((due.at, due.action));
        }
        Ok(())
    }

    /// Another settlement or purchase was not paid. The schedule stays: it runs from the first.
    ///
    /// # Errors
    /// [`CurrencyMismatch`] when the amounts cannot be added.
    pub fn add(&mut self, money: Money) -> Result<(), CurrencyMismatch> {
        self.owed = self.owed.checked_add(money)?;
        Ok(())
    }

    /// `money` was paid.
    ///
    /// # Errors
    /// [`CurrencyMismatch`] when it cannot be subtracted from what is owed.
    pub fn pay(mut self, money: Money) -> Result<Cleared, CurrencyMismatch> {
        let credit = money.checked_sub(self.owed)?;
        if credit.is_negative() {
            self.owed = self.owed.checked_sub(money)?;
            return Ok(Cleared::Partly(self));
        }
        Ok(Cleared::Wholly {
            credit,
            start_again: self.last_done() == Some(ArrearsAction::Stop),
        })
    }

    /// What is not done yet, in order of time. What would be past the year 9999 never comes.
    fn upcoming(&self) -> Vec<Due<ArrearsAction>> {
        let retries = (1..).zip(RETRY_DAYS);
        let retries = retries.map(|(attempt, day)| (day, ArrearsAction::Retry { attempt }));
        let rest = [
            (STOP_DAYS, ArrearsAction::Stop),
            (STOP_DAYS + KEPT_DAYS, ArrearsAction::Release),
        ];
        let done = self.done.map(|(at, _)| at);
        retries
            .chain(rest)
            .filter_map(|(day, action)| {
                let at = self.since.checked_add(days(day))?;
                Some(Due { at, action })
            })
            .filter(|due| done.is_none_or(|done| due.at > done))
            .collect()
    }
}
