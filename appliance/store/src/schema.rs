//! The meaning of the records has versions, and a store goes from one to the next and back.
//!
//! ```text
//!            up: by the newer daemon, when it opens the store; first it leaves a copy of itself beside it
//!   schema n ───────────────────────────────────────────────────────────────────────────────────────▶ schema n+1
//!            ◀───────────────────────────────────────────────────────────────────────────────────────
//!            down: by that copy, when an older daemon finds a store it does not know
//! ```
//!
//! Each way is one transaction: a power cut leaves the store in the one schema or in the other. The copy is what makes going
//! back possible whatever became of the newer daemon: only it knows what its records mean.

use crate::StoreError;
use redb::{ReadableTable, TableDefinition, TableError, WriteTransaction};
use serde_json::Value;
use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// The folder of the programs that know how to go back, one for each schema, named by its number.
const MIGRATORS: &str = "migrators";

/// The schemas a program knows.
#[derive(Clone, Copy)]
pub struct Schema {
    /// The one it works with.
    pub version: u64,
    /// How to get from one to the next and back, in order: the last one leads to `version`.
    pub migrations: &'static [Migration],
}

/// What a migration does to the tables, one way.
pub type Step = fn(&Tables<'_>) -> Result<(), StoreError>;

/// One step between two schemas.
#[derive(Clone, Copy)]
pub struct Migration {
    /// The schema it leads to, from the one before.
    pub to: u64,
    /// Makes records of the schema before into records of `to`.
    pub up: Step,
    /// Makes records of `to` into records of the schema before. Nothing that the older program needs may be lost.
    pub down: Step,
}

impl Schema {
    /// The steps from schema `from` to schema `to`, in the order in which they are made.
    ///
    /// # Errors
    /// [`ErrorKind::Newer`](crate::ErrorKind::Newer) when a step is not known.
    pub(crate) fn path(&self, from: u64, to: u64) -> Result<Vec<Step>, StoreError> {
        let step = |wanted: u64| {
            self.migrations
                .iter()
                .find(|migration| migration.to == wanted)
                .ok_or_else(|| StoreError::no_way(from, to, self.version))
        };
        if from <= to {
            (from + 1..=to).map(|n| step(n).map(|m| m.up)).collect()
        } else {
            (to + 1..=from)
                .rev()
                .map(|n| step(n).map(|m| m.down))
                .collect()
        }
    }
}

/// The tables of a store in the middle of a migration: records as the JSON they are kept as.
pub struct Tables<'a> {
    transaction: &'a WriteTransaction,
}

impl<'a> Tables<'a> {
    pub(crate) fn new(transaction: &'a WriteTransaction) -> Self {
        Self { transaction }
    }

    /// Shows each record of a table, with its key, to `look`. A table that is not there has none.
    ///
    /// # Errors
    /// The closure's, or when the table cannot be read.
    pub fn look(
        &self,
        table: &str,
        mut look: impl FnMut(&str, &Value) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for (key, value) in self.records(table)? {
            look(&key, &value)?;
        }
        Ok(())
    }

    fn records(&self, table: &str) -> Result<Vec<(String, Value)>, StoreError> {
        let failed = |error: redb::Error| {
            StoreError::from_redb(format!("cannot migrate table {table}"), error)
        };
        let definition: TableDefinition<'_, &'static str, &'static [u8]> =
            TableDefinition::new(table);
        let open = match self.transaction.open_table(definition) {
            Ok(open) => open,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(failed(error.into())),
        };
        let mut records = Vec::new();
        for entry in open.iter().map_err(|error| failed(error.into()))? {
            let (key, bytes) = entry.map_err(|error| failed(error.into()))?;
            let key = key.value().to_owned();
            let value: Value = serde_json::from_slice(bytes.value())
                .map_err(|error| StoreError::record(table, &key, error))?;
            records.push((key, value));
        }
        Ok(records)
    }

    /// Passes each record of a table, with its key, through `change`; `None` deletes it. A table that is not there has none.
    ///
    /// # Errors
    /// The closure's, or when the table cannot be read or written.
    pub fn rewrite(
        &self,
        table: &str,
        mut change: impl FnMut(&str, Value) -> Result<Option<Value>, StoreError>,
    ) -> Result<(), StoreError> {
        let failed = |error: redb::Error| {
            StoreError::from_redb(format!("cannot migrate table {table}"), error)
        };
        let definition: TableDefinition<'_, &'static str, &'static [u8]> =
            TableDefinition::new(table);
        let records = self.records(table)?;
        if records.is_empty() {
            return Ok(());
        }
        let mut open = self
            .transaction
            .open_table(definition)
            .map_err(|error| failed(error.into()))?;
        for (key, value) in records {
            match change(&key, value)? {
                Some(value) => {
                    let bytes = serde_json::to_vec(&value)
                        .map_err(|error| StoreError::record(table, &key, error))?;
                    open.insert(key.as_str(), bytes.as_slice())
                        .map_err(|error| failed(error.into()))?;
                }
                None => {
                    open.remove(key.as_str())
                        .map_err(|error| failed(error.into()))?;
                }
            }
        }
        Ok(())
    }
}

/// The program that can take the store of `folder` back from schema `version`, if its daemon left one.
#[must_use]
pub fn migrator(folder: &Path, version: u64) -> Option<PathBuf> {
    let path = folder.join(MIGRATORS).join(version.to_string());
    path.is_file().then_some(path)
}

/// Leaves `program` as what takes the store of `folder` back from schema `version`. Whole and on stable storage when this
/// returns; those of other schemas go, because nothing can need them any more.
pub(crate) fn leave_migrator(
    folder: &Path,
    version: u64,
    program: &Path,
) -> Result<(), StoreError> {
    let dir = folder.join(MIGRATORS);
    let failed = |what: &Path| {
        let message = format!(
            "cannot keep the program that goes back from the new schema, {}",
            what.display()
        );
        move |error| StoreError::io(message, error)
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .map_err(failed(&dir))?;
    let target = dir.join(version.to_string());
    let part = dir.join("part");
    let copy = || -> std::io::Result<()> {
        let mut from = fs::File::open(program)?;
        let mut to = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o700)
            .open(&part)?;
        std::io::copy(&mut from, &mut to)?;
        to.flush()?;
        to.sync_all()?;
        fs::rename(&part, &target)?;
        fs::File::open(&dir)?.sync_all()
    };
    copy().map_err(failed(&target))?;
    for entry in fs::read_dir(&dir).map_err(failed(&dir))?.flatten() {
        if entry.path() != target {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}
