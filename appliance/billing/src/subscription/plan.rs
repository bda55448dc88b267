//! What a subscription costs.

use super::SubscriptionError;
use crate::{PAYABLE_DECIMALS, Period};
use serde::{Deserialize, Serialize};
use types::{Currency, Decimal, Money};

/// The highest price of a plan per unit, in the currency's main unit.
pub(super) const MAX_PRICE: Decimal = Decimal::from_parts(1_000_000_000, 0, 0, false, 0);

/// Prices of a term, by the unit it is sold in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Plan {
    name: String,
    currency: Currency,
    week: Decimal,
    month: Decimal,
    year: Decimal,
}

#[derive(Deserialize)]
struct Unchecked {
    name: String,
    currency: Currency,
    week: Decimal,
    month: Decimal,
    year: Decimal,
}

impl Plan {
    /// Plan `name`, with the prices of a week, a month and a year in the currency's main unit.
    ///
    /// # Errors
    /// [`SubscriptionError::Price`] for one below 0 or above 10⁹.
    pub fn new(
        name: impl Into<String>,
        currency: Currency,
        [week, month, year]: [Decimal; 3],
    ) -> Result<Self, SubscriptionError> {
        let name = name.into();
        for price in [week, month, year] {
            let negative = price.is_sign_negative() && !price.is_zero();
            if negative || price > MAX_PRICE {
                return Err(SubscriptionError::Price { plan: name, price });
            }
        }
        Ok(Self {
            name,
            currency,
            week,
            month,
            year,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a term of `period` costs: rounded half to even to [`PAYABLE_DECIMALS`]. `None` out of range.
    #[must_use]
    pub fn price(&self, period: Period) -> Option<Money> {
        let (unit, count) = period.times(self.week, self.month, self.year);
        let price = unit.checked_mul(Decimal::from(count))?;
        Some(Money::new(price, self.currency).rounded(PAYABLE_DECIMALS))
    }

    /// Nothing, in its currency.
    pub(super) fn zero(&self) -> Money {
        Money::zero(self.currency).rounded(PAYABLE_DECIMALS)
    }
}

impl TryFrom<Unchecked> for Plan {
    type Error = SubscriptionError;

    fn try_from(plan: Unchecked) -> Result<Self, SubscriptionError> {
        Self::new(plan.name, plan.currency, [plan.week, plan.month, plan.year])
    }
}
