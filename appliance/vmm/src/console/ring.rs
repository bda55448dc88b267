//! The ring file: a header page with the number of bytes ever written, then the last MiB of them.
//!
//! One process writes (the vmm of the moment), any number read; the file survives them all. A reader learns from
//! the count, read again after the data, whether bytes were overwritten meanwhile.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory, VolatileSlice};

use crate::protocol::ExitReason;

/// Bytes of console output that are kept.
pub const RING_BYTES: u64 = 1 << 20;
const HEADER_BYTES: u64 = 4096;
const FILE_BYTES: u64 = HEADER_BYTES + RING_BYTES;
const MAGIC: [u8; 8] = *b"ASHRING1";
const TOTAL_AT: usize = 8;
/// Length (4 bytes) and JSON of the reason for which the last vmm ended.
const EXIT_AT: usize = 64;
const EXIT_MAX: usize = 2048;

/// Turns an empty file into a ring; a file that already is one is left as it is.
///
/// # Errors
/// The file is something else, or cannot be written.
pub fn create(file: &File) -> io::Result<()> {
    if file.metadata()?.len() == 0 {
        file.set_len(FILE_BYTES)?;
        file.write_all_at(&MAGIC, 0)?;
    }
    check(file)
}

fn check(file: &File) -> io::Result<()> {
    let mut magic = [0; 8];
    let length = file.metadata()?.len();
    if length == FILE_BYTES {
        file.read_exact_at(&mut magic, 0)?;
    }
    if magic != MAGIC {
        let problem = format!("not a console ring file ({length} bytes)");
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    Ok(())
}

/// The writing end: a shared mapping, so that output costs no system call.
pub(crate) struct RingWriter {
    mapping: MmapRegion,
    total: u64,
}

impl RingWriter {
    /// Goes on where the last writer stopped.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        check(&file)?;
        let size = usize::try_from(FILE_BYTES).map_err(io::Error::other)?;
        let place = FileOffset::from_arc(Arc::new(file), 0);
        let mapping = MmapRegion::from_file(place, size).map_err(io::Error::other)?;
        let total = mapping
            .as_volatile_slice()
            .load(TOTAL_AT, Ordering::Acquire)
            .map_err(io::Error::other)?;
        let writer = Self { mapping, total };
        // A reason of an earlier run must not be taken for this one's.
        writer.put(EXIT_AT, &0_u32.to_le_bytes());
        Ok(writer)
    }

    /// Appends `bytes`.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(1 << 16) {
            let at = self.total % RING_BYTES;
            let until_end = usize::try_from(RING_BYTES - at).unwrap_or(usize::MAX);
            let (first, wrapped) = piece.split_at(piece.len().min(until_end));
            self.put(
                usize::try_from(HEADER_BYTES + at).unwrap_or(usize::MAX),
                first,
            );
            self.put(4096, wrapped);
            self.total += piece.len() as u64;
            let _ = self.slice().store(self.total, TOTAL_AT, Ordering::Release);
        }
    }

    /// Bytes ever written.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Leaves the reason for which the vmm ends.
    pub(crate) fn leave(&self, reason: &ExitReason) {
        let json = serde_json::to_vec(reason).unwrap_or_default();
        let length = u32::try_from(json.len()).unwrap_or(u32::MAX);
        if json.len() <= EXIT_MAX {
            self.put(EXIT_AT + 4, &json);
            self.put(EXIT_AT, &length.to_le_bytes());
        }
    }

    fn slice(&self) -> VolatileSlice<'_> {
        self.mapping.as_volatile_slice()
    }

    fn put(&self, at: usize, bytes: &[u8]) {
        if !bytes.is_empty() {
            // Every offset used lies inside the file, whose size `check` has seen.
            let _ = self.slice().write_slice(bytes, at);
        }
    }
}

/// What [`ConsoleReader::read`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Offset of the first byte of `bytes`, counted from the first byte ever written.
    pub offset: u64,
    /// The bytes; empty when there is nothing new.
    pub bytes: Vec<u8>,
    /// Where to read next: `offset` plus the number of bytes.
    pub next: u64,
    /// How many of the bytes asked for had been overwritten.
    pub lost: u64,
}

/// The reading end.
pub struct ConsoleReader {
    file: File,
}

impl ConsoleReader {
    /// Reads the ring in `file`, which needs to be open for reading only.
    ///
    /// # Errors
    /// The file is not a ring.
    pub fn new(file: File) -> io::Result<Self> {
        check(&file)?;
        Ok(Self { file })
    }

    /// Bytes ever written.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn total(&self) -> io::Result<u64> {
        let mut total = [0; 8];
        self.file.read_exact_at(&mut total, TOTAL_AT as u64)?;
        Ok(u64::from_le_bytes(total))
    }

    /// Reads at most `most` bytes from offset `from` on; starts at the oldest byte kept if that one is gone. An
    /// offset beyond the end reads nothing and goes on from the end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self, from: u64, most: usize) -> io::Result<Chunk> {
        let end = self.total()?;
        let oldest = end.saturating_sub(RING_BYTES);
        let offset = from.clamp(oldest, end);
        let length = (end - offset).min(most as u64);
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        let at = offset % RING_BYTES;
        let until_end = usize::try_from(RING_BYTES - at).map_err(io::Error::other)?;
        let split = bytes.len().min(until_end);
        let (first, wrapped) = bytes.split_at_mut(split);
        self.file.read_exact_at(first, HEADER_BYTES + at)?;
        self.file.read_exact_at(wrapped, HEADER_BYTES)?;
        // What the writer has run over while we read is not what was asked for.
        let oldest = self.total()?.saturating_sub(RING_BYTES);
        let spoiled = usize::try_from(oldest.saturating_sub(offset))
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        bytes.drain(..spoiled);
        let offset = offset + spoiled as u64;
        Ok(Chunk {
            offset,
            next: offset + bytes.len() as u64,
            lost: offset.saturating_sub(from),
            bytes,
        })
    }

    /// Why the last vmm that wrote here ended; `None` while one runs, or when it was killed.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn exit_reason(&self) -> io::Result<Option<ExitReason>> {
        let mut length = [0; 4];
        self.file.read_exact_at(&mut length, EXIT_AT as u64)?;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length == 0 || length > EXIT_MAX {
            return Ok(None);
        }
        let mut json = vec![0; length];
        self.file.read_exact_at(&mut json, EXIT_AT as u64 + 4)?;
        Ok(serde_json::from_slice(&json).ok())
    }
}

impl AsFd for ConsoleReader {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> (RingWriter, ConsoleReader) {
        let file = tempfile::tempfile().expect("a temporary file");
        create(&file).expect("a new ring");
        let reader = ConsoleReader::new(file.try_clone().expect("a descriptor")).expect("a ring");
        (RingWriter::new(file).expect("a ring"), reader)
    }

    #[test]
    fn what_is_written_is_read_from_any_offset() {
        let (mut writer, reader) = ring();
        writer.append(b"hello ");
        writer.append(b"world");
        let all = reader.read(0, 100).expect("readable");
        assert_eq!(
            (all.bytes.as_slice(), all.next, all.lost),
            (&b"hello world"[..], 11, 0)
        );
        assert_eq!(reader.read(6, 3).expect("readable").bytes, b"wor");
        assert_eq!(reader.read(11, 100).expect("readable").bytes, b"");
        assert_eq!(reader.read(99, 100).expect("readable").next, 11);
    }

    #[test]
    fn the_last_mebibyte_is_kept_and_losses_are_told() {
        let (mut writer, reader) = ring();
        let line = |number: u64| format!("{number:015}\n").into_bytes();
        let lines = RING_BYTES / 16 + 1000;
        (0..lines).for_each(|number| writer.append(&line(number)));
        let chunk = reader.read(0, usize::MAX).expect("readable");
        assert_eq!((chunk.lost, chunk.offset), (16_000, 16_000));
        assert_eq!(chunk.bytes.len() as u64, RING_BYTES);
        assert_eq!(chunk.bytes[..16], line(1000));
        assert_eq!(chunk.bytes[chunk.bytes.len() - 16..], line(lines - 1));
    }

    #[test]
    fn a_second_writer_goes_on_and_forgets_the_reason_of_the_first() {
        let (mut first, reader) = ring();
        first.append(b"one");
        first.leave(&ExitReason::PoweredOff);
        assert_eq!(
            reader.exit_reason().expect("readable"),
            Some(ExitReason::PoweredOff)
        );
        let mut second =
            RingWriter::new(reader.file.try_clone().expect("a descriptor")).expect("a ring");
        assert_eq!(reader.exit_reason().expect("readable"), None);
        second.append(b" two");
        assert_eq!(reader.read(0, 100).expect("readable").bytes, b"one two");
    }

    #[test]
    fn another_file_is_refused() {
        let file = tempfile::tempfile().expect("a temporary file");
        file.write_all_at(b"data", 0).expect("writable");
        assert!(create(&file).is_err());
        assert!(ConsoleReader::new(file).is_err());
    }
}
