//! What can go wrong with a TPM.

use std::io;
use std::path::PathBuf;

use crate::{LARGEST_SECRET, Pcrs};

/// An operation with the TPM that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no TPM, or the kernel has no driver for it.
    #[error("no TPM 2.0 at {path}; enable it in the firmware's settings, or use a key instead")]
    NoTpm {
        /// The device file.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The TPM cannot be reached.
    #[error("{command}: the TPM does not answer")]
    Unreachable {
        /// The command.
        command: &'static str,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The policy of a sealed secret is not met.
    #[error(
        "what was measured at boot has changed since the secret was sealed ({pcrs}): firmware settings, Secure Boot keys or the \
         software that was started; undo the change, or give the recovery key"
    )]
    PcrsChanged {
        /// The registers that the secret is sealed to.
        pcrs: Pcrs,
    },
    /// The secret is not this TPM's.
    #[error(
        "the secret was sealed by another TPM, or this one was cleared since; give the recovery key"
    )]
    Foreign,
    /// Too many wrong passwords were given to the TPM.
    #[error(
        "the TPM is locked because of wrong passwords; wait as long as its maker says, or give the recovery key"
    )]
    LockedOut,
    /// The owner hierarchy has a password.
    #[error(
        "the TPM's owner has set a password; clear the TPM in the firmware's settings, or use a key instead"
    )]
    Owned,
    /// The TPM refused a command for another reason.
    #[error("{command}: the TPM refuses with code {code:#05x} (TPM 2.0 Library, Part 2 §6.6)")]
    Refused {
        /// The command.
        command: &'static str,
        /// The response code.
        code: u32,
    },
    /// A response that is not one.
    #[error("{command}: the TPM's answer is malformed at {what}")]
    Malformed {
        /// The command.
        command: &'static str,
        /// The field.
        what: &'static str,
    },
    /// A secret of a length that is not sealed.
    #[error("a secret of {length} bytes cannot be sealed: 1–{LARGEST_SECRET} can")]
    SecretLength {
        /// Its length in bytes.
        length: usize,
    },
    /// Bytes that are no blob.
    #[error("the sealed secret is damaged at {what}; give the recovery key")]
    Damaged {
        /// The field.
        what: &'static str,
    },
}
