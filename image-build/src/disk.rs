//! The disk image: a GPT (UEFI 2.10 §5.3) with the EFI system partition and an empty state partition.

use std::{
    collections::BTreeMap,
    io::{Read, Seek, SeekFrom, Write},
};

use gpt::{
    GptConfig,
    disk::LogicalBlockSize,
    mbr::ProtectiveMBR,
    partition::Partition,
    partition_types::{OperatingSystem, Type},
};
use image_format::layout::{self, ALIGNMENT_BYTES, SECTOR_BYTES, STATE_BYTES};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::BuildError;

/// Writes a disk with that EFI system partition to `device`, which must hold zeros or nothing. `seed` names the disk and its
/// partitions: the same seed, the same GUIDs. Returns the disk's size, bytes.
///
/// # Errors
/// The device cannot be written.
pub fn write_disk<D>(device: &mut D, esp: &[u8], seed: &str) -> Result<u64, BuildError>
where
    D: Read + Write + Seek + std::fmt::Debug,
{
    let failed =
        |error: gpt::GptError| BuildError::because("cannot write the partition table", error);
    let esp_bytes = (esp.len() as u64).next_multiple_of(ALIGNMENT_BYTES);
    let state_at = ALIGNMENT_BYTES + esp_bytes;
    // The backup table is behind the last partition.
    let size = state_at + STATE_BYTES + ALIGNMENT_BYTES;
    extend(device, size)
        .map_err(|error| BuildError::because("cannot make the disk image", error))?;
    let sectors = u32::try_from(size / SECTOR_BYTES - 1).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(sectors)
        .overwrite_lba0(device)
        .map_err(|error| BuildError::because("cannot write the protective MBR", error))?;
    let mut table = GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(&mut *device, Some(guid(seed, "disk")))
        .map_err(failed)?;
    let partitions = [
        (layout::ESP, ALIGNMENT_BYTES, esp_bytes),
        (layout::STATE, state_at, STATE_BYTES),
    ];
    let entries: BTreeMap<u32, Partition> = partitions
        .into_iter()
        .map(|(what, start, bytes)| {
            (
                what.number,
                entry(&what, start, bytes, guid(seed, what.name)),
            )
        })
        .collect();
    table.update_partitions(entries).map_err(failed)?;
    table.write().map_err(failed)?;
    let write = |device: &mut D| {
        device.seek(SeekFrom::Start(ALIGNMENT_BYTES))?;
        for (index, chunk) in esp.chunks(1 << 20).enumerate() {
            // What is zero is there already.
            if chunk.iter().any(|byte| *byte != 0) {
                device.seek(SeekFrom::Start(ALIGNMENT_BYTES + ((index as u64) << 20)))?;
                device.write_all(chunk)?;
            }
        }
        device.flush()
    };
    write(device).map_err(|error| BuildError::because("cannot write the disk image", error))?;
    Ok(size)
}

fn extend<D: Write + Seek>(device: &mut D, size: u64) -> std::io::Result<()> {
    if device.seek(SeekFrom::End(0))? < size {
        device.seek(SeekFrom::Start(size - 1))?;
        device.write_all(&[0])?;
    }
    Ok(())
}

fn entry(what: &layout::Partition, start: u64, bytes: u64, guid: Uuid) -> Partition {
    Partition {
        part_type_guid: Type {
            guid: what.type_guid.parse().unwrap_or_default(),
            os: OperatingSystem::None,
        },
        part_guid: guid,
        first_lba: start / SECTOR_BYTES,
        last_lba: (start + bytes) / SECTOR_BYTES - 1,
        flags: 0,
        name: what.name.to_owned(),
    }
}

/// A GUID made of a digest (RFC 9562 §5.8), so that two builds agree.
fn guid(seed: &str, what: &str) -> Uuid {
    let digest = Sha256::digest(format!("ashlar image\0{seed}\0{what}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn the_table_is_read_back_and_the_same_seed_gives_the_same_disk() {
        let esp = vec![3; 5 << 20];
        let make = |seed: &str| {
            let mut device = Cursor::new(Vec::new());
            let size = write_disk(&mut device, &esp, seed).unwrap();
            assert_eq!(device.get_ref().len() as u64, size);
            device.into_inner()
        };
        let disk = make("0.1.0 lab");
        assert!(disk == make("0.1.0 lab"));
        assert!(disk != make("0.1.1 lab"));
        let table = GptConfig::new()
            .open_from_device(Cursor::new(disk.clone()))
            .unwrap();
        assert!(table.primary_header().is_ok() && table.backup_header().is_ok());
        let found: Vec<_> = table
            .partitions()
            .values()
            .map(|p| {
                (
                    p.name.as_str(),
                    p.first_lba * 512,
                    p.bytes_len(LogicalBlockSize::Lb512).unwrap(),
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                ("ashlar-esp", 1 << 20, 5 << 20),
                ("ashlar-state", 6 << 20, STATE_BYTES)
            ]
        );
        assert_eq!(&disk[1 << 20..6 << 20], esp);
    }
}
