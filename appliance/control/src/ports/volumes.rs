//! Disks and images.

use super::PortResult;
use crate::model::{DiskCategory, ImagePartKind};
use std::fs::File;
use types::{ByteCount, DiskId, ImageId, Sha256Digest};

/// A part of an image, on stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPart {
    /// Its size.
    pub size: ByteCount,
    /// The digest of its content.
    pub sha256: Sha256Digest,
}

/// A part of an image that is being received. Dropping it throws away what came.
pub trait PartWriter: Send {
    /// Appends. Blocks.
    fn write(&mut self, data: &[u8]) -> PortResult<()>;

    /// Puts the part on stable storage in place of a former one. Blocks.
    fn finish(self: Box<Self>) -> PortResult<StoredPart>;
}

/// What there is in the pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresentVolumes {
    /// Disks that have a file.
    pub disks: Vec<(DiskId, DiskCategory)>,
    /// Images that have a folder.
    pub images: Vec<ImageId>,
}

/// A disk opened for a machine.
#[derive(Debug)]
pub struct OpenDisk {
    /// Its file, for reading and writing.
    pub file: File,
    /// Its size.
    pub size: ByteCount,
    /// Whether it is open with O_DIRECT.
    pub direct: bool,
}

/// Disks and images. All calls block: they are for threads that may.
pub trait Volumes: Send + Sync + 'static {
    /// Begins to receive a part of an image.
    fn receive_part(&self, image: ImageId, part: ImagePartKind) -> PortResult<Box<dyn PartWriter>>;

    /// Opens a part of an image for reading. `NotFound` names a file that vanished.
    fn open_part(&self, image: ImageId, part: ImagePartKind) -> PortResult<File>;

    /// Deletes an image. Disks made from it stay. Fine when there is none.
    fn delete_image(&self, image: ImageId) -> PortResult<()>;

    /// Makes a disk of `size` that reads as the image's disk part and zeros after it. Fine when the disk is there.
    fn clone_disk(&self, disk: DiskId, image: ImageId, size: ByteCount) -> PortResult<()>;

    /// Makes a disk of `size` and that category that reads as zeros. Fine when the disk is there. A local one has its room from the
    /// beginning (`Exhausted` if there is none; `Unsupported` where there are no local disks).
    fn create_disk(&self, disk: DiskId, size: ByteCount, category: DiskCategory) -> PortResult<()>;

    /// Puts a disk that was made, and its name, on stable storage.
    fn sync_disk(&self, disk: DiskId, category: DiskCategory) -> PortResult<()>;

    /// Opens a disk for a machine. `NotFound` names a file that vanished; `Unsupported`: it is a local one, and there are none here.
    fn open_disk(&self, disk: DiskId, category: DiskCategory) -> PortResult<OpenDisk>;

    /// Deletes a disk. Fine when there is none; `Unsupported` as of `open_disk`.
    fn delete_disk(&self, disk: DiskId, category: DiskCategory) -> PortResult<()>;

    /// What there is.
    fn list(&self) -> PortResult<PresentVolumes>;

    /// The pool's size and what of it is free; local disks are not in it.
    fn space(&self) -> PortResult<Space>;
}

/// Space of a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total: ByteCount,
    /// What can still be written.
    pub free: ByteCount,
}
