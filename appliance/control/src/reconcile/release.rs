//! Releasing an instance that has no machine and no interface any more.

use crate::{
    Result, charged,
    core::{Core, Transaction, blocking},
    model::{Disk, DiskState, EventSubject, Instance, NetworkInterface},
    reconcile::{credits, disks},
    use_cases::meters,
};
use std::sync::Arc;

/// Deletes the files that go with the instance; then, in one transaction, its record and theirs. Disks that stay become
/// Available.
pub(crate) async fn release(core: &Arc<Core>, instance: &Instance) -> Result<()> {
    let (mut going, mut staying) = (Vec::new(), Vec::new());
    for id in instance.system_disk.iter().chain(&instance.data_disks) {
        if let Some(disk) = core.get::<Disk>(id)? {
            // One that never got a file has nothing to stay for.
            if disk.delete_with_instance || !disk.allocated {
                going.push((*id, disk.category))
            } else {
                staying.push(*id)
            }
        }
    }
    let volumes = core.ports.volumes.clone();
    let files = going.clone();
    blocking(move || {
        files
            .into_iter()
            .try_for_each(|(disk, category)| volumes.delete_disk(disk, category))
    })
    .await??;
    core.ports.machines.forget(instance.id).await?;
    let (id, interface) = (instance.id, instance.interface);
    let erase = move |transaction: &mut Transaction<'_>| {
        for (disk, _) in going {
            disks::erase(transaction, disk)?;
        }
        for disk in staying {
            if let Some(mut disk) = transaction.get::<Disk>(&disk)? {
                disk.state = DiskState::Available;
                disk.instance = None;
                disk.attached_at = None;
                // What a subscription paid for is over with its instance.
                if std::mem::take(&mut disk.prepaid) {
                    transaction.open_usage(disks::disk_usage(&disk));
                }
                transaction.put(&disk)?;
                let message = format!("disk {} is available", disk.id);
                transaction.event(EventSubject::Disk(disk.id, Some(disk.state)), message);
            }
        }
        transaction.delete::<NetworkInterface>(&interface)?;
        charged::end(transaction, id);
        meters::end_all(transaction, &id.to_string())?;
        credits::forget(transaction, id)?;
        if transaction.delete::<Instance>(&id)? {
            transaction.event(
                EventSubject::Instance(id, None),
                format!("instance {id} released"),
            );
        }
        Ok(())
    };
    core.write(erase).await
}
