//! The disks that a request for instances asks for.

use crate::{
    ControlError, ErrorKind, Result,
    commands::{DataDisk, RunInstances},
    core::Transaction,
    model::{Disk, DiskCategory, DiskState, Image},
    use_cases::disks,
};
use instance::{admission::check_disk_size, local_disks};
use std::collections::BTreeSet;
use types::ByteCount;

/// The data disks that are made for each instance.
pub(in crate::use_cases) fn new_disks(
    command: &RunInstances,
) -> impl Iterator<Item = (ByteCount, DiskCategory)> + '_ {
    command.data_disks.iter().filter_map(|disk| match disk {
        DataDisk::New { size, category, .. } => Some((*size, *category)),
        DataDisk::Existing(_) => None,
    })
}

/// The local disks that come with a type.
pub(in crate::use_cases) fn local_disks_of(
    instance_type: Option<&str>,
) -> impl ExactSizeIterator<Item = (ByteCount, DiskCategory)> + use<> {
    let local = instance_type.and_then(local_disks);
    let (count, size) = local.map_or((0, ByteCount::ZERO), |local| (local.count, local.size));
    (0..count).map(move |_| (size, DiskCategory::LocalSsdPro))
}

/// The size of the system disk; `None` for an image without one.
pub(super) fn system_disk(command: &RunInstances, image: &Image) -> Result<Option<ByteCount>> {
    let Some(part) = image.disk else {
        if command.system_disk.size.is_some() {
            let message = format!("Image {} has no disk to make a system disk from.", image.id);
            return Err(ControlError::invalid("system_disk.size", message)
                .with_next_step("Leave the system disk out, or take an image with a disk."));
        }
        return Ok(None);
    };
    let least = part
        .size
        .max(ByteCount::GIB)
        .checked_next_multiple_of(ByteCount::GIB)
        .unwrap_or(part.size);
    let size = command.system_disk.size.unwrap_or(least);
    check_disk_size(size)
        .map_err(|refusal| ControlError::from(refusal).with_field("system_disk.size"))?;
    if size < part.size {
        let message = format!(
            "A system disk of {size}: the disk of image {} has {}.",
            image.id, part.size
        );
        return Err(ControlError::invalid("system_disk.size", message)
            .with_next_step(format!("Ask for {least} or more.")));
    }
    Ok(Some(size))
}

/// Refuses existing disks that cannot be given to a new instance.
pub(super) fn check_existing_disks(
    transaction: &Transaction<'_>,
    command: &RunInstances,
) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (position, disk) in command.data_disks.iter().enumerate() {
        let DataDisk::Existing(id) = disk else {
            continue;
        };
        let field = format!("data_disks[{position}]");
        if !seen.insert(*id) {
            return Err(ControlError::invalid(
                field,
                format!("Disk {id} is named twice."),
            ));
        }
        let disk = transaction
            .get::<Disk>(id)?
            .ok_or_else(|| disks::unknown(*id).with_field(&field))?;
        if disk.state != DiskState::Available {
            let of = disk
                .instance
                .map(|instance| format!(" of instance {instance}"))
                .unwrap_or_default();
            let message = format!(
                "The disk {id} is {}{of}; only an Available disk can be attached.",
                disk.state.name()
            );
            return Err(ControlError::new(
                ErrorKind::IncorrectState,
                "IncorrectDiskStatus",
                message,
            )
            .with_field(field)
            .with_next_step("Name another disk, or release the instance it is of."));
        }
    }
    Ok(())
}
