//! Disks: clones of images, and empty ones.

use crate::{Part, Pool, PoolError, Result, Unfinished, remove, sync_folder};
use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, ioctl_ficlone, open};
use std::{fs::File, io, path::PathBuf};
use types::{ByteCount, DiskId, ImageId, SECTOR_SIZE};

/// A disk opened for a machine.
#[derive(Debug)]
pub struct OpenDisk {
    /// Its file, for reading and writing.
    pub file: File,
    /// Its size.
    pub size: ByteCount,
    /// Whether the file is open with O_DIRECT: transfers must then be aligned to the file system's blocks.
    pub direct: bool,
}

impl Pool {
    /// Makes a disk of `size` that reads as the image's disk part, then zeros. Costs one FICLONE, whatever the size. Fine when
    /// the disk is there. It survives a power cut once [`sync_disk`](Self::sync_disk) or a flush of its own
    /// has returned.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when it is smaller than the image's disk or not whole sectors.
    pub fn clone_disk(&self, disk: DiskId, image: ImageId, size: ByteCount) -> Result<()> {
        let path = self.disk(disk);
        if path.exists() {
            return Ok(());
        }
        let source = self.open_part(image, Part::Disk)?;
        let least = source
            .metadata()
            .map_err(|error| PoolError::io("read", &path, error))?
            .len();
        let unfinished = self.sized(disk, size, ByteCount::new(least))?;
        ioctl_ficlone(&unfinished.file, &source)
            .map_err(|error| PoolError::io("clone", &path, error.into()))?;
        // A clone has the source's length.
        set_size(&unfinished, size)?;
        unfinished.name(&path)
    }

    /// Makes a disk of `size` that reads as zeros and takes no room until it is written. Fine when the disk is there. It
    /// survives a power cut once [`sync_disk`](Self::sync_disk) or a flush of its own has returned.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when it is nothing or not whole sectors.
    pub fn create_disk(&self, disk: DiskId, size: ByteCount) -> Result<()> {
        let path = self.disk(disk);
        if path.exists() {
            return Ok(());
        }
        let unfinished = self.sized(disk, size, SECTOR_SIZE)?;
        set_size(&unfinished, size)?;
        unfinished.name(&path)
    }

    /// Makes a disk of `size` that reads as zeros and has its room from the beginning: it does not run out of it later. Fine when the
    /// disk is there. It survives a power cut as one of [`create_disk`](Self::create_disk) does.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when it is nothing or not whole sectors;
    /// [`ErrorKind::Full`](crate::ErrorKind::Full) when there is not so much room.
    pub fn allocate_disk(&self, disk: DiskId, size: ByteCount) -> Result<()> {
        let path = self.disk(disk);
        if path.exists() {
            return Ok(());
        }
        let unfinished = self.sized(disk, size, SECTOR_SIZE)?;
        fallocate(&unfinished.file, FallocateFlags::empty(), 0, size.bytes())
            .map_err(|error| PoolError::io("take room for", &unfinished.path, error.into()))?;
        unfinished.name(&path)
    }

    /// Puts a disk that was made, and its name, on stable storage.
    ///
    /// # Errors
    /// When it is not there or the file system fails.
    pub fn sync_disk(&self, disk: DiskId) -> Result<()> {
        let path = self.disk(disk);
        let file = File::open(&path)
            .map_err(|error| PoolError::vanished(&format!("disk {disk}"), &path, error))?;
        file.sync_all()
            .map_err(|error| PoolError::io("put on stable storage", &path, error))?;
        sync_folder(&self.folder.join("disks"))
    }

    /// Opens a disk for a machine, past the page cache where the file system can do that.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) names the disk and the file that vanished.
    pub fn open_disk(&self, disk: DiskId) -> Result<OpenDisk> {
        let path = self.disk(disk);
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let opened = open(&path, flags | OFlags::DIRECT, Mode::empty()).map(|file| (file, true));
        let opened = match opened {
            Err(rustix::io::Errno::INVAL) => {
                open(&path, flags, Mode::empty()).map(|file| (file, false))
            }
            opened => opened,
        };
        let vanished =
            |error: io::Error| PoolError::vanished(&format!("disk {disk}"), &path, error);
        let (file, direct) = opened.map_err(|error| vanished(error.into()))?;
        let file = File::from(file);
        let size = ByteCount::new(file.metadata().map_err(vanished)?.len());
        Ok(OpenDisk { file, size, direct })
    }

    /// Deletes a disk. Fine when there is none.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn delete_disk(&self, disk: DiskId) -> Result<()> {
        remove(&self.disk(disk))
    }

    fn disk(&self, disk: DiskId) -> PathBuf {
        self.folder.join("disks").join(disk.to_string())
    }

    /// A new file for a disk whose size was found fit.
    fn sized(&self, disk: DiskId, size: ByteCount, least: ByteCount) -> Result<Unfinished> {
        if size < least || size == ByteCount::ZERO || !size.is_multiple_of(SECTOR_SIZE) {
            return Err(PoolError::size(format!("disk {disk}"), size, least));
        }
        self.unfinished()
    }
}

fn set_size(unfinished: &Unfinished, size: ByteCount) -> Result<()> {
    let set = unfinished.file.set_len(size.bytes());
    set.map_err(|error| PoolError::io("set the size of", &unfinished.path, error))
}
