//! What was wrong with a disk.

use std::{fmt, io, path::Path};

/// What sort of failure, for callers that branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// There is no such disk or partition.
    NotFound,
    /// There are several, and which one is meant cannot be told.
    Ambiguous,
    /// It holds something that must not be overwritten.
    Occupied,
    /// There is no room.
    Full,
    /// What is there is damaged, or is not what was promised.
    Damaged,
    /// The disk or the kernel failed.
    Io,
}

/// A failure: what was done, to what, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DiskError {
    kind: ErrorKind,
    message: String,
    next_step: &'static str,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl DiskError {
    /// What sort of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What to do about it.
    #[must_use]
    pub fn next_step(&self) -> &'static str {
        self.next_step
    }

    /// The host has no slots.
    #[must_use]
    pub fn no_slots() -> Self {
        Self::new(
            ErrorKind::NotFound,
            "this host did not boot from a disk with slots",
            "Flash the image onto a disk; a host booted from elsewhere is updated where it boots from.",
        )
    }

    pub(crate) fn new(
        kind: ErrorKind,
        message: impl fmt::Display,
        next_step: &'static str,
    ) -> Self {
        Self {
            kind,
            message: message.to_string(),
            next_step,
            source: None,
        }
    }

    pub(crate) fn because(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// For `map_err` of what a file or the kernel said while `doing` something to `path`.
    pub(crate) fn io<E: Into<io::Error>>(doing: &str, path: &Path) -> impl Fn(E) -> Self {
        let message = format!("cannot {doing} {}", path.display());
        move |error| {
            let error = error.into();
            let (kind, next_step) = match error.kind() {
                io::ErrorKind::NotFound => (
                    ErrorKind::NotFound,
                    "Check that the disk is there and the configuration names it as it is called.",
                ),
                io::ErrorKind::StorageFull => (
                    ErrorKind::Full,
                    "Give it more room, or remove what is not needed.",
                ),
                _ => (
                    ErrorKind::Io,
                    "Check the disk and its cabling; the kernel's log says more.",
                ),
            };
            Self::new(kind, &message, next_step).because(error)
        }
    }
}
