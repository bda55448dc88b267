//! Changing a partition table: new partitions in free space, and a whole new table on an empty disk.
//!
//! The backup at the end of the disk is written before the table at its beginning, so that at every moment one of the two is
//! whole: firmware and kernel take the one that is (UEFI 2.10 §5.3.2).

use std::{
    fs::File,
    os::fd::AsFd as _,
    path::Path,
    time::{Duration, Instant},
};

use gpt::{
    GptConfig,
    partition_types::{OperatingSystem, Type},
};
use image_format::layout::{self, ALIGNMENT_BYTES};
use rustix::{
    io::Errno,
    ioctl::{Opcode, Updater, ioctl, opcode},
};

use crate::{
    Disk, DiskError, ErrorKind, Partition,
    disks::{block_size, partitions},
    overlay::Overlay,
};

/// How long the kernel gets to show a new partition.
const PATIENCE: Duration = Duration::from_secs(10);

/// Adds the data partition in the largest free space of a disk that has a table. A disk that has grown since is used to its end.
///
/// # Errors
/// There is no free space of that kind, or the disk cannot be written.
pub(crate) fn add_data(disk: &Disk) -> Result<Partition, DiskError> {
    change(disk, false, &[(layout::DATA, None)])?;
    wait_for(disk, layout::DATA.name)
}

/// Gives a disk a new table with a state and a data partition. Whatever was on it is gone.
///
/// # Errors
/// The disk is too small, or cannot be written.
pub(crate) fn make_state_and_data(disk: &Disk) -> Result<(), DiskError> {
    change(
        disk,
        true,
        &[
            (layout::STATE, Some(layout::STATE_BYTES)),
            (layout::DATA, None),
        ],
    )?;
    wait_for(disk, layout::STATE.name)?;
    wait_for(disk, layout::DATA.name).map(drop)
}

/// Adds partitions of the given sizes, the last of them as large as can be.
fn change(
    disk: &Disk,
    new: bool,
    wanted: &[(layout::Partition, Option<u64>)],
) -> Result<(), DiskError> {
    let device = File::options()
        .read(true)
        .write(true)
        .open(&disk.path)
        .map_err(DiskError::io("write to", &disk.path))?;
    let io = || DiskError::io("change the partition table of", &disk.path);
    let failed = |error: gpt::GptError| {
        DiskError::new(
            ErrorKind::Damaged,
            format!(
                "the partition table of {} cannot be changed",
                disk.path.display()
            ),
            "Check the disk; a damaged table is repaired by flashing the disk anew.",
        )
        .because(error)
    };
    let mut overlay = Overlay::new(&device).map_err(io())?;
    let size = block_size(disk.sector);
    if new {
        let sectors = u32::try_from(disk.size / disk.sector - 1).unwrap_or(u32::MAX);
        gpt::mbr::ProtectiveMBR::with_lb_size(sectors)
            .overwrite_lba0(&mut overlay)
            .map_err(|error| io()(std::io::Error::other(error)))?;
    }
    let config = GptConfig::new().writable(true).logical_block_size(size);
    let mut table = if new {
        config
            .create_from_device(&mut overlay, None)
            .map_err(failed)?
    } else {
        config.open_from_device(&mut overlay).map_err(failed)?
    };
    // Makes the headers anew, for the disk's size of today.
    table
        .update_partitions(table.partitions().clone())
        .map_err(failed)?;
    for (what, bytes) in wanted {
        let alignment = ALIGNMENT_BYTES / disk.sector;
        let (start, room) = table
            .find_free_sectors()
            .into_iter()
            .map(|(start, length)| {
                let aligned = start.next_multiple_of(alignment);
                (
                    aligned,
                    (start + length).saturating_sub(aligned) / alignment * alignment,
                )
            })
            .max_by_key(|(_, length)| *length)
            .unwrap_or_default();
        let length = bytes.map_or(room, |bytes| bytes / disk.sector);
        let least = bytes.unwrap_or(layout::MIN_DATA_BYTES) / disk.sector;
        if length > room || room < least {
            return Err(DiskError::new(
                ErrorKind::Full,
                format!(
                    "{} has {} MiB free, and a partition {} needs {} MiB",
                    disk.path.display(),
                    (room * disk.sector) >> 20,
                    what.name,
                    (least * disk.sector) >> 20
                ),
                "Use a larger disk, or name another one for the data in the configuration.",
            ));
        }
        let kind = Type {
            guid: what.type_guid.parse().unwrap_or_default(),
            os: OperatingSystem::None,
        };
        let number = table.find_next_partition_id().unwrap_or(what.number);
        table
            .add_partition_at(what.name, number, start, length, kind, 0)
            .map_err(failed)?;
    }
    table.write().map_err(failed)?;
    overlay.write_back_half_first().map_err(io())?;
    if disk.path.starts_with("/dev") {
        announce(&device, disk)?;
    }
    Ok(())
}

/// Tells the kernel of partitions it does not know yet. Those in use stay as they are, which reading the whole table again would
/// not allow.
fn announce(device: &File, disk: &Disk) -> Result<(), DiskError> {
    for partition in partitions(device, &disk.path, disk.sector) {
        if partition.path.exists() {
            continue;
        }
        let doing = DiskError::io::<std::io::Error>(
            "tell the kernel of the new partition",
            &partition.path,
        );
        add_partition(device, &partition).map_err(|error| doing(error.into()))?;
    }
    Ok(())
}

/// linux/blkpg.h, struct blkpg_partition.
#[repr(C)]
struct NewPartition {
    start: i64,
    length: i64,
    number: i32,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

/// linux/blkpg.h, struct blkpg_ioctl_arg.
#[repr(C)]
struct Request {
    operation: i32,
    flags: i32,
    length: i32,
    data: *mut NewPartition,
}

/// linux/blkpg.h, BLKPG_ADD_PARTITION.
const ADD: i32 = 1;
/// linux/blkpg.h, BLKPG.
const BLKPG: Opcode = opcode::none(0x12, 105);

#[allow(unsafe_code)]
fn add_partition(device: &File, partition: &Partition) -> rustix::io::Result<()> {
    let number = |value: u64| i64::try_from(value).map_err(|_| Errno::OVERFLOW);
    let mut new = NewPartition {
        start: number(partition.start)?,
        length: number(partition.size)?,
        number: i32::try_from(partition.number).map_err(|_| Errno::OVERFLOW)?,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let mut request = Request {
        operation: ADD,
        flags: 0,
        length: i32::try_from(size_of::<NewPartition>()).map_err(|_| Errno::OVERFLOW)?,
        data: &raw mut new,
    };
    // SAFETY: BLKPG reads one `Request`, and behind its pointer one `NewPartition`; both have the kernel's layout and live until the
    // call returns. It writes to neither.
    unsafe { ioctl(device.as_fd(), Updater::<BLKPG, Request>::new(&mut request)) }
}

/// The partition of that name, once its device file is there.
fn wait_for(disk: &Disk, name: &str) -> Result<Partition, DiskError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let device = File::open(&disk.path).map_err(DiskError::io("read the disk", &disk.path))?;
        let found = partitions(&device, &disk.path, disk.sector)
            .into_iter()
            .find(|partition| partition.name == name);
        if let Some(partition) = found
            && (partition.path.exists() || !disk.path.starts_with("/dev"))
        {
            return Ok(partition);
        }
        if Instant::now() >= deadline {
            return Err(DiskError::new(
                ErrorKind::NotFound,
                format!(
                    "the new partition {name} of {} does not appear",
                    disk.path.display()
                ),
                "Reboot: the kernel reads the table again then.",
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A link or a device file as the device file itself; for comparing.
pub(crate) fn same_device(one: &Path, two: &Path) -> bool {
    match (one.canonicalize(), two.canonicalize()) {
        (Ok(one), Ok(two)) => one == two,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, mib: u64) -> Disk {
        let path = folder.join("disk");
        File::create(&path).unwrap().set_len(mib << 20).unwrap();
        Disk::open(&path).unwrap()
    }

    #[test]
    fn an_empty_disk_gets_state_and_data_and_a_full_one_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let disk = file(folder.path(), 1024);
        make_state_and_data(&disk).unwrap();
        let disk = Disk::open(&disk.path).unwrap();
        let found: Vec<_> = disk
            .partitions
            .iter()
            .map(|p| (p.name.as_str(), p.size >> 20))
            .collect();
        assert_eq!(found[0], ("ashlar-state", 8));
        assert!(
            found[1].0 == "ashlar-data" && found[1].1 > 1000,
            "{found:?}"
        );
        let error = add_data(&disk).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full);
    }

    #[test]
    fn a_disk_that_has_grown_is_used_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let disk = file(folder.path(), 1024);
        make_state_and_data(&disk).unwrap();
        File::options()
            .write(true)
            .open(&disk.path)
            .unwrap()
            .set_len(4 << 30)
            .unwrap();
        let disk = Disk::open(&disk.path).unwrap();
        let added = add_data(&disk);
        assert!(added.is_ok(), "{added:?}");
        let disk = Disk::open(&disk.path).unwrap();
        let last = disk
            .partitions
            .iter()
            .map(|p| p.start + p.size)
            .max()
            .unwrap();
        assert!(last > (4 << 30) - (4 << 20), "{last}");
    }

    #[test]
    fn a_disk_that_is_too_small_is_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let disk = file(folder.path(), 64);
        assert_eq!(
            make_state_and_data(&disk).unwrap_err().kind(),
            ErrorKind::Full
        );
        assert!(Disk::open(&disk.path).unwrap().is_blank().unwrap());
    }
}
