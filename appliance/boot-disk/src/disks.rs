//! Which disks there are, and what is on them.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use gpt::{GptConfig, disk::LogicalBlockSize};

use crate::{DiskError, ErrorKind};

/// Block devices that are no disks.
const OTHERS: [&str; 6] = ["loop", "ram", "zram", "dm-", "md", "sr"];
/// How much of a disk's beginning and end must be zero for it to be blank, bytes.
const BLANK_BYTES: u64 = 1 << 20;

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name: `vda`.
    pub name: String,
    /// Its device file.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Bytes of a logical sector: 512 or 4096.
    pub sector: u64,
    /// What it calls itself, if it does.
    pub model: Option<String>,
    /// Its serial number, if it tells.
    pub serial: Option<String>,
    /// Whether it refuses writes.
    pub read_only: bool,
    /// Its partitions, if it has a GPT.
    pub partitions: Vec<Partition>,
}

/// A partition of a GPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 1.
    pub number: u32,
    /// Its device file.
    pub path: PathBuf,
    /// Its name in the table.
    pub name: String,
    /// Its type's GUID, upper case.
    pub type_guid: String,
    /// Its own GUID, lower case.
    pub partuuid: String,
    /// Where it begins, bytes.
    pub start: u64,
    /// Bytes.
    pub size: u64,
}

impl Disk {
    /// All disks, by name.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut disks: Vec<Self> = fs::read_dir("/sys/block")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !OTHERS.iter().any(|other| name.starts_with(other)))
            .filter_map(|name| Self::open(&Path::new("/dev").join(&name)).ok())
            .collect();
        disks.sort_by(|one, two| one.name.cmp(&two.name));
        disks
    }

    /// The disk with that device file, with what its table says. Links such as those in `/dev/disk` are followed.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let path = fs::canonicalize(path).map_err(DiskError::io("find the disk", path))?;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let about = |file: &str| {
            let text =
                fs::read_to_string(Path::new("/sys/class/block").join(&name).join(file)).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let mut device = File::open(&path).map_err(DiskError::io("read the disk", &path))?;
        let size = device
            .seek(SeekFrom::End(0))
            .map_err(DiskError::io("measure the disk", &path))?;
        let sector = about("queue/logical_block_size")
            .and_then(|text| text.parse().ok())
            .unwrap_or(512);
        let partitions = partitions(&device, &path, sector);
        Ok(Self {
            model: about("device/model"),
            serial: about("serial").or_else(|| about("device/serial")),
            read_only: about("ro").as_deref() == Some("1"),
            name,
            path,
            size,
            sector,
            partitions,
        })
    }

    /// Whether there is nothing on it: no partition table, and only zeros in its first and last MiB.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_blank(&self) -> Result<bool, DiskError> {
        let failed = || DiskError::io("read the disk", &self.path);
        let mut device = File::open(&self.path).map_err(failed())?;
        for at in [0, self.size.saturating_sub(BLANK_BYTES)] {
            device.seek(SeekFrom::Start(at)).map_err(failed())?;
            let mut bytes = Vec::new();
            (&device)
                .take(BLANK_BYTES)
                .read_to_end(&mut bytes)
                .map_err(failed())?;
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// For people: `/dev/vda (10 GiB, QEMU HARDDISK, serial abc)`.
    #[must_use]
    pub fn described(&self) -> String {
        let mut text = format!("{} ({} GiB", self.path.display(), self.size >> 30);
        if let Some(model) = &self.model {
            text.push_str(&format!(", {model}"));
        }
        if let Some(serial) = &self.serial {
            text.push_str(&format!(", serial {serial}"));
        }
        text.push(')');
        text
    }

    /// The disk that a configuration names: by its device file, or by `serial:…`.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> Result<Self, DiskError> {
        let Some(serial) = name.strip_prefix("serial:") else {
            return Self::open(Path::new(name));
        };
        Self::all()
            .into_iter()
            .find(|disk| disk.serial.as_deref() == Some(serial))
            .ok_or_else(|| {
                let known: Vec<String> = Self::all().iter().map(Self::described).collect();
                DiskError::new(
                    ErrorKind::NotFound,
                    format!("there is no disk with the serial number {serial}; there are: {}", known.join(", ")),
                    "Write the serial number as the disk tells it, or name the disk by its device file.",
                )
            })
    }
}

/// The partitions of a device's table; none without a valid one.
pub(crate) fn partitions(device: &File, path: &Path, sector: u64) -> Vec<Partition> {
    let size = block_size(sector);
    let Ok(table) = GptConfig::new()
        .logical_block_size(size)
        .open_from_device(device)
    else {
        return Vec::new();
    };
    table
        .partitions()
        .iter()
        .filter(|(_, partition)| partition.is_used())
        .map(|(number, partition)| Partition {
            number: *number,
            path: partition_path(path, *number),
            name: partition.name.clone(),
            type_guid: partition
                .part_type_guid
                .guid
                .to_string()
                .to_ascii_uppercase(),
            partuuid: partition.part_guid.to_string(),
            start: partition.first_lba * sector,
            size: partition.bytes_len(size).unwrap_or_default(),
        })
        .collect()
}

pub(crate) fn block_size(sector: u64) -> LogicalBlockSize {
    if sector == 4096 {
        LogicalBlockSize::Lb4096
    } else {
        LogicalBlockSize::Lb512
    }
}

/// `/dev/vda` 1 → `/dev/vda1`, `/dev/nvme0n1` 1 → `/dev/nvme0n1p1`.
pub(crate) fn partition_path(disk: &Path, number: u32) -> PathBuf {
    let disk = disk.to_string_lossy();
    let between = if disk.ends_with(|c: char| c.is_ascii_digit()) {
        "p"
    } else {
        ""
    };
    PathBuf::from(format!("{disk}{between}{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_called_as_the_kernel_calls_them() {
        for (disk, expected) in [
            ("/dev/vda", "/dev/vda2"),
            ("/dev/nvme0n1", "/dev/nvme0n1p2"),
            ("/dev/mmcblk0", "/dev/mmcblk0p2"),
        ] {
            assert_eq!(partition_path(Path::new(disk), 2), Path::new(expected));
        }
    }

    #[test]
    fn a_file_of_zeros_is_blank_until_something_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let file = File::create(&path).unwrap();
        file.set_len(8 << 20).unwrap();
        assert!(Disk::open(&path).unwrap().is_blank().unwrap());
        for at in [510, (8 << 20) - 1] {
            std::os::unix::fs::FileExt::write_all_at(&file, &[1], at).unwrap();
            assert!(!Disk::open(&path).unwrap().is_blank().unwrap(), "{at}");
            std::os::unix::fs::FileExt::write_all_at(&file, &[0], at).unwrap();
        }
        let error = Disk::named("/dev/no-such-disk").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(
            Disk::named("serial:none")
                .unwrap_err()
                .to_string()
                .contains("serial number none")
        );
    }
}
