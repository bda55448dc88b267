//! Disks.

use crate::{
    Control, Result,
    commands::{CreateDisk, DiskFilter},
    model::Disk,
    use_cases::unwired,
};
use types::DiskId;

impl Control {
    /// Makes an empty data disk (ECS CreateDisk); it is `Creating` until its file is there.
    pub async fn create_disk(&self, _command: CreateDisk) -> Result<Disk> {
        unwired()
    }

    /// The disk of that id (`InvalidDiskId.NotFound`).
    pub async fn disk(&self, _id: DiskId) -> Result<Disk> {
        unwired()
    }

    /// The disks the filter lets through, oldest first (ECS DescribeDisks).
    pub async fn disks(&self, _filter: &DiskFilter) -> Result<Vec<Disk>> {
        unwired()
    }

    /// Deletes a disk of no instance (ECS DeleteDisk; `IncorrectDiskStatus` otherwise).
    pub async fn delete_disk(&self, _id: DiskId) -> Result<()> {
        unwired()
    }
}
