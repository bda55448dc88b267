//! Why the store could not be opened, read or written.

use std::{error::Error as StdError, io, path::Path};

/// What sort of failure, for callers that branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Another daemon has the state folder.
    InUse,
    /// The file is not a store, or is damaged.
    Corrupt,
    /// A newer daemon wrote it, or one so old that the way is not known any more.
    Newer {
        /// The schema it has.
        found: u64,
    },
    /// The disk or the file system failed, or is full.
    Io,
    /// A record cannot be read as what it should be.
    Record,
    /// Anything else.
    Other,
}

/// A failure of the store: what was done, to what, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    kind: ErrorKind,
    message: String,
    next_step: &'static str,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
}

const RESTORE: &str = "Move the file away and put a copy from before the damage in its place. Without one, an empty \
    folder starts an empty host: what runs is then stopped as unknown, so stop the instances first.";

impl StoreError {
    /// What sort of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What to do about it.
    #[must_use]
    pub fn next_step(&self) -> &str {
        self.next_step
    }

    pub(crate) fn io(message: String, source: io::Error) -> Self {
        let next_step =
            "Check that the folder is on a writable file system with room, and who owns it.";
        Self {
            kind: ErrorKind::Io,
            message,
            next_step,
            source: Some(Box::new(source)),
        }
    }

    pub(crate) fn in_use(folder: &Path, holder: Option<u32>) -> Self {
        let holder = holder.map_or_else(
            || "another process".to_owned(),
            |pid| format!("process {pid}"),
        );
        Self {
            kind: ErrorKind::InUse,
            message: format!(
                "the state folder {} is in use by {holder}",
                folder.display()
            ),
            next_step: "Talk to the daemon that runs there, stop it first, or give this one a state folder of its own.",
            source: None,
        }
    }

    pub(crate) fn newer(path: &Path, found: u64, known: u64) -> Self {
        Self {
            kind: ErrorKind::Newer { found },
            message: format!(
                "the store {} has schema {found}; this daemon knows schemas up to {known}",
                path.display()
            ),
            next_step: "Start the newer daemon that wrote it, or restore a copy from before it ran.",
            source: None,
        }
    }

    pub(crate) fn no_way(from: u64, to: u64, known: u64) -> Self {
        Self {
            kind: ErrorKind::Newer { found: from },
            message: format!(
                "this daemon, of schema {known}, knows no way from schema {from} to schema {to}"
            ),
            next_step: "Update in smaller steps: a daemon of each schema in between knows the way to its neighbours.",
            source: None,
        }
    }

    /// What a step between schemas finds that the older program has no record for: it is named in `what`.
    #[must_use]
    pub fn irreversible(what: &str) -> Self {
        Self {
            kind: ErrorKind::Other,
            message: format!("an older daemon cannot go on from here: {what}"),
            next_step: "Start the newer daemon again, or restore a copy of the store from before it ran.",
            source: None,
        }
    }

    pub(crate) fn opening(path: &Path, error: redb::DatabaseError) -> Self {
        if let redb::DatabaseError::DatabaseAlreadyOpen = error {
            return Self::in_use(path.parent().unwrap_or(path), None);
        }
        Self::reading(path, error.into())
    }

    pub(crate) fn reading(path: &Path, error: redb::Error) -> Self {
        let path = path.display();
        match error {
            // What redb says of a file that does not begin like one of its own.
            redb::Error::Io(io)
                if !matches!(
                    io.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Self::io(format!("cannot open the store {path}"), io)
            }
            error => Self {
                kind: ErrorKind::Corrupt,
                message: format!("the store {path} is damaged or is not a store"),
                next_step: RESTORE,
                source: Some(Box::new(error)),
            },
        }
    }

    pub(crate) fn transaction(error: redb::TransactionError) -> Self {
        Self::from_redb("cannot begin to use the store".to_owned(), error.into())
    }

    pub(crate) fn from_redb(message: String, error: redb::Error) -> Self {
        let (kind, next_step) = match error {
            redb::Error::Corrupted(_) => (ErrorKind::Corrupt, RESTORE),
            redb::Error::Io(_) | redb::Error::PreviousIo => (
                ErrorKind::Io,
                "Check the disk and the room on it, then start the daemon again.",
            ),
            _ => (ErrorKind::Other, "Start the daemon again."),
        };
        Self {
            kind,
            message,
            next_step,
            source: Some(Box::new(error)),
        }
    }

    pub(crate) fn other(message: &str, source: impl StdError + Send + Sync + 'static) -> Self {
        let source: Option<Box<dyn StdError + Send + Sync>> = Some(Box::new(source));
        Self {
            kind: ErrorKind::Other,
            message: message.to_owned(),
            next_step: "Start the daemon again.",
            source,
        }
    }

    pub(crate) fn record(table: &str, key: &str, source: serde_json::Error) -> Self {
        Self {
            kind: ErrorKind::Record,
            message: format!("the record {key} of table {table} cannot be read or written"),
            next_step: "Start the daemon that wrote it, or restore a copy of the store from before.",
            source: Some(Box::new(source)),
        }
    }
}
