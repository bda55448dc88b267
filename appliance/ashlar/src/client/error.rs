//! What can go wrong between a command and the host.

use api_types::Problem;

use super::Address;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers at the address.
    #[error("cannot reach the host at {address}")]
    Unreachable {
        /// The address.
        address: Address,
        /// Why.
        source: std::io::Error,
    },
    /// Its certificate is not the one that was expected.
    #[error("the host at {address} has the certificate {seen}, which is not known")]
    Untrusted {
        /// The address.
        address: Address,
        /// Digest of its certificate.
        seen: String,
        /// What was expected.
        expected: Option<String>,
    },
    /// The connection broke off.
    #[error("the connection to the host at {address} broke off")]
    Broken {
        /// The address.
        address: Address,
        /// Why.
        source: hyper::Error,
    },
    /// The host said no.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
    /// The host said something that isn't its interface.
    #[error("cannot make sense of {what}")]
    NotUnderstood {
        /// Of what.
        what: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What was waited for did not come in time.
    #[error("{0}")]
    TimedOut(String),
    /// The request makes no sense; nothing was sent.
    #[error("{0}")]
    Usage(String),
    /// What was asked for cannot be had, though host and request are all right.
    #[error("{0}")]
    Failed(String),
    /// What was looked for and should not be there was found.
    #[error("{what}")]
    Found {
        /// What.
        what: String,
        /// What to do about it.
        next_step: String,
    },
    /// A policy in C was not built.
    #[error(transparent)]
    Policy(#[from] policy_c::Error),
    /// A local file or the terminal.
    #[error("{what}")]
    Local {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Error {
    /// A failure about a local file or the terminal.
    pub fn local(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Local { what, source }
    }

    /// The code of the problem, when the host said no.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(problem) => Some(&problem.code),
            _ => None,
        }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn next_step(&self) -> Option<String> {
        use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
        match self {
            Self::Unreachable { address, source } => Some(match (address, source.kind()) {
                (Address::Unix(_), NotFound) => "is ashlard running on this machine? Start it, or name another \
                     host with --host or ASHLAR_HOST"
                    .into(),
                (Address::Unix(_), ConnectionRefused) => {
                    "the socket is there but nobody listens: start ashlard again, and look at its log if it ends"
                        .into()
                }
                (Address::Unix(path), PermissionDenied) => format!(
                    "only root and the socket's group may talk to the host: use sudo, or join the group shown by \
                     `stat -c %G {}`",
                    path.display()
                ),
                _ => "check --host (or ASHLAR_HOST) and that ashlard listens there".into(),
            }),
            Self::Untrusted {
                expected: None, ..
            } => Some(
                "compare it with the fingerprint on the host's screen; if it is the same, give it with --fingerprint"
                    .into(),
            ),
            Self::Untrusted { .. } => Some(
                "somebody else may be answering in the host's place. If the host was flashed anew, compare with its                  screen and enrol again"
                    .into(),
            ),
            // The host speaks of HTTP headers; whoever uses this command gives the token otherwise.
            Self::Refused(problem) if problem.status == 401 => Some(
                "give the token, which is in the file `api-token` in the host's state folder, with \
                 --token-file or ASHLAR_TOKEN"
                    .into(),
            ),
            Self::Refused(problem) => problem.next_step.clone(),
            Self::Found { next_step, .. } => Some(next_step.clone()),
            Self::Broken { .. } => {
                Some("try again; if it happens again, look at the log of ashlard".into())
            }
            Self::NotUnderstood { .. } => {
                Some("check that --host is an ashlard of the same version as this command".into())
            }
            Self::TimedOut(_)
            | Self::Usage(_)
            | Self::Failed(_)
            | Self::Policy(_)
            | Self::Local { .. } => None,
        }
    }

    /// The status the process ends with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_)
            | Self::NotUnderstood { .. }
            | Self::Failed(_)
            | Self::Found { .. }
            | Self::Policy(_)
            | Self::Local { .. } => 1,
            Self::Usage(_) => 2,
            Self::Unreachable { .. } | Self::Untrusted { .. } | Self::Broken { .. } => 3,
            Self::TimedOut(_) => 4,
        }
    }
}
