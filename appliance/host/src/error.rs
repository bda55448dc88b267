//! What the kernel refused.

use std::{fmt, io};

/// Something could not be done: what, to what, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}")]
pub struct Error {
    doing: String,
    #[source]
    source: io::Error,
}

impl Error {
    /// `doing` completes "cannot …".
    pub(crate) fn new(doing: impl fmt::Display, source: impl Into<io::Error>) -> Self {
        Self {
            doing: doing.to_string(),
            source: source.into(),
        }
    }

    /// The same as a closure for `map_err`.
    pub(crate) fn of<E: Into<io::Error>>(doing: impl fmt::Display) -> impl FnOnce(E) -> Self {
        let doing = doing.to_string();
        move |source| Self {
            doing,
            source: source.into(),
        }
    }
}
