//! Which disk the host was booted from.

use image_format::layout;

use crate::{Disk, DiskError, ErrorKind, Partition};

/// The disk with this host's slots and state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootDisk {
    /// The disk.
    pub disk: Disk,
    /// Its EFI system partition.
    pub esp: Partition,
    /// Its state partition.
    pub state: Partition,
}

impl BootDisk {
    /// The disk whose EFI system partition has the PARTUUID that the boot loader reported, or without one the only disk that
    /// looks like a host's. `None`: there is none, as when booted from the network.
    ///
    /// # Errors
    /// There are several that look so.
    pub fn find(disks: &[Disk], reported: Option<&str>) -> Result<Option<Self>, DiskError> {
        let mut found: Vec<Self> = disks.iter().filter_map(Self::of).collect();
        if let Some(reported) = reported
            && found.iter().any(|boot| boot.esp.partuuid == reported)
        {
            // More than one: a disk and a copy of it.
            found.retain(|boot| boot.esp.partuuid == reported);
        }
        if found.len() > 1 {
            let all: Vec<String> = found.iter().map(|boot| boot.disk.described()).collect();
            return Err(DiskError::new(
                ErrorKind::Ambiguous,
                format!(
                    "several disks look like this host's own: {}",
                    all.join(", ")
                ),
                "Remove all but one, or boot from the disk that is meant.",
            ));
        }
        Ok(found.pop())
    }

    fn of(disk: &Disk) -> Option<Self> {
        let find = |what: &layout::Partition| {
            disk.partitions.iter().find(|partition| {
                partition.name == what.name && partition.type_guid == what.type_guid
            })
        };
        Some(Self {
            esp: find(&layout::ESP)?.clone(),
            state: find(&layout::STATE)?.clone(),
            disk: disk.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn disk(name: &str, parts: &[&layout::Partition]) -> Disk {
        let path = PathBuf::from(format!("/dev/{name}"));
        Disk {
            name: name.into(),
            size: 8 << 30,
            sector: 512,
            model: None,
            serial: None,
            read_only: false,
            partitions: parts
                .iter()
                .map(|part| Partition {
                    number: part.number,
                    path: crate::disks::partition_path(&path, part.number),
                    name: part.name.into(),
                    type_guid: part.type_guid.into(),
                    partuuid: format!("{name}-{}", part.number),
                    start: 0,
                    size: 0,
                })
                .collect(),
            path,
        }
    }

    #[test]
    fn the_loaders_word_decides_between_disks() {
        let host = [&layout::ESP, &layout::STATE];
        let disks = [
            disk("vda", &host),
            disk("vdb", &host),
            disk("vdc", &[&layout::ESP]),
        ];
        let found = BootDisk::find(&disks, Some("vdb-1")).unwrap().unwrap();
        assert_eq!(found.disk.name, "vdb");
        let error = BootDisk::find(&disks, Some("other")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Ambiguous);
        assert!(error.to_string().contains("/dev/vda") && error.to_string().contains("/dev/vdb"));
        assert_eq!(
            BootDisk::find(&disks[..1], None)
                .unwrap()
                .unwrap()
                .state
                .partuuid,
            "vda-2"
        );
        assert_eq!(BootDisk::find(&disks[2..], None).unwrap(), None);
    }
}
