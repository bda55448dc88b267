//! What a disk may hold after a power cut, from a log of everything that was written to it.
//!
//! QEMU's `blklogwrites` writes the log in the form of Linux's dm-log-writes: a superblock, then for each request an entry of one
//! sector and its data. A disk with a volatile cache keeps what was flushed; of what came later any part may be there, each
//! write possibly torn between sectors.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use types::Sha256Digest;

use crate::command::Invocation;

/// dm-log-writes: `WRITE_LOG_MAGIC`.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const SECTOR: u64 = 512;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
/// Points in time that are judged.
const POINTS: usize = 120;
/// How many states are kept to be booted.
const KEPT: usize = 3;
/// The seed of what survives: the same log gives the same states.
const SEED: u64 = 0x0a51_1ab0;

/// What came of it.
pub struct Checked {
    pub writes: usize,
    pub judged: usize,
    pub kept: Vec<PathBuf>,
}

/// One request in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// Where on the disk, bytes.
    at: u64,
    /// Bytes.
    length: u64,
    flags: u64,
    /// Where its data is in the log.
    data: u64,
}

/// Judges states of the disk `base` after power cuts during the requests in `log`: each must boot a slot whose image is one of `good`,
/// with a record that can be read. States to be booted are left in `folder`.
pub fn check(base: &Path, log: &Path, good: &[Sha256Digest], folder: &Path) -> Result<Checked> {
    let file = File::open(log).with_context(|| format!("cannot open {}", log.display()))?;
    let entries = read_log(&file)?;
    let writes = entries.iter().filter(|entry| entry.length > 0).count();
    ensure!(
        writes > 100,
        "only {writes} writes were logged: the update was not seen"
    );
    fs::create_dir_all(folder)?;
    let state = folder.join("state.img");
    copy(base, &state)?;
    let durable = File::options().read(true).write(true).open(&state)?;
    let mut random = Random(SEED);
    let mut kept = Vec::new();
    let mut pending: Vec<Entry> = Vec::new();
    let mut judged = 0;
    let step = (entries.len() / POINTS).max(1);
    for (index, entry) in entries.iter().enumerate() {
        if entry.flags & FLUSH != 0 {
            // All before it is on stable storage.
            for write in pending.drain(..) {
                apply(&file, &durable, &write, |_| true)?;
            }
        }
        if entry.length > 0 && entry.flags & DISCARD == 0 {
            if entry.flags & FUA != 0 {
                apply(&file, &durable, entry, |_| true)?;
            } else {
                pending.push(*entry);
            }
        }
        // Every point around a change of directories, which are small, and regularly between the bulk of the image.
        let small = entry.length <= 8 * SECTOR && pending.len() < 64 && judged < 4 * POINTS;
        if index % step != 0 && !small {
            continue;
        }
        judged += 1;
        let undo = survive(&file, &durable, &pending, &mut random)?;
        let verdict = boot_disk::judge(&mut &durable);
        match verdict {
            Ok(verdict) if good.contains(&verdict.boots.1) => {}
            Ok(verdict) => bail!(
                "after request {index} of {} the host would boot slot {} with a damaged image: {:?}",
                entries.len(),
                verdict.boots.0,
                verdict.slots
            ),
            Err(error) => bail!(
                "after request {index} of {} the host would not boot: {error}",
                entries.len()
            ),
        }
        if kept.len() < KEPT && index >= entries.len() * (kept.len() + 1) / (KEPT + 1) {
            let path = folder.with_extension(format!("{}.img", kept.len()));
            copy(&state, &path)?;
            kept.push(path);
        }
        // As it was: what survived one cut does not survive the next.
        for (at, bytes) in undo.into_iter().rev() {
            durable.write_all_at(&bytes, at)?;
        }
    }
    Ok(Checked {
        writes,
        judged,
        kept,
    })
}

/// Applies what happens to survive of the requests that were not flushed; returns what was there before.
fn survive(
    log: &File,
    disk: &File,
    pending: &[Entry],
    random: &mut Random,
) -> Result<Vec<(u64, Vec<u8>)>> {
    let mut undo = Vec::new();
    for write in pending {
        // Half of the writes are lost whole, a quarter torn, the rest there.
        let fate = random.next() % 4;
        if fate < 2 {
            continue;
        }
        let length = usize::try_from(write.length)?;
        let mut before = vec![0; length];
        disk.read_exact_at(&mut before, write.at)?;
        undo.push((write.at, before));
        apply(log, disk, write, |_| {
            fate == 3 || random.next().is_multiple_of(2)
        })?;
    }
    Ok(undo)
}

/// Writes the sectors of a request that `there` keeps.
fn apply(log: &File, disk: &File, write: &Entry, mut there: impl FnMut(u64) -> bool) -> Result<()> {
    let mut data = vec![0; usize::try_from(write.length)?];
    log.read_exact_at(&mut data, write.data)
        .context("the log ends in the middle of a write")?;
    for (sector, bytes) in (0..).zip(data.chunks(512)) {
        if there(sector) {
            disk.write_all_at(bytes, write.at + sector * SECTOR)?;
        }
    }
    Ok(())
}

/// Linux, drivers/md/dm-log-writes.c: a superblock of magic, version, number of entries and size of sectors, then the entries.
fn read_log(log: &File) -> Result<Vec<Entry>> {
    let word = |at: u64| -> Result<u64> {
        let mut bytes = [0; 8];
        log.read_exact_at(&mut bytes, at)
            .context("the log of writes ends early")?;
        Ok(u64::from_le_bytes(bytes))
    };
    ensure!(word(0)? == MAGIC, "this is no log of writes");
    let count = word(16)?;
    let sector = word(24)? & 0xffff_ffff;
    ensure!(
        sector == 512 || sector == 4096,
        "the log has sectors of {sector} bytes"
    );
    let mut at = sector;
    let mut entries = Vec::new();
    for _ in 0..count {
        let (target, length, flags, extra) =
            (word(at)?, word(at + 8)?, word(at + 16)?, word(at + 24)?);
        ensure!(extra < sector, "the log of writes makes no sense at {at}");
        at += sector;
        let bytes = length * sector;
        entries.push(Entry {
            at: target * sector,
            length: bytes,
            flags,
            data: at,
        });
        if flags & DISCARD == 0 {
            at += bytes;
        }
    }
    Ok(entries)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    Invocation::new("cp")
        .arg("--sparse=always")
        .args([from, to])
        .read()
        .map(drop)
}

/// A small generator (xorshift64*) so that the same seed gives the same states.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log with these requests: place in sectors, data, flags.
    fn log(requests: &[(u64, &[u8], u64)]) -> File {
        let mut bytes = Vec::new();
        for word in [MAGIC, 1, requests.len() as u64, 512] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.resize(512, 0);
        for (at, data, flags) in requests {
            let start = bytes.len();
            for word in [*at, data.len() as u64 / 512, *flags, 0] {
                bytes.extend(word.to_le_bytes());
            }
            bytes.resize(start + 512, 0);
            bytes.extend(*data);
        }
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        file
    }

    #[test]
    fn requests_are_read_with_their_data() {
        let file = log(&[(3, &[7; 1024], 0), (0, &[], FLUSH), (9, &[1; 512], FUA)]);
        let entries = read_log(&file).unwrap();
        let told: Vec<_> = entries
            .iter()
            .map(|entry| (entry.at, entry.length, entry.flags))
            .collect();
        assert_eq!(told, [(1536, 1024, 0), (0, 0, FLUSH), (4608, 512, FUA)]);
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(8192).unwrap();
        apply(&file, &disk, &entries[0], |sector| sector == 1).unwrap();
        let mut found = vec![0; 1024];
        disk.read_exact_at(&mut found, 1536).unwrap();
        assert!(found[..512].iter().all(|b| *b == 0) && found[512..].iter().all(|b| *b == 7));
    }

    #[test]
    fn what_survives_is_undone_and_some_of_it_is_torn() {
        let file = log(&[(0, &[1; 2048], 0), (4, &[2; 2048], 0), (2, &[3; 2048], 0)]);
        let entries = read_log(&file).unwrap();
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(8192).unwrap();
        let mut random = Random(SEED);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..50 {
            let undo = survive(&file, &disk, &entries, &mut random).unwrap();
            let mut now = vec![0; 8192];
            disk.read_exact_at(&mut now, 0).unwrap();
            seen.insert(now.chunks(512).map(|sector| sector[0]).collect::<Vec<_>>());
            for (at, bytes) in undo.into_iter().rev() {
                disk.write_all_at(&bytes, at).unwrap();
            }
            disk.read_exact_at(&mut now, 0).unwrap();
            assert!(now.iter().all(|byte| *byte == 0), "something is left");
        }
        assert!(seen.len() > 10, "{seen:?}");
    }
}
