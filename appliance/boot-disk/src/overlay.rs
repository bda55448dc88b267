//! A device whose changes are kept in memory until they are written out in an order of our choosing.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt as _,
};

/// Bytes of one piece: every device's sectors divide it.
const PIECE: u64 = 4096;

/// The changes of a device that nobody has seen yet.
#[derive(Debug)]
pub(crate) struct Overlay<'a> {
    device: &'a File,
    size: u64,
    position: u64,
    changed: BTreeMap<u64, Vec<u8>>,
}

impl<'a> Overlay<'a> {
    pub(crate) fn new(device: &'a File) -> io::Result<Self> {
        let mut end = device;
        Ok(Self {
            device,
            size: end.seek(SeekFrom::End(0))?,
            position: 0,
            changed: BTreeMap::new(),
        })
    }

    /// Writes the changes of the second half of the device, then those of the first; each is on stable storage before the
    /// next begins.
    pub(crate) fn write_back_half_first(self) -> io::Result<()> {
        let middle = self.size / 2;
        let (front, back): (Vec<_>, Vec<_>) =
            self.changed.iter().partition(|(at, _)| **at < middle);
        for half in [back, front] {
            for (at, bytes) in half {
                self.device.write_all_at(bytes, *at)?;
            }
            self.device.sync_all()?;
        }
        Ok(())
    }

    /// The piece at a multiple of [`PIECE`] as it would be.
    fn piece(&self, at: u64) -> io::Result<Vec<u8>> {
        if let Some(bytes) = self.changed.get(&at) {
            return Ok(bytes.clone());
        }
        let length = usize::try_from(PIECE.min(self.size - at)).unwrap_or_default();
        let mut bytes = vec![0; length];
        self.device.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// The piece that holds the position, where it begins, and how far into it the position is; none at the end.
    fn here(&self) -> io::Result<Option<(u64, usize, Vec<u8>)>> {
        if self.position >= self.size {
            return Ok(None);
        }
        let at = self.position / PIECE * PIECE;
        let within = usize::try_from(self.position - at).unwrap_or_default();
        Ok(Some((at, within, self.piece(at)?)))
    }
}

impl Read for Overlay<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let Some((_, within, piece)) = self.here()? else {
            return Ok(0);
        };
        let count = to.len().min(piece.len() - within);
        to[..count].copy_from_slice(&piece[within..within + count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Overlay<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let Some((at, within, mut piece)) = self.here()? else {
            return Ok(0);
        };
        let count = from.len().min(piece.len() - within);
        piece[within..within + count].copy_from_slice(&from[..count]);
        self.changed.insert(at, piece);
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Overlay<'_> {
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
