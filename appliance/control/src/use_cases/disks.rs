//! Disks.

use crate::{
    Control, ControlError, ErrorKind, Result,
    commands::{CreateDisk, DiskFilter},
    core::{Transaction, check_room, to_the_end},
    model::{Disk, DiskCategory, DiskRole, DiskState, EventSubject},
    tokens::Ticket,
    use_cases::{check_names, networks::first_of, oldest_first},
};
use instance::admission::check_disk_size;
use types::DiskId;

impl Control {
    /// Makes an empty data disk (ECS CreateDisk). Answers when it is `Available`.
    pub async fn create_disk(&self, command: CreateDisk) -> Result<Disk> {
        check_names(command.name.as_deref(), None)?;
        check_disk_size(command.size)?;
        let ticket = Ticket::new("CreateDisk", &command.request, &command)?;
        let disks = self.inner.disks.clone();
        let create = move |transaction: &mut Transaction<'_>| {
            if let Some(ids) = ticket.former::<DiskId>(transaction)? {
                return Ok((first_of(transaction, &ids, "DiskId", "disk")?, None));
            }
            let limit = transaction.core().settings.limits.max_disks;
            check_room("disks", transaction.all::<Disk>().len(), 1, limit)?;
            ticket.end_dry_run()?;
            let disk = Disk {
                id: DiskId::generate(transaction.random()),
                name: command.name,
                role: DiskRole::Data,
                category: DiskCategory::CloudEssd,
                state: DiskState::Creating,
                size: command.size,
                image: None,
                instance: None,
                delete_with_instance: false,
                allocated: false,
                prepaid: false,
                created_at: transaction.core().now(),
                attached_at: None,
            };
            let making = disks.begin(disk.id);
            transaction.put(&disk)?;
            let message = format!("disk {} of {} is being made", disk.id, disk.size);
            transaction.event(EventSubject::Disk(disk.id, Some(disk.state)), message);
            ticket.answered(transaction, &[disk.id])?;
            Ok((disk, Some(making)))
        };
        let (core, disks) = (self.core().clone(), self.inner.disks.clone());
        to_the_end(async move {
            let (disk, _making) = core.write(create).await?;
            if disk.state == DiskState::Creating {
                disks.finish(disk).await
            } else {
                Ok(disk)
            }
        })
        .await
    }

    /// The disk of that id (`InvalidDiskId.NotFound`).
    pub async fn disk(&self, id: DiskId) -> Result<Disk> {
        self.core().get(&id)?.ok_or_else(|| unknown(id))
    }

    /// The disks the filter lets through, oldest first (ECS DescribeDisks).
    pub async fn disks(&self, filter: &DiskFilter) -> Result<Vec<Disk>> {
        let all = self.core().all::<Disk>();
        let asked = all.values().filter(|disk| {
            (filter.ids.is_empty() || filter.ids.contains(&disk.id))
                && (filter.instance.is_none() || disk.instance == filter.instance)
        });
        let mut disks: Vec<Disk> = asked.map(|disk| (**disk).clone()).collect();
        oldest_first(&mut disks, |disk| (disk.created_at, disk.id));
        Ok(disks)
    }

    /// Deletes a disk of no instance (ECS DeleteDisk; `IncorrectDiskStatus` otherwise).
    pub async fn delete_disk(&self, id: DiskId) -> Result<()> {
        let delete = move |transaction: &mut Transaction<'_>| {
            let mut disk = transaction.get::<Disk>(&id)?.ok_or_else(|| unknown(id))?;
            if disk.state == DiskState::Deleting {
                return Ok(disk);
            }
            if disk.state != DiskState::Available {
                let of = disk
                    .instance
                    .map(|instance| format!(" of instance {instance}"))
                    .unwrap_or_default();
                let message = format!(
                    "The disk {id} is {}{of}; only an Available disk can be deleted.",
                    disk.state.name()
                );
                return Err(ControlError::new(
                    ErrorKind::IncorrectState,
                    "IncorrectDiskStatus",
                    message,
                )
                .with_next_step("Release the instance it is of first."));
            }
            disk.state = DiskState::Deleting;
            transaction.put(&disk)?;
            transaction.event(
                EventSubject::Disk(id, Some(disk.state)),
                format!("disk {id} is being deleted"),
            );
            Ok(disk)
        };
        let (core, disks) = (self.core().clone(), self.inner.disks.clone());
        to_the_end(async move {
            let disk = core.write(delete).await?;
            disks.remove(disk.id, disk.category).await
        })
        .await
    }
}

pub(crate) fn unknown(id: DiskId) -> ControlError {
    ControlError::not_found("DiskId", "disk", &id)
}
