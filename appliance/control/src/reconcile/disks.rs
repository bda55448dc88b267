//! Disks of no instance: made, and deleted.

use crate::{
    ControlError, Result,
    core::{Core, Transaction, blocking, lock},
    model::{Disk, DiskCategory, DiskState, EventSubject},
    use_cases::meters,
};
use ledger::{Usage, UsageKey};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};
use types::DiskId;

#[derive(Clone)]
pub(crate) struct Disks {
    core: Arc<Core>,
    /// Those that requests are making at the moment.
    making: Arc<Mutex<BTreeSet<DiskId>>>,
}

/// A disk is being made as long as there is this.
pub(crate) struct Making {
    disks: Disks,
    id: DiskId,
}

impl Drop for Making {
    fn drop(&mut self) {
        lock(&self.disks.making).remove(&self.id);
    }
}

impl Disks {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            making: Arc::default(),
        }
    }

    /// A request begins to make a disk, which nobody else finishes or removes meanwhile.
    pub(crate) fn begin(&self, id: DiskId) -> Making {
        lock(&self.making).insert(id);
        Making {
            disks: self.clone(),
            id,
        }
    }

    /// Whether a request is making that disk.
    pub(crate) fn makes(&self, id: DiskId) -> bool {
        lock(&self.making).contains(&id)
    }

    /// Makes the file of a disk that is Creating; then it is Available. When that fails, nothing of the disk is left.
    pub(crate) async fn finish(&self, disk: Disk) -> Result<Disk> {
        let volumes = self.core.ports.volumes.clone();
        let (id, size, category) = (disk.id, disk.size, disk.category);
        let made = blocking(move || {
            volumes
                .create_disk(id, size, category)
                .and_then(|()| volumes.sync_disk(id, category))
        })
        .await?;
        if let Err(error) = made {
            // If it cannot be removed now, the sweeper does it.
            self.core
                .write(move |transaction| condemn(transaction, id))
                .await?;
            self.remove(id, category).await?;
            return Err(error.into());
        }
        let available = move |transaction: &mut Transaction<'_>| {
            let found = transaction.get::<Disk>(&id)?;
            let mut disk = found.ok_or_else(|| ControlError::not_found("DiskId", "disk", &id))?;
            if disk.state == DiskState::Creating {
                disk.state = DiskState::Available;
                disk.allocated = true;
                transaction.put(&disk)?;
                transaction.open_usage(disk_usage(&disk));
                transaction.event(
                    EventSubject::Disk(id, Some(disk.state)),
                    format!("disk {id} is available"),
                );
            }
            Ok(disk)
        };
        self.core.write(available).await
    }

    /// Deletes a disk: its file, then its record.
    pub(crate) async fn remove(&self, id: DiskId, category: DiskCategory) -> Result<()> {
        let volumes = self.core.ports.volumes.clone();
        blocking(move || volumes.delete_disk(id, category)).await??;
        let deleted = move |transaction: &mut Transaction<'_>| erase(transaction, id);
        self.core.write(deleted).await
    }
}

/// The use of a disk that is there.
pub(crate) fn disk_usage(disk: &Disk) -> Usage {
    Usage::DiskAllocated {
        disk: disk.id,
        category: disk.category.name().to_owned(),
        size: disk.size,
    }
}

fn condemn(transaction: &mut Transaction<'_>, id: DiskId) -> Result<()> {
    if let Some(mut disk) = transaction.get::<Disk>(&id)? {
        disk.state = DiskState::Deleting;
        transaction.put(&disk)?;
    }
    Ok(())
}

/// Erases a disk's record; its use ends.
pub(crate) fn erase(transaction: &mut Transaction<'_>, id: DiskId) -> Result<()> {
    if transaction.delete::<Disk>(&id)? {
        transaction.close_usage(UsageKey::disk_allocated(id));
        meters::end_all(transaction, &id.to_string())?;
        transaction.event(EventSubject::Disk(id, None), format!("disk {id} deleted"));
    }
    Ok(())
}
