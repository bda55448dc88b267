//! What is on a disk, for people who are asked whether it may be lost: its partitions and the file systems in them.
//!
//! It recognises what is common by its signature; what it does not recognise it says nothing about.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path};

use gpt::GptConfig;

const SECTOR: u64 = 512;
/// The most partitions that are listed.
const MAX_LISTED: usize = 32;

/// A line for everything that is recognised.
pub fn of_disk(path: &Path) -> Vec<String> {
    let Ok(file) = File::open(path) else {
        return Vec::new();
    };
    let mut lines = gpt_partitions(&file);
    if lines.is_empty() {
        lines = mbr_partitions(&file);
    }
    if lines.is_empty()
        && let Some(found) = signature(&file, 0)
    {
        lines.push(format!("{found} on the whole disk"));
    }
    lines.truncate(MAX_LISTED);
    lines
}

fn gpt_partitions(file: &File) -> Vec<String> {
    let Ok(table) = GptConfig::new().open_from_device(file) else {
        return Vec::new();
    };
    table
        .partitions()
        .iter()
        .filter(|(_, partition)| partition.is_used())
        .map(|(number, partition)| {
            let name = match partition.name.as_str() {
                "" => String::new(),
                name => format!(" \"{}\"", printable(name)),
            };
            let sectors = partition.sectors_len().unwrap_or_default();
            line(*number, &name, partition.first_lba, sectors, file)
        })
        .collect()
}

/// The four primary partitions of a disk with a table of the old kind (UEFI 2.10 §5.2.1).
fn mbr_partitions(file: &File) -> Vec<String> {
    const PROTECTIVE: u8 = 0xEE;
    let mut sector = [0; 512];
    let is_table = file.read_exact_at(&mut sector, 0).is_ok() && sector[510..] == [0x55, 0xAA];
    if !is_table || signature(file, 0).is_some() {
        return Vec::new();
    }
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0, |value: u64, byte| value << 8 | u64::from(*byte))
    };
    (1_u32..)
        .zip(sector[446..510].chunks_exact(16))
        .filter(|(_, entry)| entry[4] != 0 && entry[4] != PROTECTIVE)
        .map(|(index, entry)| {
            let (first, sectors) = (number(&entry[8..12]), number(&entry[12..16]));
            line(index, "", first, sectors, file)
        })
        .collect()
}

fn line(number: u32, name: &str, first: u64, sectors: u64, file: &File) -> String {
    let inside = first
        .checked_mul(SECTOR)
        .and_then(|at| signature(file, at))
        .map_or(String::new(), |found| format!(", {found}"));
    format!("partition {number}{name}: {} MiB{inside}", sectors >> 11)
}

/// Where a file system says that it is one, and where it has its label.
struct Known {
    name: &'static str,
    at: u64,
    magic: &'static [u8],
    label: Option<(u64, usize)>,
}

const fn known(
    name: &'static str,
    at: u64,
    magic: &'static [u8],
    label: Option<(u64, usize)>,
) -> Known {
    Known {
        name,
        at,
        magic,
        label,
    }
}

/// As the headers of the Linux kernel and the specifications of FAT and ISO 9660 have it.
const KNOWN: &[Known] = &[
    known(
        "encrypted volume (LUKS)",
        0,
        b"LUKS\xba\xbe",
        Some((24, 48)),
    ),
    known("XFS file system", 0, b"XFSB", Some((108, 12))),
    known("ext file system", 0x438, b"\x53\xef", Some((0x478, 16))),
    known(
        "Btrfs file system",
        0x10040,
        b"_BHRfS_M",
        Some((0x1_012B, 64)),
    ),
    known("NTFS file system", 3, b"NTFS    ", None),
    known("FAT file system", 82, b"FAT32", Some((71, 11))),
    known("FAT file system", 54, b"FAT1", Some((43, 11))),
    known("ISO 9660 file system", 0x8001, b"CD001", Some((0x8028, 32))),
    known("swap space", 4086, b"SWAPSPACE2", Some((0x41C, 16))),
    known("physical volume of LVM", 512, b"LABELONE", None),
    known("member of a RAID (md)", 4096, b"\xfc\x4e\x2b\xa9", None),
];

/// What begins at a byte of a disk.
fn signature(file: &File, start: u64) -> Option<String> {
    let read = |at: u64, length: usize| {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, start.checked_add(at)?)
            .ok()?;
        Some(bytes)
    };
    let found = KNOWN.iter().find(|known| {
        read(known.at, known.magic.len()).is_some_and(|bytes| bytes == known.magic)
    })?;
    let label = found
        .label
        .and_then(|(at, length)| read(at, length))
        .map(|bytes| {
            let end = bytes.iter().position(|byte| *byte == 0);
            let text = String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]);
            printable(text.trim_end())
        })
        .filter(|label| !label.is_empty());
    Some(match label {
        Some(label) => format!("{} \"{label}\"", found.name),
        None => found.name.to_owned(),
    })
}

/// A text from a disk, without what would move a terminal's cursor.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// What is said of a disk with these bytes in it.
    fn said(pieces: &[(usize, &[u8])]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = vec![0; 1 << 20];
        for (at, piece) in pieces {
            bytes[*at..at + piece.len()].copy_from_slice(piece);
        }
        let path = folder.path().join("disk");
        fs::write(&path, bytes).unwrap();
        of_disk(&path)
    }

    #[test]
    fn what_is_on_a_disk_is_told() {
        let entry = [0, 0, 0, 0, 0x83, 0, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0];
        assert!(said(&[]).is_empty());
        for (pieces, line) in [
            (
                &[(0, &b"XFSB"[..]), (108, b"data\x1b[2J\0")][..],
                "XFS file system \"data?[2J\" on the whole disk",
            ),
            (&[(0x438, b"\x53\xef")], "ext file system on the whole disk"),
            (
                &[(510, b"\x55\xaa"), (82, b"FAT32"), (71, b"STICK      ")],
                "FAT file system \"STICK\" on the whole disk",
            ),
            (
                &[
                    (510, b"\x55\xaa"),
                    (446, &entry),
                    (131_072, b"LUKS\xba\xbe"),
                ],
                "partition 1: 0 MiB, encrypted volume (LUKS)",
            ),
        ] {
            assert_eq!(said(pieces), [line]);
        }
    }
}
