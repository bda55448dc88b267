//! The writing itself, in the order that leaves an interrupted disk unbootable.

use std::{
    fs::File,
    io::{self, Read, Write as _},
    os::unix::fs::FileExt as _,
};

use fatfs::{FileSystem, FsOptions};
use gpt::GptConfig;
use image_format::layout;
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use sha2::{Digest as _, Sha256};
use types::Sha256Digest;

use super::{esp::Part, local};
use crate::client::Error;

const GIVES_BACK_ELSE: &str = "the target gives back something else than was written to it, and does not boot now: it is failing, use another";
/// What is written last: with the partition table in it.
const HEAD: usize = 1 << 20;
/// The backup of a partition table: 32 sectors of entries and a header, at the end (UEFI 2.10 §5.3.1).
const BACKUP_TABLE: u64 = 33 * layout::SECTOR_BYTES;

/// The image to write.
pub struct Image<'a> {
    /// Its bytes, unpacked.
    pub content: &'a mut dyn Read,
    /// How many there are.
    pub size: u64,
    /// Their digest.
    pub sha256: Sha256Digest,
    /// The configuration to put beside it.
    pub configuration: Option<&'a str>,
}

/// Writes an image to a disk or file of `size` bytes. `progress` hears of every byte written, and again of every byte read back; its
/// error ends the writing.
///
/// # Errors
/// It cannot be written, gives back something else than was written, the image is not what was promised, or `progress` ended it. The
/// target does not boot then.
pub fn write(
    target: &File,
    size: u64,
    image: Image<'_>,
    is_disk: bool,
    progress: &dyn Fn(u64) -> Result<(), Error>,
) -> Result<(), Error> {
    let writing =
        || Error::local("cannot write to the target; it does not boot now: flash it again");
    erase_tables(target, size).map_err(writing())?;
    let mut head = vec![0; HEAD];
    let mut hash = Sha256::new();
    let mut chunk = vec![0; HEAD];
    let mut at = 0;
    let mut punches = is_disk;
    loop {
        let count = fill(image.content, &mut chunk).map_err(local(
            "the image is damaged; the target does not boot now: get the image again",
        ))?;
        if count == 0 {
            break;
        }
        hash.update(&chunk[..count]);
        if at == 0 {
            head[..count].copy_from_slice(&chunk[..count]);
        } else if chunk[..count].iter().any(|byte| *byte != 0) {
            target
                .write_all_at(&chunk[..count], at)
                .map_err(writing())?;
        } else if is_disk {
            // In a new file what is zero is there already.
            write_zeros(target, at, &chunk[..count], &mut punches).map_err(writing())?;
        }
        at += count as u64;
        progress(count as u64)?;
        if at > image.size {
            break;
        }
    }
    if at != image.size || Sha256Digest::new(hash.finalize().into()) != image.sha256 {
        return Err(Error::Failed("the image is not the one that was signed; the target does not boot now: get the image again".into()));
    }
    target.sync_all().map_err(writing())?;
    read_back(target, &head, &image, progress)?;
    if let Some(text) = image.configuration {
        put_configuration(target, &head, text)?;
        target.sync_all().map_err(writing())?;
        check_configuration(target, &head, text)?;
    }
    erase_behind(target, image.size, size).map_err(writing())?;
    target.sync_all().map_err(writing())?;
    put_head(target, &head, size)?;
    fit_table(target)?;
    target.sync_all().map_err(writing())
}

/// Writes the first MiB, with which the target boots, and takes it away again if the target does not hold it.
fn put_head(target: &File, head: &[u8], size: u64) -> Result<(), Error> {
    let mut seen = vec![0; head.len()];
    let mut put = || -> io::Result<bool> {
        target.write_all_at(head, 0)?;
        target.sync_all()?;
        fadvise(target, 0, None, Advice::DontNeed)?;
        target.read_exact_at(&mut seen, 0)?;
        Ok(seen == head)
    };
    match put() {
        Ok(true) => Ok(()),
        Ok(false) => {
            let _ = erase_tables(target, size);
            Err(Error::Failed(GIVES_BACK_ELSE.into()))
        }
        Err(error) => {
            let _ = erase_tables(target, size);
            Err(Error::local(
                "cannot write the partition table to the target; it does not boot now: flash it again",
            )(error))
        }
    }
}

/// Erases what would be taken for something where the host makes its data partition: the image's own backup table, which is in the
/// midst of a larger disk, and the beginning of what was there before.
fn erase_behind(target: &File, image: u64, size: u64) -> io::Result<()> {
    if size <= image {
        return Ok(());
    }
    let end = (image + HEAD as u64).min(size);
    let mut at = image.saturating_sub(BACKUP_TABLE);
    let zeros = vec![0; HEAD];
    while at < end {
        let count = usize::try_from(end - at).unwrap_or(HEAD).min(HEAD);
        target.write_all_at(&zeros[..count], at)?;
        at += count as u64;
    }
    Ok(())
}

/// Zeros on a disk: by a command where it has one, which moves no data (fallocate(2): punching a hole into a block device is
/// `BLKZEROOUT` without its fallback), else in full.
fn write_zeros(target: &File, at: u64, zeros: &[u8], punches: &mut bool) -> io::Result<()> {
    if *punches {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if fallocate(target, flags, at, zeros.len() as u64).is_ok() {
            return Ok(());
        }
        *punches = false;
    }
    target.write_all_at(zeros, at)
}

fn erase_tables(target: &File, size: u64) -> io::Result<()> {
    let zeros = vec![0; HEAD];
    target.write_all_at(&zeros, 0)?;
    if size > 2 * HEAD as u64 {
        target.write_all_at(&zeros, size - HEAD as u64)?;
    }
    target.sync_all()
}

fn fill(from: &mut dyn Read, to: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < to.len() {
        match from.read(&mut to[count..])? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}

fn read_back(
    target: &File,
    head: &[u8],
    image: &Image<'_>,
    progress: &dyn Fn(u64) -> Result<(), Error>,
) -> Result<(), Error> {
    let reading = || Error::local("cannot read the target back; it does not boot now");
    // What is still in memory proves nothing.
    fadvise(target, 0, None, Advice::DontNeed).map_err(|error| reading()(error.into()))?;
    let mut hash = Sha256::new();
    hash.update(&head[..HEAD.min(usize::try_from(image.size).unwrap_or(HEAD))]);
    let mut chunk = vec![0; HEAD];
    let mut at = HEAD as u64;
    while at < image.size {
        let want = usize::try_from((image.size - at).min(HEAD as u64)).unwrap_or(HEAD);
        target
            .read_exact_at(&mut chunk[..want], at)
            .map_err(reading())?;
        hash.update(&chunk[..want]);
        at += want as u64;
        progress(want as u64)?;
    }
    if Sha256Digest::new(hash.finalize().into()) != image.sha256 {
        return Err(Error::Failed(GIVES_BACK_ELSE.into()));
    }
    Ok(())
}

/// Puts the configuration into the EFI system partition that the table in `head` names.
fn put_configuration(target: &File, head: &[u8], text: &str) -> Result<(), Error> {
    let failed = "cannot put the configuration onto the target; it does not boot now";
    let volume =
        FileSystem::new(Part::esp(target, head)?, FsOptions::new()).map_err(local(failed))?;
    let put = || -> io::Result<()> {
        let (folder, name) = layout::CONFIG_FILE
            .split_once('/')
            .unwrap_or(("", layout::CONFIG_FILE));
        let mut file = volume.root_dir().create_dir(folder)?.create_file(name)?;
        file.truncate()?;
        file.write_all(text.as_bytes())?;
        file.flush()
    };
    put().map_err(local(failed))?;
    volume.unmount().map_err(local(failed))
}

/// Whether the configuration is there, read from the target and not from memory.
fn check_configuration(target: &File, head: &[u8], text: &str) -> Result<(), Error> {
    let failed = "cannot read the configuration back from the target; it does not boot now";
    fadvise(target, 0, None, Advice::DontNeed).map_err(local(failed))?;
    let volume =
        FileSystem::new(Part::esp(target, head)?, FsOptions::new()).map_err(local(failed))?;
    let mut seen = Vec::new();
    volume
        .root_dir()
        .open_file(layout::CONFIG_FILE)
        .and_then(|file| file.take(text.len() as u64 + 1).read_to_end(&mut seen))
        .map_err(local(failed))?;
    if seen != text.as_bytes() {
        return Err(Error::Failed(GIVES_BACK_ELSE.into()));
    }
    Ok(())
}

/// Moves the table's backup to the end of the disk, which is larger than the image.
fn fit_table(target: &File) -> Result<(), Error> {
    let failed = "the image is on the target, but its partition table cannot be fitted to it; flash it again";
    let mut table = GptConfig::new()
        .writable(true)
        .open_from_device(target)
        .map_err(local(failed))?;
    table
        .update_partitions(table.partitions().clone())
        .map_err(local(failed))?;
    table.write().map(drop).map_err(local(failed))
}
