//! What a host would do with a disk as it is: for looking at one from outside, such as after a power cut.

use std::io::{Read, Seek, SeekFrom};

use fatfs::{FileSystem, FsOptions};
use gpt::GptConfig;
use image_format::{LoaderDefault, Slot, SlotFile, SlotState, chosen, layout};
use sha2::{Digest as _, Sha256};
use types::Sha256Digest;

use crate::{DiskError, ErrorKind, HostRecord, StateFile, StateStore};

/// What a disk holds for a host.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The slot that the boot loader starts, and its image's digest.
    pub boots: (Slot, Sha256Digest),
    /// Every slot's file and its image's digest.
    pub slots: Vec<(SlotFile, Sha256Digest)>,
    /// The host's record.
    pub record: HostRecord,
}

/// Looks at a disk image with sectors of 512 bytes; nothing is written. `image` gets read in pieces.
///
/// # Errors
/// The host would not boot from it, or its state cannot be read; the message says why.
pub fn judge<D>(image: &mut D) -> Result<Verdict, DiskError>
where
    D: Read + Seek + std::fmt::Debug,
{
    let damaged = |what: String| {
        DiskError::new(
            ErrorKind::Damaged,
            what,
            "The host does not boot from this disk.",
        )
    };
    let mut reader = ReadOnly(image);
    let table = GptConfig::new()
        .open_from_device(&mut reader)
        .map_err(|error| damaged("the partition table is damaged".into()).because(error))?;
    let find = |what: &layout::Partition| {
        let found = table
            .partitions()
            .values()
            .find(|partition| partition.name == what.name);
        found
            .map(|partition| {
                (
                    partition.first_lba * 512,
                    partition.sectors_len().unwrap_or_default() * 512,
                )
            })
            .ok_or_else(|| damaged(format!("there is no partition {}", what.name)))
    };
    let (esp, state) = (find(&layout::ESP)?, find(&layout::STATE)?);
    drop(table);
    let record = {
        let mut bytes = vec![0; usize::try_from(state.1).unwrap_or_default()];
        reader
            .seek(SeekFrom::Start(state.0))
            .and_then(|_| reader.read_exact(&mut bytes))
            .map_err(|error| damaged("the state partition cannot be read".into()).because(error))?;
        StateStore::on(Bytes(bytes), std::path::Path::new("in the image"))?
            .record()
            .clone()
    };
    let unreadable = |error: std::io::Error| {
        damaged("the EFI system partition is damaged".into()).because(error)
    };
    let part = Window {
        inner: reader,
        start: esp.0,
        size: esp.1,
        position: 0,
    };
    let volume =
        FileSystem::new(part, FsOptions::new().update_accessed_date(false)).map_err(unreadable)?;
    let root = volume.root_dir();
    root.open_file(layout::BOOT_LOADER).map_err(unreadable)?;
    let preferred = root
        .open_file(layout::LOADER_CONF)
        .ok()
        .and_then(|mut file| {
            let mut text = String::new();
            file.read_to_string(&mut text).ok()?;
            LoaderDefault::parse(&text)
        });
    let mut slots = Vec::new();
    for entry in root
        .open_dir(layout::SLOT_FOLDER)
        .map_err(unreadable)?
        .iter()
    {
        let entry = entry.map_err(unreadable)?;
        // The boot loader does not list what is no image.
        let empty = entry.len() == 0;
        if let Ok(file) = entry.file_name().parse::<SlotFile>()
            && !empty
        {
            slots.push((file, digest(&mut entry.to_file()).map_err(unreadable)?));
        }
    }
    let files: Vec<SlotFile> = slots.iter().map(|(file, _)| *file).collect();
    let newer = files
        .iter()
        .find(|file| file.state() != SlotState::Good)
        .map_or(Slot::A, |file| file.slot);
    let boots = chosen(&files, preferred, newer)
        .and_then(|chosen| slots.iter().find(|(file, _)| *file == chosen))
        .map(|(file, digest)| (file.slot, *digest))
        .ok_or_else(|| damaged("no slot holds an image".into()))?;
    drop(root);
    // Unmounting would write; nothing was changed.
    std::mem::forget(volume);
    Ok(Verdict {
        boots,
        slots,
        record,
    })
}

fn digest(file: &mut impl Read) -> std::io::Result<Sha256Digest> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(Sha256Digest::new(hash.finalize().into())),
            count => hash.update(&chunk[..count]),
        }
    }
}

struct Bytes(Vec<u8>);

impl StateFile for Bytes {
    fn size(&self) -> std::io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, to: &mut [u8], at: u64) -> std::io::Result<()> {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let from = self
            .0
            .get(at..at.saturating_add(to.len()))
            .ok_or(std::io::ErrorKind::UnexpectedEof)?;
        to.copy_from_slice(from);
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> std::io::Result<()> {
        Err(std::io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

/// The libraries want to be able to write; they are not let.
#[derive(Debug)]
struct ReadOnly<'a, D>(&'a mut D);

impl<D: Read> Read for ReadOnly<'_, D> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(to)
    }
}

impl<D: Seek> Seek for ReadOnly<'_, D> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

impl<D> std::io::Write for ReadOnly<'_, D> {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A range of a device as a device of its own.
struct Window<D> {
    inner: D,
    start: u64,
    size: u64,
    position: u64,
}

impl<D: Read + Seek> Read for Window<D> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let want = to.len().min(left);
        self.inner
            .seek(SeekFrom::Start(self.start + self.position))?;
        let count = self.inner.read(&mut to[..want])?;
        self.position += count as u64;
        Ok(count)
    }
}

impl<D: std::io::Write> std::io::Write for Window<D> {
    fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
        self.inner.write(from)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl<D> Seek for Window<D> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
