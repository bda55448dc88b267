//! Disks of no instance: made, and deleted.

use crate::{
    ControlError, Result,
    core::{Core, Transaction, blocking},
    model::{Disk, DiskState, EventSubject},
    reconcile::actor::DISK_CATEGORY,
};
use ledger::{Usage, UsageKey};
use std::sync::Arc;
use types::DiskId;

#[derive(Clone)]
pub(crate) struct Disks {
    core: Arc<Core>,
}

impl Disks {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Makes the file of a disk that is Creating; then it is Available. When that fails, nothing of the disk is left.
    pub(crate) async fn finish(&self, disk: Disk) -> Result<Disk> {
        let volumes = self.core.ports.volumes.clone();
        let (id, size) = (disk.id, disk.size);
        let made = blocking(move || {
            volumes
                .create_disk(id, size)
                .and_then(|()| volumes.sync_disk(id))
        })
        .await?;
        if let Err(error) = made {
            // If it cannot be removed now, the sweeper does it.
            self.core
                .write(move |transaction| condemn(transaction, id))
                .await?;
            self.remove(id).await?;
            return Err(error.into());
        }
        let available = move |transaction: &mut Transaction<'_>| {
            let found = transaction.get::<Disk>(&id)?;
            let mut disk = found.ok_or_else(|| ControlError::not_found("DiskId", "disk", &id))?;
            if disk.state == DiskState::Creating {
                disk.state = DiskState::Available;
                disk.allocated = true;
                transaction.put(&disk)?;
                transaction.open_usage(Usage::DiskAllocated {
                    disk: id,
                    category: DISK_CATEGORY.to_owned(),
                    size: disk.size,
                });
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
    pub(crate) async fn remove(&self, id: DiskId) -> Result<()> {
        let volumes = self.core.ports.volumes.clone();
        blocking(move || volumes.delete_disk(id)).await??;
        let deleted = move |transaction: &mut Transaction<'_>| erase(transaction, id);
        self.core.write(deleted).await
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
        transaction.event(EventSubject::Disk(id, None), format!("disk {id} deleted"));
    }
    Ok(())
}
