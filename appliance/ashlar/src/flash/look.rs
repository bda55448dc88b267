//! Looking into a disk image, a unified kernel image and a bill of materials. Nothing here is trusted: what does not make sense is
//! told or left out.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use fatfs::{FileSystem, FsOptions};
use gpt::GptConfig;
use image_format::{LoaderDefault, MAX_HEADER_BYTES, SlotFile, SlotState, Uki, layout};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::Serialize;

use super::{contents::printable, esp::Part, local};
use crate::client::Error;

/// The largest disk image that is unpacked to be looked at, bytes.
const MAX_RAW: u64 = 8 << 30;
/// The most of a small file that is read, bytes.
const MAX_TEXT: u64 = 64 << 10;
/// The largest bill of materials that is read, bytes.
const MAX_SBOM: u64 = 32 << 20;

/// What is in a unified kernel image.
#[derive(Debug, Serialize)]
pub struct Kernel {
    /// Version of the product.
    pub version: String,
    /// Which hardware it is for.
    pub variant: String,
    /// How it counts against going back.
    pub security_version: u32,
    /// Schema of the daemon's state in it.
    pub state_schema: u64,
    /// Version of the kernel, if it says so.
    pub kernel: Option<String>,
    /// The kernel's command line.
    pub command_line: Option<String>,
    /// Whether it carries a signature for Secure Boot.
    pub secure_boot_signature: bool,
    /// Its parts.
    pub sections: Vec<Section>,
}

/// A part of a unified kernel image.
#[derive(Debug, Serialize)]
pub struct Section {
    /// Its name, as `.linux`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// What is on a disk image.
#[derive(Debug, Serialize)]
pub struct Disk {
    /// Its size.
    pub bytes: u64,
    /// Its partitions.
    pub partitions: Vec<Partition>,
    /// The slots that hold something.
    pub slots: Vec<Slot>,
    /// The slot that the boot loader prefers.
    pub preferred: Option<image_format::Slot>,
    /// Whether a configuration was put onto it.
    pub configured: bool,
}

/// One partition.
#[derive(Debug, Serialize)]
pub struct Partition {
    /// Its number, from 1.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Where it begins, bytes.
    pub start: u64,
    /// Its size.
    pub bytes: u64,
}

/// One slot.
#[derive(Debug, Serialize)]
pub struct Slot {
    /// Which.
    pub slot: image_format::Slot,
    /// Its file.
    pub file: String,
    /// `good`, `trial` or `bad`.
    pub state: &'static str,
    /// Boots left, while on trial.
    pub tries_left: Option<u32>,
    /// What is in it; none if it is no image.
    pub image: Option<Kernel>,
}

/// A bill of materials in short (CycloneDX 1.6).
#[derive(Debug, Serialize)]
pub struct Sbom {
    /// How many components there are of each type.
    pub components: BTreeMap<String, usize>,
}

/// Reads a unified kernel image.
///
/// # Errors
/// It is none, or cannot be read.
pub fn kernel(from: &mut (impl Read + Seek), name: &str) -> Result<Kernel, Error> {
    let failed = |error: io::Error| Error::local(format!("cannot read {name}"))(error);
    let wrong = |error: image_format::UkiError| Error::Failed(format!("{name}: {error}"));
    let mut head = Vec::new();
    from.take(MAX_HEADER_BYTES as u64)
        .read_to_end(&mut head)
        .map_err(failed)?;
    let uki = Uki::parse(&head).map_err(wrong)?;
    let size = from.seek(SeekFrom::End(0)).map_err(failed)?;
    uki.check_size(size).map_err(wrong)?;
    let mut section = |name: &str| -> Result<Option<Vec<u8>>, Error> {
        let Some(section) = uki.section(name) else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        from.seek(SeekFrom::Start(section.offset)).map_err(failed)?;
        from.take(section.size.min(MAX_TEXT))
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        Ok(Some(bytes))
    };
    let text = |bytes: Vec<u8>| {
        printable(String::from_utf8_lossy(&bytes).trim_end_matches(['\0', '\n', ' ']))
    };
    let release = Uki::release(&section(".osrel")?.unwrap_or_default()).map_err(wrong)?;
    Ok(Kernel {
        version: release.version,
        variant: release.variant.to_string(),
        security_version: release.security_version,
        state_schema: release.state_schema,
        kernel: section(".uname")?.map(text),
        command_line: section(".cmdline")?.map(text),
        secure_boot_signature: uki.signed,
        sections: uki
            .sections
            .iter()
            .map(|section| Section {
                name: section.name.clone(),
                bytes: section.size,
            })
            .collect(),
    })
}

/// Reads a disk image, packed or not.
///
/// # Errors
/// It is none, or cannot be read.
pub fn disk(path: &Path) -> Result<Disk, Error> {
    let name = path.display().to_string();
    let failed = || format!("cannot read {name}");
    let file = File::open(path).map_err(Error::local(failed()))?;
    let file = if name.ends_with(".zst") {
        unpacked(&file).map_err(Error::local(format!("cannot unpack {name}")))?
    } else {
        file
    };
    let table = GptConfig::new()
        .open_from_device(&file)
        .map_err(local(format!("{name} has no partition table")))?;
    let partitions = table
        .partitions()
        .iter()
        .filter(|(_, partition)| partition.is_used())
        .map(|(number, partition)| Partition {
            number: *number,
            name: printable(&partition.name),
            start: partition.first_lba.saturating_mul(layout::SECTOR_BYTES),
            bytes: partition
                .sectors_len()
                .unwrap_or_default()
                .saturating_mul(layout::SECTOR_BYTES),
        })
        .collect();
    let mut head = vec![0; 1 << 20];
    file.read_exact_at(&mut head, 0)
        .map_err(Error::local(failed()))?;
    let volume = FileSystem::new(Part::esp(&file, &head)?, FsOptions::new()).map_err(local(
        format!("{name}: cannot read the EFI system partition"),
    ))?;
    let root = volume.root_dir();
    let mut slots = Vec::new();
    if let Ok(folder) = root.open_dir(layout::SLOT_FOLDER) {
        for entry in folder.iter().flatten() {
            let file_name = entry.file_name();
            let Ok(file) = file_name.parse::<SlotFile>() else {
                continue;
            };
            let (state, tries_left) = match file.state() {
                SlotState::Good => ("good", None),
                SlotState::Trial { left } => ("trial", Some(left)),
                SlotState::Bad => ("bad", None),
            };
            slots.push(Slot {
                slot: file.slot,
                state,
                tries_left,
                image: kernel(&mut entry.to_file(), &file_name).ok(),
                file: file_name,
            });
        }
    }
    let mut loader = String::new();
    if let Ok(file) = root.open_file(layout::LOADER_CONF) {
        let _ = file.take(MAX_TEXT).read_to_string(&mut loader);
    }
    Ok(Disk {
        bytes: file.metadata().map_err(Error::local(failed()))?.len(),
        partitions,
        slots,
        preferred: LoaderDefault::parse(&loader).map(LoaderDefault::slot),
        configured: root.open_file(layout::CONFIG_FILE).is_ok(),
    })
}

/// What a file packed with zstd unpacks to, in memory; zeros take none.
fn unpacked(packed: &File) -> io::Result<File> {
    let file = File::from(memfd_create("image", MemfdFlags::CLOEXEC)?);
    let mut content = zstd::Decoder::new(packed)?.take(MAX_RAW);
    let mut chunk = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let count = content.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        if chunk[..count].iter().any(|byte| *byte != 0) {
            file.write_all_at(&chunk[..count], at)?;
        }
        at += count as u64;
    }
    file.set_len(at)?;
    (&file).flush()?;
    Ok(file)
}

/// Reads a bill of materials; none if it is none.
pub fn sbom(path: &Path) -> Option<Sbom> {
    let mut bytes = Vec::new();
    File::open(path)
        .ok()?
        .take(MAX_SBOM)
        .read_to_end(&mut bytes)
        .ok()?;
    let value: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    let mut components = BTreeMap::new();
    for component in value["components"].as_array()? {
        let kind = component["type"].as_str().unwrap_or("unknown").to_owned();
        *components.entry(kind).or_default() += 1;
    }
    Some(Sbom { components })
}
