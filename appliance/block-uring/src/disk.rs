//! Opening a disk: its size, and whether the page cache is bypassed.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use block::{BlockDevice, Geometry, GeometryError, SECTOR_BYTES};
use rustix::fs::{AtFlags, OFlags, StatxFlags};
use vm_memory::GuestMemoryMmap;

use crate::{Counters, UringChannel};

/// How a disk is to be opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Capacity in 512-byte sectors; `None` takes the whole file.
    pub sectors: Option<u64>,
    /// Refuse whatever changes the disk.
    pub read_only: bool,
    /// Use the page cache even where it could be bypassed.
    pub buffered: bool,
}

/// Whether the host's page cache is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// It is bypassed; buffers must be aligned to this many bytes (others are bounced).
    Direct {
        /// A power of two.
        memory_alignment: u32,
    },
    /// It is used because the caller asked for it.
    Buffered,
    /// It is used because the file system cannot bypass it.
    NoDirect,
    /// It is used because bypassing needs file offsets aligned to more than a sector.
    Alignment(u32),
}

impl std::fmt::Display for Caching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Caching::Direct { .. } => f.write_str("direct"),
            Caching::Buffered => f.write_str("buffered, as asked"),
            Caching::NoDirect => f.write_str("buffered: the file system has no direct I/O"),
            Caching::Alignment(bytes) => {
                write!(
                    f,
                    "buffered: direct I/O would need alignment to {bytes} bytes"
                )
            }
        }
    }
}

/// A disk that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// See the message.
    #[error("cannot learn the size or mode of the disk's file")]
    Inspect(#[source] io::Error),
    /// See the message.
    #[error(
        "the disk's file has {actual} bytes, too few for a disk of {expected}: it was truncated or is the wrong file"
    )]
    TooShort {
        /// Bytes the disk should have.
        expected: u64,
        /// Bytes the file has.
        actual: u64,
    },
    /// See the message.
    #[error("the disk's size is not usable")]
    Geometry(#[from] GeometryError),
}

/// An opened disk. All its channels work on the same guest memory.
pub struct UringDisk {
    pub(crate) file: Arc<File>,
    pub(crate) memory: GuestMemoryMmap,
    pub(crate) counters: Arc<Counters>,
    geometry: Geometry,
    caching: Caching,
}

impl UringDisk {
    /// Takes an open file (readable, and writable unless `read_only`). Sets O_DIRECT on it where that works.
    ///
    /// # Errors
    /// The file cannot be inspected, is shorter than the disk, or empty.
    pub fn open(
        file: File,
        memory: GuestMemoryMmap,
        options: OpenOptions,
    ) -> Result<Self, OpenError> {
        let bytes = (&file).seek(SeekFrom::End(0)).map_err(OpenError::Inspect)?;
        let sectors = options.sectors.unwrap_or(bytes / SECTOR_BYTES);
        let geometry = Geometry {
            read_only: options.read_only,
            ..Geometry::of_sectors(sectors)
        };
        geometry.validate()?;
        if bytes < geometry.bytes() {
            return Err(OpenError::TooShort {
                expected: geometry.bytes(),
                actual: bytes,
            });
        }
        let caching = if options.buffered {
            Caching::Buffered
        } else {
            bypass_cache(&file).map_err(OpenError::Inspect)?
        };
        Ok(UringDisk {
            file: Arc::new(file),
            memory,
            counters: Arc::default(),
            geometry,
            caching,
        })
    }

    /// Whether the page cache is bypassed, and if not, why.
    pub fn caching(&self) -> Caching {
        self.caching
    }

    /// The guest memory its channels work on.
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// What the channels of this disk did.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

impl BlockDevice for UringDisk {
    type Channel = UringChannel;
    type Error = io::Error;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn open_channel(&self) -> io::Result<UringChannel> {
        UringChannel::new(self)
    }
}

impl AsRawFd for UringDisk {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// Turns O_DIRECT on if 512-byte sectors can then be read.
fn bypass_cache(file: &File) -> io::Result<Caching> {
    let fd = file.as_fd();
    match reported_alignment(fd) {
        Some((0, _)) => return Ok(Caching::NoDirect),
        Some((offset, _)) if u64::from(offset) > SECTOR_BYTES => {
            return Ok(Caching::Alignment(offset));
        }
        Some((_, memory)) => {
            let direct = set_direct(fd, true).is_ok();
            let memory_alignment = memory.next_power_of_two();
            return Ok(if direct {
                Caching::Direct { memory_alignment }
            } else {
                Caching::NoDirect
            });
        }
        None => {}
    }
    // Older kernels and some file systems do not report it: try.
    if set_direct(fd, true).is_err() {
        return Ok(Caching::NoDirect);
    }
    let sector = usize::try_from(SECTOR_BYTES).unwrap_or(512);
    let mut buffer = vec![0; 2 * sector];
    let start = buffer.as_ptr().align_offset(sector).min(sector);
    match file.read_at(&mut buffer[start..start + sector], 0) {
        Ok(_) => Ok(Caching::Direct {
            memory_alignment: 512,
        }),
        Err(_) => {
            set_direct(fd, false)?;
            Ok(Caching::NoDirect)
        }
    }
}

/// Alignment of file offset and memory for direct I/O (Linux 6.1 and later); zeroes mean it is not possible.
fn reported_alignment(fd: BorrowedFd<'_>) -> Option<(u32, u32)> {
    let stat = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    let known = stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    known.then_some((stat.stx_dio_offset_align, stat.stx_dio_mem_align))
}

fn set_direct(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    let mut flags = rustix::fs::fcntl_getfl(fd)?;
    flags.set(OFlags::DIRECT, on);
    Ok(rustix::fs::fcntl_setfl(fd, flags)?)
}
