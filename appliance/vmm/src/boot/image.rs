//! A file to load from. It is read by offset only: the descriptor may share its file position with other processes.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use vm_memory::bitmap::BitmapSlice;
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryMmap, ReadVolatile, VolatileMemoryError, VolatileSlice,
};

/// An open image with a position of its own.
pub(super) struct Image<'a> {
    file: &'a File,
    length: u64,
    position: u64,
}

impl<'a> Image<'a> {
    pub(super) fn open(file: &'a File) -> io::Result<Self> {
        Ok(Self {
            file,
            length: file.metadata()?.len(),
            position: 0,
        })
    }

    /// Size in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Reads `bytes` bytes at `offset`; fails if there are fewer.
    pub(super) fn bytes(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; bytes];
        self.file.read_exact_at(&mut buffer, offset)?;
        Ok(buffer)
    }

    /// Copies `bytes` bytes at `offset` of the file to guest-physical `address`, without a buffer between.
    pub(super) fn load(
        &self,
        memory: &GuestMemoryMmap,
        offset: u64,
        address: u64,
        bytes: u64,
    ) -> io::Result<()> {
        let mut reader = Image {
            position: offset,
            ..*self
        };
        let count = usize::try_from(bytes).map_err(io::Error::other)?;
        memory
            .read_exact_volatile_from(GuestAddress(address), &mut reader, count)
            .map_err(io::Error::other)
    }
}

impl Read for Image<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Image<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, delta) = match to {
            SeekFrom::Start(offset) => (offset, 0),
            SeekFrom::End(delta) => (self.length, delta),
            SeekFrom::Current(delta) => (self.position, delta),
        };
        let target = base.checked_add_signed(delta);
        self.position = target.ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

impl ReadVolatile for Image<'_> {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buffer: &mut VolatileSlice<B>,
    ) -> Result<usize, VolatileMemoryError> {
        let guard = buffer.ptr_guard_mut();
        let offset = i64::try_from(self.position)
            .map_err(|error| VolatileMemoryError::IOError(io::Error::other(error)))?;
        // SAFETY: the guard's pointer is valid for writes of `guard.len()` bytes while the guard lives; the kernel
        // writes there at most that many.
        let count = unsafe {
            libc::pread64(
                self.file.as_raw_fd(),
                guard.as_ptr().cast(),
                guard.len(),
                offset,
            )
        };
        let count = usize::try_from(count)
            .map_err(|_| VolatileMemoryError::IOError(io::Error::last_os_error()))?;
        buffer.bitmap().mark_dirty(0, count);
        self.position += count as u64;
        Ok(count)
    }
}
