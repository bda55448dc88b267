//! Why a file could not be made, read or deleted.

use std::{io, path::Path};
use types::ByteCount;

/// What sort of failure, for callers that branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The file is not there.
    NotFound,
    /// The file system is full.
    Full,
    /// The file system lacks what a pool needs.
    Unsupported,
    /// A size that cannot be.
    Invalid,
    /// Anything else the file system said.
    Io,
}

/// A failure of the pool: what was done, to which file, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct PoolError {
    kind: ErrorKind,
    message: String,
    next_step: &'static str,
    #[source]
    source: Option<io::Error>,
}

impl PoolError {
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

    pub(crate) fn io(doing: &str, path: &Path, error: io::Error) -> Self {
        let (kind, next_step) = match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => (
                ErrorKind::Full,
                "Delete disks or images that are not needed, or give the pool more room.",
            ),
            io::ErrorKind::NotFound => (
                ErrorKind::NotFound,
                "Something outside the daemon removed it: restore it from a copy, or delete what it belongs to.",
            ),
            _ => (
                ErrorKind::Io,
                "Check the pool's folder: who owns it, and whether its file system is mounted.",
            ),
        };
        let message = format!("cannot {doing} {}", path.display());
        Self {
            kind,
            message,
            next_step,
            source: Some(error),
        }
    }

    pub(crate) fn no_reflink(folder: &Path, error: io::Error) -> Self {
        Self {
            kind: ErrorKind::Unsupported,
            message: format!(
                "the file system of {} cannot share blocks between files (reflink)",
                folder.display()
            ),
            next_step: "Put the pool on XFS made with reflink=1, which is mkfs.xfs's default: a partition, or a file \
                mounted by loop.",
            source: Some(error),
        }
    }

    pub(crate) fn vanished(what: &str, path: &Path, error: io::Error) -> Self {
        let mut this = Self::io("open", path, error);
        if this.kind == ErrorKind::NotFound {
            this.message = format!("{what} has vanished: {} is not there", path.display());
        }
        this
    }

    pub(crate) fn size(what: String, size: ByteCount, least: ByteCount) -> Self {
        Self {
            kind: ErrorKind::Invalid,
            message: format!(
                "{what} cannot be {size}: it needs at least {least}, in whole sectors of 512 bytes"
            ),
            next_step: "Ask for a larger disk.",
            source: None,
        }
    }
}
