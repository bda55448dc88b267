//! The EFI system partition within a disk or an image, before there is a device for it.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt as _,
};

use image_format::layout;

use crate::client::Error;

/// A range of a disk as a device of its own.
pub struct Part<'a> {
    target: &'a File,
    start: u64,
    size: u64,
    position: u64,
}

impl<'a> Part<'a> {
    /// The EFI system partition of a disk whose first MiB is `head`.
    ///
    /// # Errors
    /// It has none.
    pub fn esp(target: &'a File, head: &[u8]) -> Result<Self, Error> {
        let (start, size) = esp(head)?;
        Ok(Self {
            target,
            start,
            size,
            position: 0,
        })
    }

    fn bounded(&self, length: usize) -> usize {
        length.min(usize::try_from(self.size.saturating_sub(self.position)).unwrap_or(usize::MAX))
    }
}

impl Read for Part<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let length = self.bounded(to.len());
        let count = self
            .target
            .read_at(&mut to[..length], self.start + self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Part<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let length = self.bounded(from.len());
        let count = self
            .target
            .write_at(&from[..length], self.start + self.position)?;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Part<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// Where the EFI system partition is, by the table in the image's first MiB (UEFI 2.10 §5.3.2): its header in sector 1, its entries from
/// sector 2 on.
fn esp(head: &[u8]) -> Result<(u64, u64), Error> {
    let number = |at: usize| {
        head.get(at..at + 8).map(|bytes| {
            bytes
                .iter()
                .rev()
                .fold(0, |value: u64, byte| value << 8 | u64::from(*byte))
        })
    };
    let wanted: Vec<u8> = layout::ESP
        .name
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for entry in (0..128).map(|index| 1024 + index * 128) {
        let name = head.get(entry + 56..entry + 56 + wanted.len());
        if name == Some(&wanted[..])
            && let (Some(first), Some(last)) = (number(entry + 32), number(entry + 40))
        {
            let start = first.checked_mul(layout::SECTOR_BYTES);
            let size = (last.checked_sub(first))
                .and_then(|sectors| sectors.checked_add(1)?.checked_mul(layout::SECTOR_BYTES));
            return start.zip(size).ok_or_else(|| {
                Error::Failed("the image's EFI system partition makes no sense".into())
            });
        }
    }
    Err(Error::Failed(
        "the image has no EFI system partition".into(),
    ))
}
