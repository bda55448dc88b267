//! What a purchase would cost.

use super::check_price;
use crate::{PAYABLE_DECIMALS, Period};
use ledger::AMOUNT_DECIMALS;
use serde::{Deserialize, Serialize};
use types::{
    AccountId, ByteCount, Currency, CurrencyMismatch, Decimal, Money, Timestamp, check_words,
};

/// The most lines of a quote.
pub const MAX_LINES: usize = 64;
/// The most characters of what a line is for, and of why it is cheaper.
pub const MAX_WORDS: usize = 128;

/// How something is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "charge", rename_all = "kebab-case")]
pub enum ChargeType {
    /// By the second, afterwards.
    PayAsYouGo,
    /// In advance, for a term.
    Subscription {
        /// How long.
        period: Period,
    },
    /// By the second, afterwards, and it may be reclaimed.
    Preemptible {
        /// The most an instance pays per hour; `None` if it pays whatever the market price is.
        limit: Option<Decimal>,
        /// The market price of one instance per hour; `None` if there is no market.
        market: Option<Decimal>,
    },
}

impl ChargeType {
    /// What a price is for.
    #[must_use]
    pub const fn per(&self) -> PriceUnit {
        match self {
            Self::Subscription { .. } => PriceUnit::Term,
            Self::PayAsYouGo | Self::Preemptible { .. } => PriceUnit::Hour,
        }
    }
}

/// What a price is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PriceUnit {
    /// Each hour.
    Hour,
    /// The whole term.
    Term,
}

/// A disk of each instance that would be bought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotedDisk {
    /// Its category, such as `cloud_essd`.
    pub category: String,
    /// Its size.
    pub size: ByteCount,
}

/// What somebody thinks of buying.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteRequest {
    /// Who would pay.
    pub account: AccountId,
    /// Name of the instance type, such as `ecs.g6.large`.
    pub instance_type: String,
    /// Virtual CPUs of each instance.
    pub vcpus: u32,
    /// Memory of each instance.
    pub memory: ByteCount,
    /// The disks of each instance.
    pub disks: Vec<QuotedDisk>,
    /// How it would be paid for.
    #[serde(flatten)]
    pub charge: ChargeType,
    /// How many such instances; at least 1.
    pub count: u32,
    /// When it is asked.
    pub now: Timestamp,
}

/// What it would cost, line by line; all lines in one currency and for the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// At least 1, at most [`MAX_LINES`].
    pub lines: Vec<QuoteLine>,
}

/// One line of a quote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteLine {
    /// What it is for, in words; at most [`MAX_WORDS`] characters.
    pub item: String,
    /// Its price for all instances asked about, after the discount.
    #[serde(flatten)]
    pub price: Money,
    /// What that price is for.
    pub per: PriceUnit,
    /// Why it is less than the list price, in words; at most [`MAX_WORDS`] characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discount: Option<String>,
}

impl Quote {
    /// All lines together.
    ///
    /// # Errors
    /// [`CurrencyMismatch`] of a quote that does not pass [`check_quote`].
    pub fn total(&self) -> Result<Money, CurrencyMismatch> {
        let mut prices = self.lines.iter().map(|line| line.price);
        let first = prices.next().unwrap_or(Money::zero(Currency::CNY));
        prices.try_fold(first, Money::checked_add)
    }

    /// Rounds as it would be charged by the hour, or paid for a term.
    pub(super) fn round(&mut self) {
        for line in &mut self.lines {
            line.price = line.price.rounded(match line.per {
                PriceUnit::Hour => AMOUNT_DECIMALS,
                PriceUnit::Term => PAYABLE_DECIMALS,
            });
        }
    }
}

/// Whether `quote` can be an answer to `request`: 1 to [`MAX_LINES`] lines, each with a price in `currency` from 0 to
/// [`ledger::MAX_AMOUNT`] for the right time, and with words that can be shown.
///
/// # Errors
/// What is wrong with the first line that is.
pub fn check_quote(
    currency: Currency,
    request: &QuoteRequest,
    quote: &Quote,
) -> Result<(), String> {
    let lines = quote.lines.len();
    if lines == 0 || lines > MAX_LINES {
        return Err(format!(
            "a quote of {lines} lines; it must have 1 to {MAX_LINES}"
        ));
    }
    for (line, number) in quote.lines.iter().zip(1..) {
        let what = format!("line {number}");
        check_words(&format!("the item of {what}"), &line.item, MAX_WORDS)?;
        if let Some(discount) = &line.discount {
            check_words(&format!("the discount of {what}"), discount, MAX_WORDS)?;
        }
        check_price(&what, currency, &line.price)?;
        if line.per != request.charge.per() {
            return Err(format!(
                "the price of {what} is for the wrong time: a subscription is quoted by the term, anything else by the hour"
            ));
        }
    }
    Ok(())
}
