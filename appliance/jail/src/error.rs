//! The one error of this crate: which step, on what, why.

use std::io;

/// A step of the confinement that failed. Nothing was started, or the process must end: there is no half jail.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call of the named step failed.
    #[error("jail: {step}")]
    Step {
        /// What was being done, in words.
        step: &'static str,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// A step was done but a look afterwards shows that it has no effect.
    #[error("jail: the check of the confinement found {0}")]
    Check(String),
    /// The request itself cannot be carried out.
    #[error("jail: {0}")]
    Request(String),
}

impl Error {
    /// The last system error, for the step `step`.
    pub(crate) fn last(step: &'static str) -> Self {
        Self::Step {
            step,
            source: io::Error::last_os_error(),
        }
    }

    /// Turns the usual "negative means errno" result into a `Result`.
    pub(crate) fn check<T: Default + PartialOrd>(step: &'static str, result: T) -> Result<T, Self> {
        if result < T::default() {
            Err(Self::last(step))
        } else {
            Ok(result)
        }
    }
}
