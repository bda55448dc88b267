//! Who owns resources and pays for them.

use crate::{ParseError, serde_as_text};
use std::{fmt, str::FromStr};

/// An account: 1–64 characters of `[0-9A-Za-z._-]`. Of an ECS account, its number.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(String);

impl AccountId {
    /// The longest id, in characters.
    pub const MAX_LENGTH: usize = 64;
}

/// The account of whoever has only one.
impl Default for AccountId {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AccountId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if (1..=Self::MAX_LENGTH).contains(&text.len()) && text.bytes().all(known) {
            return Ok(Self(text.to_owned()));
        }
        Err(ParseError::new(
            "an account id",
            "1 to 64 characters of 0-9, A-Z, a-z, `.`, `_` and `-`",
            text,
        ))
    }
}

serde_as_text!(AccountId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_an_account() {
        for good in ["1234567890123456", "team-a", "A_b.c"] {
            assert_eq!(good.parse::<AccountId>().unwrap().to_string(), good);
        }
        for bad in ["", "a b", "a/b", "é", "a\n", &"x".repeat(65)] {
            assert!(bad.parse::<AccountId>().is_err(), "{bad:?}");
        }
    }
}
