//! One daemon per state folder.

use crate::StoreError;
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    time::{Duration, Instant},
};

const FILE_NAME: &str = "lock";
/// A child that a killed daemon was just starting has the lock until it runs its program: so long is waited for that.
const CHILD_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(5);

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
        let deadline = Instant::now() + CHILD_PATIENCE;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let holder = holder(&mut file);
                    if holder.is_none_or(lives) || Instant::now() >= deadline {
                        return Err(StoreError::in_use(folder, holder));
                    }
                    std::thread::sleep(LOOK);
                }
                Err(error) => return Err(failed(error.into())),
            }
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
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(16).read_to_string(&mut note).ok()?;
    note.trim().parse().ok()
}

/// Whether there is such a process.
fn lives(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_child_of_a_daemon_that_died_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::take(folder.path()).unwrap();
        assert!(FolderLock::take(folder.path()).is_err());
        let mut ended = Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), ended.id().to_string()).unwrap();
        let child = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(first);
        });
        FolderLock::take(folder.path()).unwrap();
        child.join().unwrap();
    }
}
