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

#[cfg(test)]
mod tests {
    use super::*;

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
