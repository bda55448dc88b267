//! Disk and image files on a file system with reflink.
//!
//! ```text
//! <folder>/images/m-…/{kernel,initrd,disk}   parts of images; never changed once they are there
//! <folder>/disks/d-…                         raw disks, sparse
//! <folder>/unfinished/                       what is being written; emptied at every opening
//! ```
//!
//! A disk is cloned from its image by one FICLONE: constant time and no space whatever the size. A file appears under its
//! name whole or not at all. All calls block. This crate knows no instance and no record.

#![forbid(unsafe_code)]

mod disks;
mod error;
mod images;

pub use disks::OpenDisk;
pub use error::{ErrorKind, PoolError};
pub use images::{Part, PartWriter, StoredPart};

use rustix::fs::{ioctl_ficlone, statvfs};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};
use types::{ByteCount, DiskId, ImageId};

type Result<T> = std::result::Result<T, PoolError>;

/// So many bytes of the file system are left to the host itself: its state and what its machines are made of may be on it, too, and
/// it must come back to have anything deleted.
const KEPT_FREE: u64 = 16 << 20;

/// A folder of disks and images. The daemon that holds the state folder is the only one to write in it.
#[derive(Debug)]
pub struct Pool {
    folder: PathBuf,
    unfinished: AtomicU64,
}

/// The size of the pool's file system, and what can still be written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total: ByteCount,
    /// What is free, without what is left to the host itself.
    pub free: ByteCount,
}

impl Pool {
    /// Opens the pool in `folder`, which is made if it is not there; tries a reflink, and throws away what was left
    /// unfinished.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the file system cannot reflink; one that is full is not tried.
    pub fn open(folder: &Path) -> Result<Self> {
        let pool = Self {
            folder: folder.to_owned(),
            unfinished: AtomicU64::new(0),
        };
        for part in ["images", "disks", "unfinished"] {
            let path = folder.join(part);
            fs::create_dir_all(&path)
                .map_err(|error| PoolError::io("make the folder", &path, error))?;
        }
        let left = folder.join("unfinished");
        for path in entries(&left)? {
            remove(&path)?;
        }
        match pool.probe_reflink() {
            // A file system without room for two small files cannot be tried. What is in it was made with reflinks.
            Err(error) if error.kind() == ErrorKind::Full => {}
            tried => tried?,
        }
        Ok(pool)
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Size and free space.
    ///
    /// # Errors
    /// When the file system does not say.
    pub fn space(&self) -> Result<Space> {
        let stat = statvfs(&self.folder)
            .map_err(|error| PoolError::io("find the free space of", &self.folder, error.into()))?;
        let bytes = |blocks: u64| ByteCount::new(blocks.saturating_mul(stat.f_frsize));
        Ok(Space {
            total: bytes(stat.f_blocks),
            free: bytes(stat.f_bavail).saturating_sub(ByteCount::new(KEPT_FREE)),
        })
    }

    /// The disks there are.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn disks(&self) -> Result<Vec<DiskId>> {
        ids(&self.folder.join("disks"))
    }

    /// The images there are, whole or in part.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn images(&self) -> Result<Vec<ImageId>> {
        ids(&self.folder.join("images"))
    }

    fn probe_reflink(&self) -> Result<()> {
        let mut source = self.unfinished()?;
        source
            .file
            .write_all(&[0x5a; 4096])
            .map_err(|error| PoolError::io("write", &source.path, error))?;
        let target = self.unfinished()?;
        ioctl_ficlone(&target.file, &source.file)
            .map_err(|error| PoolError::no_reflink(&self.folder, error.into()))
    }

    /// A new file that goes away unless it is given its name.
    fn unfinished(&self) -> Result<Unfinished> {
        let number = self.unfinished.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join("unfinished").join(number.to_string());
        check_room(&self.folder, 0)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|error| PoolError::io("make the file", &path, error))?;
        Ok(Unfinished {
            file,
            path,
            named: false,
        })
    }
}

/// Refuses to write so many bytes where that would leave the host itself no room.
fn check_room(path: &Path, length: usize) -> Result<()> {
    let stat = statvfs(path)
        .map_err(|error| PoolError::io("find the free space of", path, error.into()))?;
    let needed = u64::try_from(length).unwrap_or(u64::MAX);
    if stat.f_bavail.saturating_mul(stat.f_frsize) >= needed.saturating_add(KEPT_FREE) {
        return Ok(());
    }
    Err(PoolError::io(
        "write to",
        path,
        rustix::io::Errno::NOSPC.into(),
    ))
}

/// A file that is being written.
#[derive(Debug)]
struct Unfinished {
    file: File,
    path: PathBuf,
    named: bool,
}

impl Unfinished {
    /// Gives it its name, in place of a file that has it.
    fn name(mut self, path: &Path) -> Result<()> {
        fs::rename(&self.path, path).map_err(|error| PoolError::io("put in place", path, error))?;
        self.named = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.named {
            // Nobody is left to tell; the next opening tries again.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn sync_folder(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|error| PoolError::io("put on stable storage", path, error))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect()
    };
    read().map_err(|error| PoolError::io("read the folder", folder, error))
}

/// The names in a folder that are ids; whatever else is in there is somebody else's.
fn ids<I: std::str::FromStr>(folder: &Path) -> Result<Vec<I>> {
    let names = entries(folder)?;
    Ok(names
        .iter()
        .filter_map(|path| path.file_name()?.to_str()?.parse().ok())
        .collect())
}

/// Removes a file or a folder; fine when it is not there.
fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PoolError::io("delete", path, error))
        }
        _ => Ok(()),
    }
}
