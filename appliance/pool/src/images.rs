//! Images: parts that are received once and then only read.

use crate::{Pool, PoolError, Result, Unfinished, check_room, remove, sync_folder};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
};
use types::{ByteCount, ImageId, Sha256Digest};

/// A part of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The kernel.
    Kernel,
    /// The initial RAM disk.
    Initrd,
    /// The system disk, raw.
    Disk,
}

impl Part {
    /// The name of its file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Disk => "disk",
        }
    }
}

/// A part that was received whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPart {
    /// Its size.
    pub size: ByteCount,
    /// The digest of its content.
    pub sha256: Sha256Digest,
}

/// A part that is being received. Dropped before it is finished, it leaves nothing behind.
#[derive(Debug)]
pub struct PartWriter {
    unfinished: Unfinished,
    folder: PathBuf,
    part: Part,
    digest: Sha256,
    size: u64,
}

impl Pool {
    /// Begins to receive a part of an image.
    ///
    /// # Errors
    /// When no file can be made.
    pub fn receive_part(&self, image: ImageId, part: Part) -> Result<PartWriter> {
        let unfinished = self.unfinished()?;
        Ok(PartWriter {
            unfinished,
            folder: self.image(image),
            part,
            digest: Sha256::new(),
            size: 0,
        })
    }

    /// Opens a part of an image for reading.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) names the image, the part and the file.
    pub fn open_part(&self, image: ImageId, part: Part) -> Result<File> {
        let path = self.image(image).join(part.name());
        File::open(&path).map_err(|error| {
            PoolError::vanished(
                &format!("the {} of image {image}", part.name()),
                &path,
                error,
            )
        })
    }

    /// Deletes an image. Disks cloned from it stay whole. Fine when there is none.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn delete_image(&self, image: ImageId) -> Result<()> {
        remove(&self.image(image))
    }

    fn image(&self, image: ImageId) -> PathBuf {
        self.folder.join("images").join(image.to_string())
    }
}

impl PartWriter {
    /// Appends.
    ///
    /// # Errors
    /// [`ErrorKind::Full`](crate::ErrorKind::Full) and whatever else the file system says.
    pub fn write(&mut self, data: &[u8]) -> Result<()> {
        check_room(&self.unfinished.path, data.len())?;
        self.unfinished
            .file
            .write_all(data)
            .map_err(|error| PoolError::io("write", &self.unfinished.path, error))?;
        self.digest.update(data);
        self.size = self
            .size
            .saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Puts the part on stable storage, in place of one that came before.
    ///
    /// # Errors
    /// As for [`write`](Self::write); nothing of the part is left, and a former one stays.
    pub fn finish(self) -> Result<StoredPart> {
        let Self {
            unfinished,
            folder,
            part,
            digest,
            size,
        } = self;
        unfinished
            .file
            .sync_all()
            .map_err(|error| PoolError::io("put on stable storage", &unfinished.path, error))?;
        let new = !folder.exists();
        fs::create_dir_all(&folder)
            .map_err(|error| PoolError::io("make the folder", &folder, error))?;
        let named = unfinished.name(&folder.join(part.name()));
        if named.is_err() && new {
            let _ = fs::remove_dir(&folder);
        }
        named?;
        sync_folder(&folder)?;
        if let (true, Some(parent)) = (new, folder.parent()) {
            sync_folder(parent)?;
        }
        Ok(StoredPart {
            size: ByteCount::new(size),
            sha256: Sha256Digest::new(digest.finalize().into()),
        })
    }
}
