//! The host's record, wherever it can be kept.

use std::{fs::File, path::Path};

use boot_disk::{DiskError, HostRecord, StateStore};

/// On the state partition; or in memory, when there is none that works.
pub(crate) enum Records {
    /// It survives.
    Kept(Box<StateStore<File>>),
    /// It is gone with the next reboot.
    Forgotten(Box<HostRecord>),
}

impl Records {
    /// The record on a partition.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(partition: &Path) -> Result<Self, DiskError> {
        Ok(Self::Kept(Box::new(StateStore::open(partition)?)))
    }

    pub fn record(&self) -> &HostRecord {
        match self {
            Self::Kept(store) => store.record(),
            Self::Forgotten(record) => record,
        }
    }

    /// Changes the record; on stable storage when this returns, if it can be kept at all.
    ///
    /// # Errors
    /// It cannot be written; it is as before then.
    pub fn update(&mut self, change: impl FnOnce(&mut HostRecord)) -> Result<(), DiskError> {
        match self {
            Self::Kept(store) => store.update(change),
            Self::Forgotten(record) => {
                change(record);
                Ok(())
            }
        }
    }
}
