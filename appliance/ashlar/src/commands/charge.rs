//! How instances are paid for: what `run` and `price` take, and what `show` says.

use api_types::{
    ChargeType, InstanceCharge, InstanceLock, LockReason, NewCharge, Period, SpotNotice, SpotReason,
};
use clap::Args;

use crate::period;

/// How to pay; by the second if nothing is said.
#[derive(Debug, Default, Args)]
pub struct Paying {
    /// Pay in advance, for 2-weeks, 1-month, 3-years (or 2w, 1m, 3y)
    #[arg(long, value_name = "PERIOD", value_parser = period::parse)]
    pub period: Option<Period>,
    /// Pay less, for instances that may be reclaimed at five minutes' notice
    #[arg(long, conflicts_with = "period")]
    preemptible: bool,
    /// The most each preemptible one pays per hour, such as 0.12 [default: whatever the market price is]
    #[arg(long, value_name = "PRICE", requires = "preemptible")]
    price_limit: Option<String>,
}

impl Paying {
    /// As it goes to the host; nothing where nothing was said.
    pub fn charge(self, auto_renew: Option<Period>) -> Option<NewCharge> {
        let kind = match (self.period, self.preemptible) {
            (Some(_), _) => ChargeType::Subscription,
            (None, true) => ChargeType::Preemptible,
            (None, false) => return None,
        };
        Some(NewCharge {
            kind,
            period: self.period,
            auto_renew,
            price_limit: self.price_limit,
        })
    }
}

/// How an instance is paid for, for people.
pub fn words(charge: &InstanceCharge) -> String {
    match charge {
        InstanceCharge::PayAsYouGo => "by the second".into(),
        InstanceCharge::Subscription { subscription_id } => {
            format!("subscription {subscription_id}")
        }
        InstanceCharge::Preemptible {
            price_limit,
            entry_price,
            currency,
            protected_until,
            notice,
        } => {
            let bid = match price_limit {
                Some(limit) => format!("at most {limit} {currency} per hour"),
                None => "at the market price".into(),
            };
            let mut lines = format!(
                "preemptible, {bid}\n{entry_price} {currency} per hour and protected until {protected_until}"
            );
            if let Some(notice) = notice {
                lines.push('\n');
                lines.push_str(&notice_words(notice, currency));
            }
            lines
        }
    }
}

fn notice_words(notice: &SpotNotice, currency: &str) -> String {
    let why = match (notice.reason, &notice.price) {
        (SpotReason::PriceAboveLimit, Some(price)) => {
            format!("the price of {price} {currency} per hour is above its limit")
        }
        (SpotReason::PriceAboveLimit, None) => "the price is above its limit".into(),
        (SpotReason::StockNeeded, _) => "others need its room".into(),
    };
    format!("reclaimed at {}: {why}", notice.reclaim_at)
}

/// Why an instance does not run before something is paid, for people.
pub fn lock_words(lock: InstanceLock) -> &'static str {
    match lock.reason {
        LockReason::Arrears => {
            "arrears: its account owes; see `ashlar account ls`, then `ashlar account pay`"
        }
        LockReason::Expired => "expired: its subscription is over; `ashlar subscription renew`",
    }
}
