//! Whether a term is renewed, and for how much.

use super::{MAX_WORDS, check_price};
use crate::{PAYABLE_DECIMALS, Period};
use serde::{Deserialize, Serialize};
use types::{AccountId, Money, SubscriptionId, Timestamp, check_words};

/// The longest sentence of a refusal, in characters.
pub const MAX_REFUSAL: usize = 256;

/// A term that is about to be renewed. [`Subscription::renewal`](crate::Subscription::renewal) makes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalRequest {
    /// Who pays.
    pub account: AccountId,
    /// Which subscription.
    pub subscription: SubscriptionId,
    /// What for: `i-…`, `d-…`, ….
    pub resource: String,
    /// Name of its plan.
    pub plan: String,
    /// The term to be bought.
    pub period: Period,
    /// What the plan says that term costs.
    pub price: Money,
    /// Terms bought so far.
    pub terms: u32,
    /// Which try of the automatic renewal it is, from 1 to 9; `None` if somebody asked for it.
    pub attempt: Option<u8>,
    /// When the current term ends.
    pub expires: Timestamp,
    /// When it is asked.
    pub now: Timestamp,
}

/// Whether a term is renewed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "renewal", rename_all = "kebab-case")]
pub enum Renewal {
    /// It is.
    Renew {
        /// For how much.
        price: Money,
        /// Why that differs from the plan's price, in words; at most [`MAX_WORDS`] characters.
        discount: Option<String>,
    },
    /// It is not, and ends as if it had not been paid.
    Refuse {
        /// Why, for the customer: a sentence of at most [`MAX_REFUSAL`] characters.
        message: String,
    },
}

impl Renewal {
    /// Rounds as it would be paid.
    pub(super) fn round(&mut self) {
        if let Self::Renew { price, .. } = self {
            *price = price.rounded(PAYABLE_DECIMALS);
        }
    }
}

/// Whether `renewal` can be an answer to `request`: a price in the plan's currency from 0 to [`ledger::MAX_AMOUNT`], and words that
/// can be shown.
///
/// # Errors
/// What is wrong with it first.
pub fn check_renewal(request: &RenewalRequest, renewal: &Renewal) -> Result<(), String> {
    match renewal {
        Renewal::Renew { price, discount } => {
            if let Some(discount) = discount {
                check_words("the discount of the renewal", discount, MAX_WORDS)?;
            }
            check_price("the renewal", request.price.currency, price)
        }
        Renewal::Refuse { message } => {
            check_words("the sentence of the refusal", message, MAX_REFUSAL)
        }
    }
}
