//! Client tokens: a request that is repeated is answered as it was the first time.
//!
//! ```text
//!  (unknown) ── admitted ──► under way ── done ──► answered
//!      ▲                        │ failed
//!      └────────────────────────┘
//! ```

use std::{fmt, str::FromStr};
use types::Sha256Digest;

/// A token a client made up: 1 to 64 printable ASCII characters (ECS ClientToken).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientToken(String);

/// A text that cannot be a client token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a client token has 1 to 64 printable ASCII characters; this one has {length} bytes{}", if *.ascii { "" } else { " and others in it" })]
pub struct InvalidToken {
    length: usize,
    ascii: bool,
}

impl FromStr for ClientToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let ascii = text.bytes().all(|byte| byte.is_ascii_graphic());
        if ascii && (1..=64).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidToken {
                length: text.len(),
                ascii,
            })
        }
    }
}

impl fmt::Display for ClientToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a token was used for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TokenUse<A> {
    /// Digest of the request's parameters.
    pub parameters: Sha256Digest,
    /// What was answered; `None`: the request is under way.
    pub answer: Option<A>,
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission<A> {
    /// Do it.
    Proceed,
    /// It was done: answer this.
    Answered(A),
}

/// Why a request is refused on account of its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// ECS `IdempotentParameterMismatch`.
    #[error("this client token was used for a request with other parameters")]
    ParameterMismatch,
    /// ECS `LastTokenProcessing`.
    #[error("the first request with this client token is still under way")]
    StillProcessing,
}

impl<A: Clone> Admission<A> {
    /// What becomes of a request with these parameters, given the former use of its token.
    ///
    /// # Errors
    /// [`TokenRefusal`]; a mismatch is told even while the first request is under way.
    pub fn decide(
        former: Option<&TokenUse<A>>,
        parameters: Sha256Digest,
    ) -> Result<Self, TokenRefusal> {
        match former {
            None => Ok(Self::Proceed),
            Some(former) if former.parameters != parameters => Err(TokenRefusal::ParameterMismatch),
            Some(TokenUse { answer: None, .. }) => Err(TokenRefusal::StillProcessing),
            Some(TokenUse {
                answer: Some(answer),
                ..
            }) => Ok(Self::Answered(answer.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn tokens_are_short_plain_text() {
        for good in ["a", "0c593ea1-3bea-11e9-b96b-88e9fe637760", &"x".repeat(64)] {
            assert_eq!(good.parse::<ClientToken>().unwrap().to_string(), good);
        }
        for bad in ["", " ", "a b", "tökén", "a\n", &"x".repeat(65)] {
            assert!(bad.parse::<ClientToken>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        /// However requests with the same few tokens interleave, each token acts once and answers the same for ever.
        #[test]
        fn each_token_acts_at_most_once(steps in prop::collection::vec((0_u8..3, 0_u8..2, any::<bool>()), 0..100)) {
            let mut uses: HashMap<u8, TokenUse<u32>> = HashMap::new();
            let mut acted: HashMap<u8, (u8, u32)> = HashMap::new();
            let mut next = 0;
            for (token, parameters, finish) in steps {
                let digest = Sha256Digest::of(&[parameters]);
                if finish {
                    // The request under way, if there is one, comes to its end.
                    if let Some(TokenUse { answer: answer @ None, .. }) = uses.get_mut(&token) {
                        *answer = Some(acted[&token].1);
                    }
                    continue;
                }
                let former = uses.get(&token).cloned();
                match Admission::decide(former.as_ref(), digest) {
                    Ok(Admission::Proceed) => {
                        prop_assert!(!acted.contains_key(&token));
                        next += 1;
                        acted.insert(token, (parameters, next));
                        uses.insert(token, TokenUse { parameters: digest, answer: None });
                    }
                    Ok(Admission::Answered(answer)) => prop_assert_eq!((parameters, answer), acted[&token]),
                    Err(TokenRefusal::ParameterMismatch) => prop_assert_ne!(parameters, acted[&token].0),
                    Err(TokenRefusal::StillProcessing) => prop_assert!(former.unwrap().answer.is_none()),
                }
            }
        }
    }
}
