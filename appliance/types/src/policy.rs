//! Which policy decided or priced something, and why another one had to.

use crate::{ParseError, Sha256Digest, serde_as_text};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The code a policy ran: part of this program, or a WebAssembly component named by the SHA-256 of its file.
///
/// Its text is `built-in` or 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ModuleDigest {
    /// The policy that comes with the program.
    BuiltIn,
    /// A component with this digest.
    Sha256(Sha256Digest),
}

impl fmt::Display for ModuleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.pad("built-in"),
            Self::Sha256(digest) => fmt::Display::fmt(digest, f),
        }
    }
}

impl FromStr for ModuleDigest {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text == "built-in" {
            return Ok(Self::BuiltIn);
        }
        text.parse().map(Self::Sha256).map_err(|_| {
            ParseError::new(
                "a policy module",
                "`built-in` or 64 hexadecimal digits",
                text,
            )
        })
    }
}

serde_as_text!(ModuleDigest);

/// What makes an answer of a policy repeatable: its code and its parameters. Two equal identities give equal answers to
/// equal questions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PolicyIdentity {
    /// The name the operator knows it by.
    pub name: String,
    /// Its code.
    pub module_sha256: ModuleDigest,
    /// SHA-256 of its parameters.
    pub configuration_sha256: Sha256Digest,
}

impl fmt::Display for PolicyIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.module_sha256 {
            ModuleDigest::BuiltIn => write!(f, "{} (built-in)", self.name),
            ModuleDigest::Sha256(digest) => write!(f, "{} ({digest:.12})", self.name),
        }
    }
}

/// In which way a policy failed to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// It ran longer than a call may take.
    Deadline,
    /// It executed more instructions than a call may.
    Fuel,
    /// It asked for more memory or table elements than it may have.
    Memory,
    /// It trapped: a panic, a bad memory access, a division by zero.
    Trap,
    /// It answered that it cannot: its own error.
    Refused,
    /// It answered something that cannot be true or cannot be used.
    InvalidAnswer,
    /// More calls at once than there are slots for.
    Busy,
    /// It failed too often in a row and is not asked any more.
    SetAside,
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Deadline => "ran out of time",
            Self::Fuel => "ran out of fuel",
            Self::Memory => "asked for too much memory",
            Self::Trap => "trapped",
            Self::Refused => "refused",
            Self::InvalidAnswer => "gave an unusable answer",
            Self::Busy => "had no free slot",
            Self::SetAside => "is set aside",
        })
    }
}

/// A policy gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("policy {policy} {kind}: {message}")]
pub struct PolicyFailure {
    /// Who failed.
    pub policy: Box<PolicyIdentity>,
    /// In which way.
    pub kind: FailureKind,
    /// The details, in the policy's own words where it had any.
    pub message: String,
}

/// An answer, and who gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided<T> {
    /// The answer.
    pub answer: T,
    /// Who gave it.
    pub policy: PolicyIdentity,
    /// If the configured policy failed: how. The answer is then the built-in policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<PolicyFailure>,
}

impl<T> Decided<T> {
    /// What `policy` answered, if it passes `check`; otherwise what `built_in` (of that identity) says. A `check` says what is wrong.
    pub fn new(
        policy: PolicyIdentity,
        answered: Result<T, PolicyFailure>,
        check: impl FnOnce(&T) -> Result<(), String>,
        built_in: impl FnOnce() -> (PolicyIdentity, T),
    ) -> Self {
        let checked = answered.and_then(|answer| match check(&answer) {
            Ok(()) => Ok(answer),
            Err(message) => Err(PolicyFailure {
                policy: Box::new(policy.clone()),
                kind: FailureKind::InvalidAnswer,
                message,
            }),
        });
        match checked {
            Ok(answer) => Self {
                answer,
                policy,
                fallback: None,
            },
            Err(failure) => {
                let (policy, answer) = built_in();
                Self {
                    answer,
                    policy,
                    fallback: Some(failure),
                }
            }
        }
    }
}

/// Whether `text`, which is a policy's `what`, can be shown: 1 to `most` characters, none of them a control character.
///
/// # Errors
/// Its length, or that it has control characters; never the text itself.
pub fn check_words(what: &str, text: &str, most: usize) -> Result<(), String> {
    let length = text.chars().count();
    if length == 0 || length > most {
        return Err(format!(
            "{what} has {length} characters; it must have 1 to {most}"
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{what} has control characters in it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> PolicyIdentity {
        PolicyIdentity {
            name: name.to_owned(),
            module_sha256: ModuleDigest::BuiltIn,
            configuration_sha256: Sha256Digest::of(b""),
        }
    }

    #[test]
    fn an_answer_that_fails_or_does_not_pass_is_replaced_and_the_record_says_why() {
        let failure = PolicyFailure {
            policy: Box::new(named("mine")),
            kind: FailureKind::Trap,
            message: "unreachable".to_owned(),
        };
        let even = |number: &u32| match number % 2 {
            0 => Ok(()),
            _ => Err(format!("{number} is odd")),
        };
        let built_in = || (named("built-in"), 0);
        for (answered, answer, who, why) in [
            (Ok(4), 4, "mine", None),
            (Ok(5), 0, "built-in", Some("5 is odd")),
            (Err(failure), 0, "built-in", Some("unreachable")),
        ] {
            let decided = Decided::new(named("mine"), answered, even, built_in);
            assert_eq!(
                (decided.answer, decided.policy.name.as_str()),
                (answer, who)
            );
            let fallback = decided.fallback.map(|failure| failure.message);
            assert_eq!(fallback.as_deref(), why);
        }
    }

    #[test]
    fn words_are_short_and_on_one_line() {
        assert_eq!(check_words("a reason", "zu groß", 7), Ok(()));
        for (text, said) in [
            ("", "a reason has 0 characters"),
            ("too long", "8 characters; it must have 1 to 7"),
            ("a\nb", "control characters"),
        ] {
            let error = check_words("a reason", text, 7).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_module_is_built_in_or_a_digest() {
        let digest = Sha256Digest::of(b"module");
        for module in [ModuleDigest::BuiltIn, ModuleDigest::Sha256(digest)] {
            assert_eq!(module.to_string().parse::<ModuleDigest>().unwrap(), module);
        }
        let error = "builtin".parse::<ModuleDigest>().unwrap_err();
        assert!(error.to_string().contains("`built-in` or"), "{error}");
    }

    #[test]
    fn a_failure_names_the_policy_and_what_it_did() {
        let failure = PolicyFailure {
            policy: Box::new(PolicyIdentity {
                name: "spread".to_owned(),
                module_sha256: ModuleDigest::Sha256(Sha256Digest::new([0xab; 32])),
                configuration_sha256: Sha256Digest::of(b""),
            }),
            kind: FailureKind::Deadline,
            message: "no answer within 50 ms".to_owned(),
        };
        assert_eq!(
            failure.to_string(),
            "policy spread (abababababab) ran out of time: no answer within 50 ms"
        );
    }
}
