//! The disk, or file, that an image is written to: what it is, what is on it, and whether it may be erased.

use std::{
    fs::{self, File, OpenOptions},
    io::{Seek as _, SeekFrom},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use indicatif::HumanBytes;
use rustix::fs::{major, minor};

use super::contents;
use crate::client::Error;

/// linux/fcntl.h: on a block device, refused while somebody else uses it.
const O_EXCL: i32 = 0o200;

/// What an image is written to.
#[derive(Debug)]
pub struct Target {
    /// Its path.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Whether it is a disk; a file otherwise.
    pub is_disk: bool,
    /// Lines that say what would be lost.
    pub contents: Vec<String>,
}

impl Target {
    /// Looks at a target and refuses one that must not be erased.
    ///
    /// # Errors
    /// It is mounted or otherwise in use, a partition, read-only, too small, or neither a disk nor a file; or a size is given for a disk.
    pub fn examine(path: &Path, needs: u64, file_size: Option<u64>) -> Result<Self, Error> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound && !path.starts_with("/dev") =>
            {
                let size = file_size.unwrap_or(needs).max(needs);
                return Ok(Self {
                    path: path.to_owned(),
                    size,
                    is_disk: false,
                    contents: Vec::new(),
                });
            }
            Err(error) => {
                return Err(Error::local(format!("cannot find {}", path.display()))(
                    error,
                ));
            }
        };
        let kind = metadata.file_type();
        if kind.is_file() {
            if let Some(user) = user_of_file(path) {
                return Err(refused(path, &user));
            }
            let size = file_size.unwrap_or(metadata.len()).max(needs);
            let contents = if metadata.len() == 0 {
                Vec::new()
            } else {
                vec![format!("a file of {}", HumanBytes(metadata.len()))]
            };
            return Ok(Self {
                path: path.to_owned(),
                size,
                is_disk: false,
                contents,
            });
        }
        if !kind.is_block_device() {
            return Err(refused(path, "it is neither a disk nor a file"));
        }
        if file_size.is_some() {
            return Err(Error::Usage(format!(
                "{} is a disk, and has the size it has: leave out --size",
                path.display()
            )));
        }
        let sysfs = PathBuf::from(format!(
            "/sys/dev/block/{}:{}",
            major(metadata.rdev()),
            minor(metadata.rdev())
        ));
        Self::disk(path, &sysfs, needs)
    }

    fn disk(path: &Path, sysfs: &Path, needs: u64) -> Result<Self, Error> {
        let about = |file: &str| {
            fs::read_to_string(sysfs.join(file))
                .ok()
                .map(|text| text.trim().to_owned())
        };
        if sysfs.join("partition").exists() {
            return Err(refused(path, "it is a partition: name the whole disk"));
        }
        if about("ro").as_deref() == Some("1") {
            return Err(refused(path, "it is read-only"));
        }
        if about("queue/logical_block_size").is_some_and(|size| size != "512") {
            return Err(refused(
                path,
                "it has sectors of another size than 512 bytes: set it to 512e, or use another disk",
            ));
        }
        for (name, device) in with_partitions(path, sysfs) {
            if let Some(user) = user_of(&name, &device) {
                return Err(refused(path, &user));
            }
        }
        let size = File::open(path)
            .and_then(|mut file| file.seek(SeekFrom::End(0)))
            .map_err(Error::local(format!("cannot measure {}", path.display())))?;
        if size < needs {
            return Err(refused(
                path,
                &format!(
                    "it has {} MiB, and the image needs {} MiB",
                    size >> 20,
                    needs >> 20
                ),
            ));
        }
        let mut contents = vec![format!(
            "{}, {}{}",
            HumanBytes(size),
            about("device/model").unwrap_or_else(|| "no model name".into()),
            about("serial")
                .or_else(|| about("device/serial"))
                .map_or(String::new(), |serial| format!(", serial {serial}"))
        )];
        contents.extend(contents::of_disk(path));
        Ok(Self {
            path: path.to_owned(),
            size,
            is_disk: true,
            contents,
        })
    }

    /// Opens it for writing: a disk alone, a file made as large as it is to be.
    ///
    /// # Errors
    /// Somebody uses it, or it cannot be written.
    pub fn open(&self) -> Result<File, Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if self.is_disk {
            options.custom_flags(O_EXCL);
        } else {
            options.create(true).truncate(true);
        }
        let doing = format!("cannot open {} for writing", self.path.display());
        let file = options.open(&self.path).map_err(Error::local(&doing))?;
        if !self.is_disk {
            file.set_len(self.size).map_err(Error::local(&doing))?;
        }
        Ok(file)
    }
}

fn refused(path: &Path, why: &str) -> Error {
    Error::Failed(format!("{} is not written to: {why}", path.display()))
}

/// A disk and its partitions: device file and sysfs folder.
fn with_partitions(path: &Path, sysfs: &Path) -> Vec<(PathBuf, PathBuf)> {
    let mut all = vec![(path.to_owned(), sysfs.to_owned())];
    for entry in fs::read_dir(sysfs).into_iter().flatten().flatten() {
        if entry.path().join("partition").exists() {
            all.push((Path::new("/dev").join(entry.file_name()), entry.path()));
        }
    }
    all
}

/// Who uses a device, if somebody does.
fn user_of(name: &Path, sysfs: &Path) -> Option<String> {
    let number = fs::read_to_string(sysfs.join("dev"))
        .ok()?
        .trim()
        .to_owned();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The third word is the device, the fifth where it is mounted; the second behind the dash is what was mounted (proc(5)), which
    // counts for file systems over several devices.
    let mounted = mounts.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let words: Vec<&str> = mount.split(' ').collect();
        let source = source.split(' ').nth(1).unwrap_or_default();
        (words.get(2) == Some(&number.as_str()) || is_device(source, &number))
            .then(|| words.get(4).copied().unwrap_or_default().to_owned())
    });
    if let Some(at) = mounted {
        let system = if at == "/" {
            ", and this system runs from it"
        } else {
            ""
        };
        return Some(format!("{} is mounted at {at}{system}", name.display()));
    }
    if swaps().any(|swap| is_device(&swap, &number)) {
        return Some(format!("{} is swap space in use", name.display()));
    }
    let holder = fs::read_dir(sysfs.join("holders"))
        .ok()
        .and_then(|holders| holders.flatten().next())
        .map(|holder| holder.file_name().to_string_lossy().into_owned());
    let holder = holder.or_else(|| {
        loops()
            .find(|(_, backing)| is_device(&backing.to_string_lossy(), &number))
            .map(|(disk, _)| disk)
    })?;
    Some(format!("{} is in use by {holder}", name.display()))
}

/// Who uses a file, if somebody does: as a disk, or as swap space.
fn user_of_file(path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    if let Some((disk, _)) = loops().find(|(_, backing)| *backing == path) {
        return Some(format!("it is in use as the disk {disk}"));
    }
    swaps()
        .any(|swap| Path::new(&swap) == path)
        .then(|| "it is swap space in use".to_owned())
}

/// Loop devices and what is behind each (Documentation/ABI/testing/sysfs-block-loop).
fn loops() -> impl Iterator<Item = (String, PathBuf)> {
    fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let backing = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Some((name, PathBuf::from(backing.trim_end_matches('\n'))))
        })
}

/// Names of the swap spaces in use.
fn swaps() -> impl Iterator<Item = String> {
    let text = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let names: Vec<String> = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect();
    names.into_iter()
}

/// Whether that is the name of the block device with that number, `major:minor`.
fn is_device(name: &str, number: &str) -> bool {
    name.starts_with('/')
        && fs::metadata(name).is_ok_and(|metadata| {
            metadata.file_type().is_block_device()
                && format!("{}:{}", major(metadata.rdev()), minor(metadata.rdev())) == number
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_made_as_large_as_they_are_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.img");
        let target = Target::examine(&path, 100, Some(4096)).unwrap();
        assert!(!target.is_disk && target.contents.is_empty());
        assert_eq!(target.open().unwrap().metadata().unwrap().len(), 4096);
        let again = Target::examine(&path, 100, None).unwrap();
        assert_eq!((again.size, again.contents.len()), (4096, 1));
    }

    #[test]
    fn what_is_no_disk_is_refused() {
        for (path, said) in [
            ("/dev/null", "neither a disk nor a file"),
            ("/dev/no-such-disk", "cannot find"),
        ] {
            let error = Target::examine(Path::new(path), 1, None)
                .unwrap_err()
                .to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
