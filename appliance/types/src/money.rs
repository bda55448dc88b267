//! Money: an exact decimal amount of one currency. Never a float.

use crate::{ParseError, serde_as_text};
use rust_decimal::Decimal;
use std::{fmt, str::FromStr};

/// A currency by its ISO 4217 code: three capital letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Chinese yuan.
    pub const CNY: Self = Self(*b"CNY");
    /// United States dollar.
    pub const USD: Self = Self(*b"USD");
    /// Euro.
    pub const EUR: Self = Self(*b"EUR");

    /// The three letters.
    #[must_use]
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Currency {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match <[u8; 3]>::try_from(text.as_bytes()) {
            Ok(code) if code.iter().all(u8::is_ascii_uppercase) => Ok(Self(code)),
            _ => Err(ParseError::new(
                "a currency",
                "three capital letters (ISO 4217) such as CNY",
                text,
            )),
        }
    }
}

serde_as_text!(Currency);

/// An exact amount of one currency. The amount is serialised as text, so that no reader rounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Money {
    /// How much, in the currency's main unit.
    pub amount: Decimal,
    /// Of what.
    pub currency: Currency,
}

/// Two amounts in different currencies were to be added or subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot reckon an amount in {right} with one in {left}, or the result is out of range")]
pub struct CurrencyMismatch {
    left: Currency,
    right: Currency,
}

impl Money {
    /// That amount of that currency.
    #[must_use]
    pub const fn new(amount: Decimal, currency: Currency) -> Self {
        Self { amount, currency }
    }

    /// Nothing, in that currency.
    #[must_use]
    pub const fn zero(currency: Currency) -> Self {
        Self {
            amount: Decimal::ZERO,
            currency,
        }
    }

    /// Rounded half to even, written with exactly that many decimals.
    #[must_use]
    pub fn rounded(self, decimals: u32) -> Self {
        let mut amount = self.amount.round_dp(decimals);
        amount.rescale(decimals);
        Self { amount, ..self }
    }

    /// Whether it is less than nothing.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.amount.is_sign_negative() && !self.amount.is_zero()
    }

    /// The exact sum.
    ///
    /// # Errors
    /// When the currencies differ or the sum leaves the range of a decimal (about 7.9 × 10²⁸).
    pub fn checked_add(self, other: Self) -> Result<Self, CurrencyMismatch> {
        let error = CurrencyMismatch {
            left: self.currency,
            right: other.currency,
        };
        if self.currency != other.currency {
            return Err(error);
        }
        let amount = self.amount.checked_add(other.amount).ok_or(error)?;
        Ok(Self {
            amount,
            currency: self.currency,
        })
    }

    /// The exact difference, which may be negative.
    ///
    /// # Errors
    /// As of [`checked_add`](Self::checked_add).
    pub fn checked_sub(self, other: Self) -> Result<Self, CurrencyMismatch> {
        self.checked_add(Self {
            amount: -other.amount,
            ..other
        })
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} {}", self.amount, self.currency))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_exactly_and_only_like_to_like() {
        let tenth = Money::new("0.1".parse().unwrap(), Currency::CNY);
        let mut sum = Money::zero(Currency::CNY);
        for _ in 0..10 {
            sum = sum.checked_add(tenth).unwrap();
        }
        assert_eq!(sum, Money::new(Decimal::ONE, Currency::CNY));
        assert!(sum.checked_add(Money::zero(Currency::USD)).is_err());
        assert!(
            Money::new(Decimal::MAX, Currency::CNY)
                .checked_add(tenth.checked_add(sum).unwrap())
                .is_err()
        );
    }

    #[test]
    fn rounds_half_to_even_and_keeps_its_decimals() {
        for (text, decimals, rounded) in [
            ("0.125", 2, "0.12"),
            ("0.135", 2, "0.14"),
            ("-0.125", 2, "-0.12"),
            ("3", 2, "3.00"),
            ("0.0000005", 6, "0.000000"),
        ] {
            let money = Money::new(text.parse().unwrap(), Currency::EUR).rounded(decimals);
            assert_eq!(money.amount.to_string(), rounded);
        }
        let (one, two) = (Decimal::ONE, Decimal::TWO);
        let less = Money::new(one, Currency::EUR).checked_sub(Money::new(two, Currency::EUR));
        assert!(less.unwrap().is_negative());
        assert!(!Money::new(-Decimal::ZERO, Currency::EUR).is_negative());
        let other = Money::new(one, Currency::EUR).checked_sub(Money::new(two, Currency::USD));
        assert!(other.is_err());
    }

    #[test]
    fn amount_is_text_in_json() {
        let money = Money::new("0.00004200".parse().unwrap(), Currency::USD);
        let json = serde_json::to_string(&money).unwrap();
        assert_eq!(json, r#"{"amount":"0.00004200","currency":"USD"}"#);
        assert_eq!(serde_json::from_str::<Money>(&json).unwrap(), money);
        assert!(serde_json::from_str::<Money>(r#"{"amount":"1","currency":"usd"}"#).is_err());
    }
}
