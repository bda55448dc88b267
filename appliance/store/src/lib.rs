//! State of the host in redb: typed records in one file, one daemon at a time.
//!
//! A [`Record`] names its table and its key; it is kept as JSON, so that a field can be added with a default and a
//! store can be read with the eye. [`Store::write`] runs one transaction and returns when it is on stable storage;
//! [`Store::write_volatile`] is for what a restart finds out anew. Readers see one point in time and block nobody.
//!
//! All calls may block on the disk. This crate knows no record.

#![forbid(unsafe_code)]

mod error;
mod lock;
mod transaction;

pub use error::{ErrorKind, StoreError};
pub use transaction::{Reader, Writer};

use lock::FolderLock;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The version of the records' meaning. A store written by a newer one is refused.
pub const SCHEMA_VERSION: u64 = 1;

const FILE_NAME: &str = "state.redb";
const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");
const SCHEMA_KEY: &str = "schema_version";

/// Something that is kept.
pub trait Record: serde::Serialize + serde::de::DeserializeOwned {
    /// Its table: a name no other record type has.
    const TABLE: &'static str;

    /// What it is found by. Records are listed in the order of their keys' text.
    type Key: Display + ?Sized;

    /// Its key.
    fn key(&self) -> &Self::Key;
}

/// The store of one state folder. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    // Dropped in this order: the file is closed before another daemon may open it.
    database: Database,
    path: PathBuf,
    _lock: FolderLock,
}

impl Store {
    /// Opens the store of `folder`, which is made if it is not there, and keeps every other daemon out of it.
    ///
    /// # Errors
    /// [`ErrorKind::InUse`] with the folder and the holder's process id; [`ErrorKind::Corrupt`]; [`ErrorKind::Newer`].
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(folder).map_err(|error| {
            StoreError::io(
                format!("cannot make the state folder {}", folder.display()),
                error,
            )
        })?;
        let lock = FolderLock::take(folder)?;
        let path = folder.join(FILE_NAME);
        let database =
            Database::create(&path).map_err(|error| StoreError::opening(&path, error))?;
        let store = Self {
            inner: Arc::new(Inner {
                database,
                path,
                _lock: lock,
            }),
        };
        store.check_schema()?;
        Ok(store)
    }

    /// The store's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Looks at the store as it is now.
    ///
    /// # Errors
    /// The closure's, or when the store cannot be read.
    pub fn read<T, E: From<StoreError>>(
        &self,
        look: impl FnOnce(&Reader) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = self
            .inner
            .database
            .begin_read()
            .map_err(StoreError::transaction)?;
        look(&Reader::new(transaction))
    }

    /// Changes the store: all of it or, when the closure fails, nothing. On stable storage when this returns. Writers
    /// wait for each other.
    ///
    /// # Errors
    /// The closure's, or when the store cannot be written.
    pub fn write<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&Writer) -> Result<T, E>,
    ) -> Result<T, E> {
        self.transact(Durability::Immediate, change)
    }

    /// Like [`write`](Self::write), but on stable storage only with the next `write`: after a crash it may not have
    /// happened. For states that a restart finds out anew.
    ///
    /// # Errors
    /// As for `write`.
    pub fn write_volatile<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&Writer) -> Result<T, E>,
    ) -> Result<T, E> {
        self.transact(Durability::None, change)
    }

    fn transact<T, E: From<StoreError>>(
        &self,
        durability: Durability,
        change: impl FnOnce(&Writer) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut transaction = self
            .inner
            .database
            .begin_write()
            .map_err(StoreError::transaction)?;
        transaction
            .set_durability(durability)
            .map_err(|error| StoreError::other("cannot begin a change", error))?;
        let writer = Writer::new(transaction);
        // A dropped transaction is one that never was.
        let done = change(&writer)?;
        writer.commit()?;
        Ok(done)
    }

    fn check_schema(&self) -> Result<(), StoreError> {
        let path = &self.inner.path;
        let failed = |error: redb::Error| StoreError::reading(path, error);
        let transaction = self
            .inner
            .database
            .begin_write()
            .map_err(|error| failed(error.into()))?;
        {
            let mut meta = transaction
                .open_table(META)
                .map_err(|error| failed(error.into()))?;
            let found = meta
                .get(SCHEMA_KEY)
                .map_err(|error| failed(error.into()))?
                .map(|version| version.value());
            match found {
                None => {
                    meta.insert(SCHEMA_KEY, SCHEMA_VERSION)
                        .map_err(|error| failed(error.into()))?;
                }
                Some(found) if found > SCHEMA_VERSION => {
                    return Err(StoreError::newer(path, found));
                }
                Some(_) => return Ok(()),
            }
        }
        transaction.commit().map_err(|error| failed(error.into()))
    }
}
