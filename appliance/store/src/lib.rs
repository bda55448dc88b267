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
mod schema;
mod transaction;

pub use error::{ErrorKind, StoreError};
pub use schema::{Migration, Schema, Step, Tables, migrator};
pub use transaction::{Reader, Writer};

use lock::FolderLock;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

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
    /// Opens the store of `folder`, which is made if it is not there, and keeps every other daemon out of it. A store of an
    /// older schema is brought to `schema` in one transaction; before that, `program` (the one that runs) is kept beside it as
    /// what can take it [back](Self::migrate).
    ///
    /// # Errors
    /// [`ErrorKind::InUse`] with the folder and the holder's process id; [`ErrorKind::Corrupt`]; [`ErrorKind::Newer`], for
    /// which there may be a [`migrator`].
    pub fn open(folder: &Path, schema: &Schema, program: &Path) -> Result<Self, StoreError> {
        let store = Self::open_raw(folder)?;
        match store.schema()? {
            Some(found) if found > schema.version => {
                return Err(StoreError::newer(store.path(), found, schema.version));
            }
            Some(found) if found < schema.version => {
                schema::leave_migrator(folder, schema.version, program)?;
                store.step(schema, found, schema.version)?;
            }
            Some(_) => {}
            None => store.set_schema(schema.version)?,
        }
        Ok(store)
    }

    /// Takes the store of `folder` to schema `to`, up or down, in one transaction; no daemon may run on it. Returns the schema it
    /// had.
    ///
    /// # Errors
    /// As for [`open`](Self::open); [`ErrorKind::Newer`] when this program does not know the way.
    pub fn migrate(folder: &Path, schema: &Schema, to: u64) -> Result<u64, StoreError> {
        let store = Self::open_raw(folder)?;
        let found = match store.schema()? {
            Some(found) => found,
            None => {
                store.set_schema(to)?;
                to
            }
        };
        if found.max(to) > schema.version {
            return Err(StoreError::newer(
                store.path(),
                found.max(to),
                schema.version,
            ));
        }
        if found != to {
            store.step(schema, found, to)?;
        }
        Ok(found)
    }

    fn open_raw(folder: &Path) -> Result<Self, StoreError> {
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
        Ok(Self {
            inner: Arc::new(Inner {
                database,
                path,
                _lock: lock,
            }),
        })
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

    /// The schema the store has; none if nobody used it yet.
    fn schema(&self) -> Result<Option<u64>, StoreError> {
        let failed = |error: redb::Error| StoreError::reading(&self.inner.path, error);
        let transaction = self
            .inner
            .database
            .begin_read()
            .map_err(|error| failed(error.into()))?;
        let meta = match transaction.open_table(META) {
            Ok(meta) => meta,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        let found = meta
            .get(SCHEMA_KEY)
            .map_err(|error| failed(error.into()))?
            .map(|version| version.value());
        Ok(found)
    }

    fn set_schema(&self, version: u64) -> Result<(), StoreError> {
        self.change_schema(version, |_| Ok(()))
    }

    fn step(&self, schema: &Schema, from: u64, to: u64) -> Result<(), StoreError> {
        let steps = schema.path(from, to)?;
        self.change_schema(to, |tables| steps.iter().try_for_each(|step| step(tables)))
    }

    fn change_schema(
        &self,
        version: u64,
        change: impl FnOnce(&Tables<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let failed = |error: redb::Error| StoreError::reading(&self.inner.path, error);
        let transaction = self
            .inner
            .database
            .begin_write()
            .map_err(|error| failed(error.into()))?;
        change(&Tables::new(&transaction))?;
        {
            let mut meta = transaction
                .open_table(META)
                .map_err(|error| failed(error.into()))?;
            meta.insert(SCHEMA_KEY, version)
                .map_err(|error| failed(error.into()))?;
        }
        transaction.commit().map_err(|error| failed(error.into()))
    }
}
