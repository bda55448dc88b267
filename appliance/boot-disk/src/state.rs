//! The state partition: one record, in two copies that are written in turn.
//!
//! ```text
//! copy 0  ┌ magic, format, sequence number, length, SHA-256 of what follows ┐ JSON …      at 0
//! copy 1  └ the same, with the next sequence number                         ┘ JSON …      at half the partition
//! ```
//!
//! A write replaces the older copy and is on stable storage before it counts; a reader takes the valid copy with the higher
//! number. Whatever of a write a power cut leaves, the other copy is whole. There is no file system, so that nothing needs
//! repairing before a host can say what is wrong with it.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{DiskError, ErrorKind, HostRecord};

/// What a copy begins with.
const MAGIC: [u8; 8] = *b"ASHSTATE";
/// The one form of copies there is.
const FORMAT: u32 = 1;
/// Bytes of a copy before its JSON.
const HEADER: usize = 64;
/// The longest record, bytes.
const MAX_RECORD: usize = 1 << 20;
/// Copies are written in whole pieces of this, bytes.
const PIECE: usize = 4096;

/// What a record can be kept in.
pub trait StateFile {
    /// Bytes there are.
    ///
    /// # Errors
    /// It cannot be measured.
    fn size(&self) -> io::Result<u64>;
    /// Fills `to` from `at`.
    ///
    /// # Errors
    /// It cannot be read.
    fn read_at(&self, to: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes `from` at `at`; on stable storage when this returns.
    ///
    /// # Errors
    /// It cannot be written.
    fn write_at(&self, from: &[u8], at: u64) -> io::Result<()>;
}

impl StateFile for File {
    fn size(&self) -> io::Result<u64> {
        let mut end = self;
        io::Seek::seek(&mut end, io::SeekFrom::End(0))
    }

    fn read_at(&self, to: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(to, at)
    }

    fn write_at(&self, from: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(from, at)?;
        self.sync_data()
    }
}

/// The record of a host on its state partition.
pub struct StateStore<F> {
    file: F,
    path: PathBuf,
    half: u64,
    /// The number of the newest valid copy, 0 if there is none.
    sequence: u64,
    record: HostRecord,
}

/// What one copy holds.
enum Copy {
    /// Nothing was ever written.
    Blank,
    /// It is whole.
    Valid(u64, Box<HostRecord>),
    /// It is of a form this program does not know.
    Unknown(u32),
    /// It is not whole.
    Damaged,
}

impl StateStore<File> {
    /// Opens the partition with that device file.
    ///
    /// # Errors
    /// It cannot be opened or read, or both copies are damaged.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let file = File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(DiskError::io("open the state partition", path))?;
        Self::on(file, path)
    }
}

impl<F: StateFile> StateStore<F> {
    /// Reads the record in `file`, called `path` in errors. Where nothing was ever written it is empty.
    ///
    /// # Errors
    /// It cannot be read, or both copies are damaged.
    pub fn on(file: F, path: &Path) -> Result<Self, DiskError> {
        let failed = DiskError::io("read the state partition", path);
        let size = file.size().map_err(&failed)?;
        let half = size / 2 / PIECE as u64 * PIECE as u64;
        let copies = [
            read_copy(&file, 0, half).map_err(&failed)?,
            read_copy(&file, half, half).map_err(&failed)?,
        ];
        let mut newest: Option<(u64, HostRecord)> = None;
        let mut blank = true;
        let mut unknown = None;
        for copy in copies {
            match copy {
                Copy::Valid(sequence, record) => {
                    blank = false;
                    if newest.as_ref().is_none_or(|(other, _)| sequence > *other) {
                        newest = Some((sequence, *record));
                    }
                }
                Copy::Unknown(format) => {
                    blank = false;
                    unknown = Some(format);
                }
                Copy::Damaged => blank = false,
                Copy::Blank => {}
            }
        }
        let (sequence, record) = match newest {
            Some(found) => found,
            None if blank => (0, HostRecord::default()),
            None => {
                let what = match unknown {
                    Some(format) => format!("is of form {format}, which a newer version wrote"),
                    None => "is damaged in both copies".to_owned(),
                };
                return Err(DiskError::new(
                    ErrorKind::Damaged,
                    format!("the state partition {} {what}", path.display()),
                    "Start the newer version, or reset the host's state: it then gets a new identity and must be enrolled again; instances and disks stay.",
                ));
            }
        };
        Ok(Self {
            file,
            path: path.to_owned(),
            half,
            sequence,
            record,
        })
    }

    /// The record.
    #[must_use]
    pub fn record(&self) -> &HostRecord {
        &self.record
    }

    /// Changes the record: all of it or, when this fails, nothing. On stable storage when this returns.
    ///
    /// # Errors
    /// The record would be too large, or the partition cannot be written.
    pub fn update(&mut self, change: impl FnOnce(&mut HostRecord)) -> Result<(), DiskError> {
        let mut record = self.record.clone();
        change(&mut record);
        let sequence = self.sequence + 1;
        let bytes = encode(sequence, &record).map_err(|error| {
            DiskError::new(
                ErrorKind::Damaged,
                "the host's state cannot be written down",
                "Report this.",
            )
            .because(error)
        })?;
        if bytes.len() as u64 > self.half || bytes.len() > MAX_RECORD {
            return Err(DiskError::new(
                ErrorKind::Full,
                format!(
                    "the state partition {} is full: the record would need {} KiB of {}",
                    self.path.display(),
                    bytes.len() >> 10,
                    self.half.min(MAX_RECORD as u64) >> 10
                ),
                "Push a shorter configuration; what was there before is still in force.",
            ));
        }
        // Even numbers in front, odd ones behind: always over the older copy.
        let at = if sequence.is_multiple_of(2) {
            0
        } else {
            self.half
        };
        self.file
            .write_at(&bytes, at)
            .map_err(DiskError::io("write the state partition", &self.path))?;
        (self.sequence, self.record) = (sequence, record);
        Ok(())
    }

    /// Forgets everything: as before the first boot.
    ///
    /// # Errors
    /// The partition cannot be written.
    pub fn reset(path: &Path) -> Result<(), DiskError> {
        let failed = DiskError::io("reset the state partition", path);
        let file = File::options()
            .write(true)
            .read(true)
            .open(path)
            .map_err(&failed)?;
        let half = StateFile::size(&file).map_err(&failed)? / 2 / PIECE as u64 * PIECE as u64;
        for at in [0, half] {
            StateFile::write_at(&file, &[0; PIECE], at).map_err(&failed)?;
        }
        Ok(())
    }
}

fn encode(sequence: u64, record: &HostRecord) -> Result<Vec<u8>, serde_json::Error> {
    let json = serde_json::to_vec(record)?;
    let mut bytes = Vec::with_capacity(HEADER + json.len());
    bytes.extend(MAGIC);
    bytes.extend(FORMAT.to_le_bytes());
    bytes.extend(u32::try_from(json.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend(sequence.to_le_bytes());
    bytes.resize(HEADER - 32, 0);
    let digest = digest(&bytes, &json);
    bytes.extend(digest);
    bytes.extend(json);
    bytes.resize(bytes.len().next_multiple_of(PIECE), 0);
    Ok(bytes)
}

fn digest(header: &[u8], json: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(header)
        .chain_update(json)
        .finalize()
        .into()
}

fn read_copy(file: &impl StateFile, at: u64, room: u64) -> io::Result<Copy> {
    let mut header = [0; HEADER];
    file.read_at(&mut header, at)?;
    if header == [0; HEADER] {
        return Ok(Copy::Blank);
    }
    let number = |range: std::ops::Range<usize>| {
        header[range]
            .iter()
            .rev()
            .fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
    };
    if header[..8] != MAGIC {
        return Ok(Copy::Damaged);
    }
    let (format, length, sequence) = (number(8..12), number(12..16), number(16..24));
    if format != u64::from(FORMAT) {
        return Ok(Copy::Unknown(u32::try_from(format).unwrap_or(u32::MAX)));
    }
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MAX_RECORD || (HEADER + length) as u64 > room {
        return Ok(Copy::Damaged);
    }
    let mut json = vec![0; length];
    file.read_at(&mut json, at + HEADER as u64)?;
    if digest(&header[..HEADER - 32], &json) != header[HEADER - 32..] {
        return Ok(Copy::Damaged);
    }
    Ok(match serde_json::from_slice(&json) {
        Ok(record) => Copy::Valid(sequence, Box::new(record)),
        Err(_) => Copy::Damaged,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    const SIZE: usize = 64 << 10;

    /// Memory that remembers its last write, so that it can be torn.
    struct Memory {
        bytes: RefCell<Vec<u8>>,
        last: RefCell<Option<(usize, Vec<u8>)>>,
    }

    impl Memory {
        fn new(bytes: Vec<u8>) -> Self {
            Self {
                bytes: RefCell::new(bytes),
                last: RefCell::default(),
            }
        }
    }

    impl StateFile for &Memory {
        fn size(&self) -> io::Result<u64> {
            Ok(self.bytes.borrow().len() as u64)
        }

        fn read_at(&self, to: &mut [u8], at: u64) -> io::Result<()> {
            let at = usize::try_from(at).unwrap();
            to.copy_from_slice(&self.bytes.borrow()[at..at + to.len()]);
            Ok(())
        }

        fn write_at(&self, from: &[u8], at: u64) -> io::Result<()> {
            let at = usize::try_from(at).unwrap();
            self.bytes.borrow_mut()[at..at + from.len()].copy_from_slice(from);
            *self.last.borrow_mut() = Some((at, from.to_vec()));
            Ok(())
        }
    }

    fn open(memory: &Memory) -> Result<StateStore<&Memory>, DiskError> {
        StateStore::on(memory, Path::new("state"))
    }

    #[test]
    fn a_blank_partition_is_an_empty_record_and_changes_are_found_again() {
        let memory = Memory::new(vec![0; SIZE]);
        assert_eq!(*open(&memory).unwrap().record(), HostRecord::default());
        for boots in 1..=5 {
            let mut store = open(&memory).unwrap();
            assert_eq!(store.record().boots, boots - 1);
            store.update(|record| record.boots = boots).unwrap();
        }
        assert_eq!(open(&memory).unwrap().record().boots, 5);
    }

    #[test]
    fn whatever_a_power_cut_leaves_of_a_write_the_record_is_the_old_or_the_new_one() {
        for rounds in 1..=4 {
            let memory = Memory::new(vec![0; SIZE]);
            let mut store = open(&memory).unwrap();
            let long = "x".repeat(9000);
            for boots in 0..rounds {
                store
                    .update(|record| {
                        (record.boots, record.entropy_seed) = (boots, Some(long.clone()))
                    })
                    .unwrap();
            }
            let before = memory.bytes.borrow().clone();
            store.update(|record| record.boots = 99).unwrap();
            let (at, written) = memory.last.borrow().clone().unwrap();
            let sectors = written.len() / 512;
            // Every prefix, and every single sector missing or alone.
            let prefixes =
                (0..=sectors).map(|count| (0..sectors).map(|s| s < count).collect::<Vec<_>>());
            let missing = (0..sectors).map(|hole| (0..sectors).map(|s| s != hole).collect());
            let alone = (0..sectors).map(|only| (0..sectors).map(|s| s == only).collect());
            for pattern in prefixes.chain(missing).chain(alone) {
                let mut torn = before.clone();
                for (sector, _) in pattern.iter().enumerate().filter(|(_, there)| **there) {
                    let range = sector * 512..(sector + 1) * 512;
                    torn[at + range.start..at + range.end].copy_from_slice(&written[range]);
                }
                let memory = Memory::new(torn);
                let found = open(&memory).unwrap().record().boots;
                assert!(
                    found == 99 || found == rounds - 1,
                    "{found} after {rounds} with {pattern:?}"
                );
            }
        }
    }

    #[test]
    fn a_partition_damaged_in_both_copies_is_explained() {
        let memory = Memory::new(vec![0; SIZE]);
        let mut store = open(&memory).unwrap();
        store.update(|record| record.boots = 1).unwrap();
        store.update(|record| record.boots = 2).unwrap();
        for at in [HEADER + 1, SIZE / 2 + HEADER + 1] {
            memory.bytes.borrow_mut()[at] ^= 1;
        }
        let error = open(&memory).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(error.to_string().contains("both copies"), "{error}");
        memory.bytes.borrow_mut()[8] = 7;
        let error = open(&memory).err().unwrap();
        assert!(error.to_string().contains("form 7"), "{error}");
    }

    #[test]
    fn a_record_that_does_not_fit_changes_nothing() {
        let memory = Memory::new(vec![0; SIZE]);
        let mut store = open(&memory).unwrap();
        store.update(|record| record.boots = 1).unwrap();
        let error = store
            .update(|record| record.configuration.pushed = Some("x".repeat(SIZE)))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full);
        assert!(error.to_string().contains("is full"), "{error}");
        assert_eq!(store.record().configuration.pushed, None);
        store.update(|record| record.boots = 2).unwrap();
        assert_eq!(open(&memory).unwrap().record().boots, 2);
    }

    #[test]
    fn a_reset_partition_is_as_before_the_first_boot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        File::create(&path).unwrap().set_len(SIZE as u64).unwrap();
        let mut store = StateStore::open(&path).unwrap();
        store.update(|record| record.boots = 1).unwrap();
        store.update(|record| record.boots = 2).unwrap();
        StateStore::<File>::reset(&path).unwrap();
        assert_eq!(StateStore::open(&path).unwrap().record().boots, 0);
    }
}
