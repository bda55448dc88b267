//! One daemon per state folder.

use crate::StoreError;
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
};

const FILE_NAME: &str = "lock";

/// Holds the folder until it is dropped or its process ends, however that ends.
pub(crate) struct FolderLock {
    _file: File,
}

impl FolderLock {
    pub(crate) fn take(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(FILE_NAME);
        let failed = |error| StoreError::io(format!("cannot lock {}", path.display()), error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(StoreError::in_use(folder, holder(&mut file)));
            }
            Err(error) => return Err(failed(error.into())),
        }
        // Only for people and the message above: the lock itself is the kernel's.
        let note = format!("{}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)).map(drop))
            .and_then(|()| file.write_all(note.as_bytes()))
            .map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// The process that holds the lock, as it noted itself; `None` while it has not yet.
fn holder(file: &mut File) -> Option<u32> {
    let mut note = String::new();
    file.take(16).read_to_string(&mut note).ok()?;
    note.trim().parse().ok()
}
