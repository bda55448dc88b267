//! Why an image could not be built.

use std::{fmt, io, path::Path};

/// A failure of the builder: what was being done, and to what.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct BuildError {
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl BuildError {
    /// A failure that has no other behind it.
    #[must_use]
    pub fn new(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            source: None,
        }
    }

    /// A failure because of another.
    #[must_use]
    pub fn because(
        message: impl fmt::Display,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self {
            message: message.to_string(),
            source: Some(Box::new(source)),
        }
    }

    /// A file that could not be read or written.
    pub(crate) fn io(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let message = format!("cannot {doing} {}", path.display());
        move |error| Self::because(message, error)
    }
}
