//! Typed reading and writing within a transaction.

use crate::{Record, StoreError};
use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};

type Definition = TableDefinition<'static, &'static str, &'static [u8]>;

const fn table<R: Record>() -> Definition {
    TableDefinition::new(R::TABLE)
}

fn failed<R: Record>(doing: &str) -> impl Fn(redb::Error) -> StoreError + '_ {
    move |error| StoreError::from_redb(format!("cannot {doing} table {}", R::TABLE), error)
}

fn decode<R: Record>(key: &str, bytes: &[u8]) -> Result<R, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::record(R::TABLE, key, error))
}

fn get<R: Record>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &R::Key,
) -> Result<Option<R>, StoreError> {
    let key = key.to_string();
    let found = table
        .get(key.as_str())
        .map_err(|error| failed::<R>("read")(error.into()))?;
    found.map(|bytes| decode(&key, bytes.value())).transpose()
}

fn list<R: Record>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    prefix: &str,
) -> Result<Vec<R>, StoreError> {
    let mut records = Vec::new();
    for entry in table
        .range(prefix..)
        .map_err(|error| failed::<R>("read")(error.into()))?
    {
        let (key, bytes) = entry.map_err(|error| failed::<R>("read")(error.into()))?;
        if !key.value().starts_with(prefix) {
            break;
        }
        records.push(decode(key.value(), bytes.value())?);
    }
    Ok(records)
}

/// The store at one point in time.
pub struct Reader {
    transaction: ReadTransaction,
}

impl Reader {
    pub(crate) fn new(transaction: ReadTransaction) -> Self {
        Self { transaction }
    }

    /// The record of that key.
    ///
    /// # Errors
    /// When the table or the record cannot be read.
    pub fn get<R: Record>(&self, key: &R::Key) -> Result<Option<R>, StoreError> {
        match self.transaction.open_table(table::<R>()) {
            Ok(table) => get(&table, key),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(failed::<R>("read")(error.into())),
        }
    }

    /// All records, in the order of their keys' text.
    ///
    /// # Errors
    /// When the table or a record cannot be read.
    pub fn list<R: Record>(&self) -> Result<Vec<R>, StoreError> {
        match self.transaction.open_table(table::<R>()) {
            Ok(table) => list(&table, ""),
            Err(TableError::TableDoesNotExist(_)) => Ok(Vec::new()),
            Err(error) => Err(failed::<R>("read")(error.into())),
        }
    }
}

/// A change under way: sees the store as it was, with its own changes.
pub struct Writer {
    transaction: WriteTransaction,
}

impl Writer {
    pub(crate) fn new(transaction: WriteTransaction) -> Self {
        Self { transaction }
    }

    pub(crate) fn commit(self) -> Result<(), StoreError> {
        let failed = |error: redb::CommitError| {
            StoreError::from_redb(
                "cannot put a change on stable storage".to_owned(),
                error.into(),
            )
        };
        self.transaction.commit().map_err(failed)
    }

    /// The record of that key.
    ///
    /// # Errors
    /// When the table or the record cannot be read.
    pub fn get<R: Record>(&self, key: &R::Key) -> Result<Option<R>, StoreError> {
        let table = self
            .transaction
            .open_table(table::<R>())
            .map_err(|error| failed::<R>("read")(error.into()))?;
        get(&table, key)
    }

    /// All records, in the order of their keys' text.
    ///
    /// # Errors
    /// When the table or a record cannot be read.
    pub fn list<R: Record>(&self) -> Result<Vec<R>, StoreError> {
        let table = self
            .transaction
            .open_table(table::<R>())
            .map_err(|error| failed::<R>("read")(error.into()))?;
        list(&table, "")
    }

    /// The records whose keys' text begins with `prefix`, in the order of their keys' text.
    ///
    /// # Errors
    /// When the table or a record cannot be read.
    pub fn list_under<R: Record>(&self, prefix: &str) -> Result<Vec<R>, StoreError> {
        let table = self
            .transaction
            .open_table(table::<R>())
            .map_err(|error| failed::<R>("read")(error.into()))?;
        list(&table, prefix)
    }

    /// Keeps a record, in place of one of the same key.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put<R: Record>(&self, record: &R) -> Result<(), StoreError> {
        let key = record.key().to_string();
        let bytes = serde_json::to_vec(record)
            .map_err(|error| StoreError::record(R::TABLE, &key, error))?;
        let mut table = self
            .transaction
            .open_table(table::<R>())
            .map_err(|error| failed::<R>("write")(error.into()))?;
        table
            .insert(key.as_str(), bytes.as_slice())
            .map_err(|error| failed::<R>("write")(error.into()))?;
        Ok(())
    }

    /// Removes the record of that key; whether there was one.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn delete<R: Record>(&self, key: &R::Key) -> Result<bool, StoreError> {
        let mut table = self
            .transaction
            .open_table(table::<R>())
            .map_err(|error| failed::<R>("write")(error.into()))?;
        let former = table
            .remove(key.to_string().as_str())
            .map_err(|error| failed::<R>("write")(error.into()))?;
        Ok(former.is_some())
    }
}
