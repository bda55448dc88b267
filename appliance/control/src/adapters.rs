//! Adapters that need no more than this crate depends on: pools as volumes, the system's clock and randomness.

use crate::{
    model::{DiskCategory, ImagePartKind},
    ports::{
        Clock, CpuControl, CpuShare, Entropy, OpenDisk, PartWriter, PortError, PortErrorKind,
        PortResult, PresentVolumes, Processors, Space, StoredPart, Volumes,
    },
};
use pool::{ErrorKind, Part, Pool, PoolError};
use rustix::time::{ClockId, clock_gettime};
use std::{
    fs::File,
    time::{Duration, SystemTime},
};
use types::{ByteCount, DiskId, ImageId, InstanceId, Timestamp};

/// The system's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_system_time(SystemTime::now())
    }

    fn monotonic_ns(&self) -> u64 {
        let now = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or_default();
        seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(nanoseconds)
    }
}

/// The kernel's random source.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn random(&self) -> u128 {
        let mut bytes = [0_u8; 16];
        let mut filled = 0;
        // 16 bytes come in one piece once the source is seeded; a signal may interrupt the wait before that.
        while filled < bytes.len() {
            filled += rustix::rand::getrandom(
                &mut bytes[filled..],
                rustix::rand::GetRandomFlags::empty(),
            )
            .unwrap_or(0);
        }
        u128::from_ne_bytes(bytes)
    }
}

/// CPUs that cannot be limited: every machine uses what it can get.
#[derive(Clone, Debug, Default)]
pub struct UnlimitedProcessors {
    /// Why they cannot.
    pub reason: String,
}

impl Processors for UnlimitedProcessors {
    fn control(&self) -> CpuControl {
        CpuControl::None(self.reason.clone())
    }

    fn topology(&self) -> Option<cpu::Topology> {
        None
    }

    fn limit(&self, _: InstanceId, _: &CpuShare) -> PortResult<()> {
        Ok(())
    }

    fn used(&self, instance: InstanceId, _: u64) -> PortResult<Duration> {
        let message = format!("what {instance} uses of the CPUs is not known");
        Err(PortError::new(PortErrorKind::NotFound, message))
    }
}

impl From<PoolError> for PortError {
    fn from(error: PoolError) -> Self {
        let kind = match error.kind() {
            ErrorKind::NotFound => PortErrorKind::NotFound,
            ErrorKind::Full => PortErrorKind::Exhausted,
            ErrorKind::Unsupported => PortErrorKind::Unsupported,
            ErrorKind::Invalid => PortErrorKind::Invalid,
            ErrorKind::Io => PortErrorKind::Failed,
        };
        let this = Self::new(kind, error.to_string()).with_next_step(error.next_step());
        match std::error::Error::source(&error) {
            Some(cause) => this.with_source(std::io::Error::other(cause.to_string())),
            None => this,
        }
    }
}

const fn part(kind: ImagePartKind) -> Part {
    match kind {
        ImagePartKind::Kernel => Part::Kernel,
        ImagePartKind::Initrd => Part::Initrd,
        ImagePartKind::Disk => Part::Disk,
    }
}

impl PartWriter for pool::PartWriter {
    fn write(&mut self, data: &[u8]) -> PortResult<()> {
        Ok(Self::write(self, data)?)
    }

    fn finish(self: Box<Self>) -> PortResult<StoredPart> {
        let pool::StoredPart { size, sha256 } = Self::finish(*self)?;
        Ok(StoredPart { size, sha256 })
    }
}

/// The pool of images and disks, and the one of local disks where there is one: the folder of a file system of its own.
#[derive(Debug)]
pub struct Pools {
    pool: Pool,
    local: Option<Pool>,
}

impl Pools {
    /// The pool, and the one of local disks.
    #[must_use]
    pub const fn new(pool: Pool, local: Option<Pool>) -> Self {
        Self { pool, local }
    }

    /// What local disks may come to in all: what is free now, and what those that are there have.
    ///
    /// # Errors
    /// When the pool of local disks cannot be read.
    pub fn local_capacity(&self) -> PortResult<ByteCount> {
        let Some(local) = &self.local else {
            return Ok(ByteCount::ZERO);
        };
        let mut capacity = local.space()?.free;
        for disk in local.disks()? {
            capacity = capacity + local.open_disk(disk)?.size;
        }
        Ok(capacity)
    }

    /// Where that disk is, or is to be.
    fn of(&self, disk: DiskId, category: DiskCategory) -> PortResult<&Pool> {
        let pool = match category {
            DiskCategory::CloudEssd => Some(&self.pool),
            DiskCategory::LocalSsdPro => self.local.as_ref(),
        };
        pool.ok_or_else(|| {
            let message =
                format!("disk {disk} is a local one, and this host has no pool for these");
            PortError::new(PortErrorKind::Unsupported, message)
                .with_next_step("Start the daemon with the --local-pool that it is in.")
        })
    }
}

impl Volumes for Pools {
    fn receive_part(&self, image: ImageId, kind: ImagePartKind) -> PortResult<Box<dyn PartWriter>> {
        Ok(Box::new(self.pool.receive_part(image, part(kind))?))
    }

    fn open_part(&self, image: ImageId, kind: ImagePartKind) -> PortResult<File> {
        Ok(self.pool.open_part(image, part(kind))?)
    }

    fn delete_image(&self, image: ImageId) -> PortResult<()> {
        Ok(self.pool.delete_image(image)?)
    }

    fn clone_disk(&self, disk: DiskId, image: ImageId, size: ByteCount) -> PortResult<()> {
        Ok(self.pool.clone_disk(disk, image, size)?)
    }

    fn create_disk(&self, disk: DiskId, size: ByteCount, category: DiskCategory) -> PortResult<()> {
        let pool = self.of(disk, category)?;
        match category.is_local() {
            true => pool.allocate_disk(disk, size)?,
            false => pool.create_disk(disk, size)?,
        }
        Ok(())
    }

    fn sync_disk(&self, disk: DiskId, category: DiskCategory) -> PortResult<()> {
        Ok(self.of(disk, category)?.sync_disk(disk)?)
    }

    fn open_disk(&self, disk: DiskId, category: DiskCategory) -> PortResult<OpenDisk> {
        let opened = self.of(disk, category)?.open_disk(disk)?;
        let pool::OpenDisk { file, size, direct } = opened;
        Ok(OpenDisk { file, size, direct })
    }

    fn delete_disk(&self, disk: DiskId, category: DiskCategory) -> PortResult<()> {
        Ok(self.of(disk, category)?.delete_disk(disk)?)
    }

    fn list(&self) -> PortResult<PresentVolumes> {
        let local = self.local.as_ref().map(Pool::disks).transpose()?;
        let of = |category: DiskCategory| move |disk: DiskId| (disk, category);
        let disks = self.pool.disks()?.into_iter();
        let disks = disks.map(of(DiskCategory::CloudEssd));
        let local = local.unwrap_or_default().into_iter();
        Ok(PresentVolumes {
            disks: disks
                .chain(local.map(of(DiskCategory::LocalSsdPro)))
                .collect(),
            images: self.pool.images()?,
        })
    }

    fn space(&self) -> PortResult<Space> {
        let pool::Space { total, free } = self.pool.space()?;
        Ok(Space { total, free })
    }
}
