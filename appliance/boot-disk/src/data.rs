//! The data partition: found, or made where nothing else is.

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use image_format::layout;
use rustix::mount::{MountFlags, mount};

use crate::{
    Disk, DiskError, ErrorKind, Partition,
    table::{add_data, make_state_and_data, same_device},
};

/// Where programs are: a first process has no search path.
const PROGRAMS: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// The program that makes the file system.
const MKFS: &str = "mkfs.xfs";
/// The program that encrypts.
const CRYPTSETUP: &str = "cryptsetup";
/// How that program ends when no key fits (cryptsetup(8), "RETURN CODES").
const WRONG_KEY: i32 = 2;
/// What is inside an encrypted data partition, as the device mapper calls it.
const MAPPED: &str = "ashlar-data";

/// What is known when the data partition is looked for.
#[derive(Clone, Debug, Default)]
pub struct DataRequest {
    /// The disk the host booted from, if it has one.
    pub boot_disk: Option<PathBuf>,
    /// PARTUUID of the partition this host used before.
    pub claimed: Option<String>,
    /// A disk that the configuration names for the data.
    pub named: Option<String>,
    /// Whether the configuration lets that disk be erased.
    pub erase: bool,
}

/// A data partition, and whether it was made just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSource {
    /// The partition.
    pub partition: Partition,
    /// Whether it is new, and has no file system yet.
    pub new: bool,
}

/// What opens an encrypted data partition.
#[derive(Clone, Copy)]
pub enum DataKey<'a> {
    /// Made at random by the host, and kept by its TPM.
    Random(&'a [u8]),
    /// Given by an operator, who may have chosen it.
    Given(&'a [u8]),
}

impl DataSource {
    /// Whether what was made there is encrypted (LUKS2 On-Disk Format Specification §2.1).
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_encrypted(&self) -> Result<bool, DiskError> {
        const MAGIC: &[u8] = b"LUKS\xba\xbe";
        let path = &self.partition.path;
        let mut beginning = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut beginning))
            .map_err(DiskError::io("read the data partition", path))?;
        Ok(beginning == MAGIC)
    }
}

/// Finds this host's data partition, or makes one: in the free space of the disk the host booted from, on the disk that the
/// configuration names, or on the only disk that is blank. A disk that holds anything is never touched unless the configuration
/// names it and says that it may be erased.
///
/// # Errors
/// The one this host used is missing, several could be meant, or there is no place for one.
pub fn find_data(disks: &[Disk], request: &DataRequest) -> Result<DataSource, DiskError> {
    let candidates: Vec<(&Disk, &Partition)> = disks
        .iter()
        .flat_map(|disk| {
            disk.partitions
                .iter()
                .map(move |partition| (disk, partition))
        })
        .filter(|(_, partition)| partition.type_guid == layout::DATA.type_guid)
        .collect();
    if let Some(claimed) = &request.claimed {
        let found: Vec<_> = candidates
            .iter()
            .filter(|(_, partition)| partition.partuuid == *claimed)
            .collect();
        return match found.as_slice() {
            [(_, partition)] => Ok(old(partition)),
            [] => Err(DiskError::new(
                ErrorKind::NotFound,
                format!("the disk with this host's data (partition {claimed}) is missing"),
                "Connect the disk again. If it is lost, reset the host's state: it then begins with an empty data partition.",
            )),
            // A disk and a copy of it.
            several => Err(several_claim(
                several.iter().map(|(disk, partition)| (*disk, *partition)),
            )),
        };
    }
    let within: Vec<_> = match &request.named {
        Some(named) => {
            let disk = Disk::named(named)?;
            candidates
                .into_iter()
                .filter(|(other, _)| same_device(&other.path, &disk.path))
                .collect()
        }
        None => candidates,
    };
    match within.as_slice() {
        [] => make(disks, request).map(|partition| DataSource {
            partition,
            new: true,
        }),
        // One that was made, and then the power went: nothing is in it yet.
        [(_, partition)] => Ok(DataSource {
            partition: (*partition).clone(),
            new: is_blank(&partition.path)?,
        }),
        several => Err(several_claim(several.iter().copied())),
    }
}

/// Which of several partitions is meant is not guessed.
fn several_claim<'a>(several: impl Iterator<Item = (&'a Disk, &'a Partition)>) -> DiskError {
    let all: Vec<String> = several
        .map(|(disk, partition)| format!("{} on {}", partition.path.display(), disk.described()))
        .collect();
    DiskError::new(
        ErrorKind::Ambiguous,
        format!(
            "several partitions claim to hold this host's data: {}",
            all.join("; ")
        ),
        "Disconnect the disk that is not this host's, or name the right one as `storage.data` in the configuration.",
    )
}

/// Whether nothing was ever written to a partition's beginning. One that has no device file cannot be asked.
fn is_blank(partition: &Path) -> Result<bool, DiskError> {
    if !partition.exists() {
        return Ok(false);
    }
    let failed = DiskError::io("read the data partition", partition);
    let mut beginning = Vec::new();
    std::fs::File::open(partition)
        .and_then(|file| file.take(1 << 20).read_to_end(&mut beginning))
        .map_err(failed)?;
    Ok(beginning.iter().all(|byte| *byte == 0))
}

fn old(partition: &Partition) -> DataSource {
    DataSource {
        partition: partition.clone(),
        new: false,
    }
}

fn make(disks: &[Disk], request: &DataRequest) -> Result<Partition, DiskError> {
    if let Some(named) = &request.named {
        let disk = Disk::named(named)?;
        let boots_from_it = request
            .boot_disk
            .as_ref()
            .is_some_and(|boot| same_device(boot, &disk.path));
        if boots_from_it {
            return add_data(&disk);
        }
        if !request.erase && !disk.is_blank()? {
            return Err(DiskError::new(
                ErrorKind::Occupied,
                format!(
                    "the disk {} is named for the data, but holds something",
                    disk.described()
                ),
                "Set `storage.erase = true` in the configuration if it may be erased, or name another disk.",
            ));
        }
        return on_whole(&disk);
    }
    if let Some(boot) = &request.boot_disk {
        return add_data(&Disk::open(boot)?);
    }
    let mut blank = Vec::new();
    for disk in disks
        .iter()
        .filter(|disk| !disk.read_only && disk.size >= layout::MIN_DATA_BYTES)
    {
        if disk.is_blank()? {
            blank.push(disk);
        }
    }
    match blank.as_slice() {
        [disk] => on_whole(disk),
        [] => Err(DiskError::new(
            ErrorKind::NotFound,
            "there is no disk for the data: none has free space for it, and none is blank",
            "Add an empty disk, or name one as `storage.data` in the configuration.",
        )),
        several => {
            let all: Vec<String> = several.iter().map(|disk| disk.described()).collect();
            Err(DiskError::new(
                ErrorKind::Ambiguous,
                format!(
                    "several blank disks could hold the data: {}",
                    all.join(", ")
                ),
                "Name one as `storage.data` in the configuration.",
            ))
        }
    }
}

fn on_whole(disk: &Disk) -> Result<Partition, DiskError> {
    make_state_and_data(disk)?;
    let disk = Disk::open(&disk.path)?;
    let data = disk
        .partitions
        .iter()
        .find(|partition| partition.name == layout::DATA.name);
    data.cloned().ok_or_else(|| {
        DiskError::new(
            ErrorKind::Damaged,
            format!(
                "{} has no data partition although it was just made",
                disk.path.display()
            ),
            "Check the disk.",
        )
    })
}

/// Makes a file system on a new partition, and mounts it at `at`. With a key it is encrypted (LUKS2, AES-XTS): a new one is made
/// so, an old one opened with it.
///
/// # Errors
/// It cannot be made, opened with that key, or mounted.
pub fn mount_data(
    source: &DataSource,
    at: &Path,
    key: Option<DataKey<'_>>,
) -> Result<(), DiskError> {
    let device = match key {
        Some(key) => &unlock(source, key)?,
        None => &source.partition.path,
    };
    if source.new {
        make_file_system(device)?;
    }
    std::fs::create_dir_all(at).map_err(DiskError::io("make the folder", at))?;
    // Programs are run from it: a daemon updated without a reboot, and the one that takes a state back.
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    mount(device, at, "xfs", flags, c"").map_err(|error| {
        DiskError::new(
            ErrorKind::Damaged,
            format!("the data partition {} cannot be mounted", device.display()),
            "If the kernel's log speaks of corruption, take a copy and run xfs_repair on it from another machine.",
        )
        .because(std::io::Error::from(error))
    })
}

/// Opens the encryption of a partition, which a new one gets first. Returns the device of what is inside.
fn unlock(source: &DataSource, key: DataKey<'_>) -> Result<PathBuf, DiskError> {
    let inside = Path::new("/dev/mapper").join(MAPPED);
    if inside.exists() {
        // Opened before, and then the file system was not to be mounted.
        return Ok(inside);
    }
    let device = &source.partition.path;
    if source.new {
        let mut options = vec![
            "luksFormat",
            "--type",
            "luks2",
            "--batch-mode",
            "--pbkdf",
            "pbkdf2",
        ];
        options.extend(match key {
            // As long as the cipher's: stretching it would only cost time at every boot.
            DataKey::Random(_) => ["--pbkdf-force-iterations", "1000"],
            DataKey::Given(_) => ["--iter-time", "1000"],
        });
        cryptsetup("encrypt", &options, device, &[], key)?;
    }
    cryptsetup(
        "open the encryption of",
        &["open", "--type", "luks2"],
        device,
        &[MAPPED],
        key,
    )?;
    Ok(inside)
}

fn cryptsetup(
    doing: &str,
    options: &[&str],
    device: &Path,
    more: &[&str],
    key: DataKey<'_>,
) -> Result<(), DiskError> {
    let (key, next_step) = match key {
        DataKey::Random(key) => (
            key,
            "If the machine's TPM was reset or replaced, the data cannot be read any more: reset the host's state to begin anew.",
        ),
        DataKey::Given(key) => (
            key,
            "Give the key that the partition was made with: `ashlar host unlock --key-file FILE`. Without it the data cannot be read.",
        ),
    };
    let failed = |what: String| {
        DiskError::new(
            ErrorKind::Io,
            format!(
                "cannot {doing} the data partition {}: {what}",
                device.display()
            ),
            next_step,
        )
    };
    let run = || -> std::io::Result<std::process::Output> {
        let mut child = Command::new(CRYPTSETUP)
            .args(options)
            .args(["--key-file", "-"])
            .arg(device)
            .args(more)
            // There is no udev to wait for.
            .env("DM_DISABLE_UDEV", "1")
            .env("PATH", PROGRAMS)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut to) = child.stdin.take() {
            to.write_all(key)?;
        }
        child.wait_with_output()
    };
    let output = run().map_err(|error| failed(format!("{CRYPTSETUP} cannot be run: {error}")))?;
    if output.status.code() == Some(WRONG_KEY) {
        return Err(failed("the key is not the right one".to_owned()));
    }
    if !output.status.success() {
        return Err(failed(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ));
    }
    Ok(())
}

fn make_file_system(device: &Path) -> Result<(), DiskError> {
    let failed = |what: String| {
        DiskError::new(
            ErrorKind::Io,
            format!("cannot make a file system on {}: {what}", device.display()),
            "Check the disk; the kernel's log says more.",
        )
    };
    let output = Command::new(MKFS)
        .env("PATH", PROGRAMS)
        .args([
            "-q",
            "-f",
            "-m",
            "reflink=1,bigtime=1",
            "-L",
            layout::DATA.name,
        ])
        .arg(device)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(format!("{MKFS} cannot be run: {error}")))?;
    if !output.status.success() {
        return Err(failed(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn disk(folder: &Path, name: &str, mib: u64) -> Disk {
        let path = folder.join(name);
        if !path.exists() {
            File::create(&path).unwrap().set_len(mib << 20).unwrap();
        }
        Disk::open(&path).unwrap()
    }

    fn named(disk: &Disk, erase: bool) -> DataRequest {
        DataRequest {
            named: Some(disk.path.to_str().unwrap().to_owned()),
            erase,
            ..DataRequest::default()
        }
    }

    #[test]
    fn the_only_blank_disk_is_taken_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let one = disk(folder.path(), "one", 1024);
        let made = find_data(std::slice::from_ref(&one), &DataRequest::default()).unwrap();
        assert!(made.new && made.partition.name == "ashlar-data", "{made:?}");
        let disks = [
            disk(folder.path(), "one", 0),
            disk(folder.path(), "two", 1024),
        ];
        let found = find_data(&disks, &DataRequest::default()).unwrap();
        assert_eq!(
            (found.new, &found.partition.partuuid),
            (false, &made.partition.partuuid)
        );
    }

    #[test]
    fn what_is_not_clear_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let two = || {
            [
                disk(folder.path(), "one", 1024),
                disk(folder.path(), "two", 1024),
            ]
        };
        let error = find_data(&two(), &DataRequest::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Ambiguous);
        assert!(error.to_string().contains("blank disks"), "{error}");
        for disk in two() {
            make_state_and_data(&disk).unwrap();
        }
        let error = find_data(&two(), &DataRequest::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Ambiguous);
        assert!(
            error.to_string().contains("one") && error.to_string().contains("two"),
            "{error}"
        );
        let [one, _] = two();
        let found = find_data(&two(), &named(&one, false)).unwrap();
        assert!(!found.new);
        let request = DataRequest {
            claimed: Some("gone".into()),
            ..DataRequest::default()
        };
        assert_eq!(
            find_data(&two(), &request).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        // A disk and a copy of it.
        let [one, _] = two();
        let copied = DataRequest {
            claimed: Some(one.partitions[1].partuuid.clone()),
            ..DataRequest::default()
        };
        let error = find_data(&[one.clone(), one], &copied).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Ambiguous);
        assert_eq!(
            find_data(&[], &DataRequest::default()).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }

    #[test]
    fn a_disk_that_holds_something_is_erased_only_when_the_configuration_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let one = disk(folder.path(), "one", 1024);
        std::fs::write(folder.path().join("note"), "").unwrap();
        std::os::unix::fs::FileExt::write_all_at(
            &File::options().write(true).open(&one.path).unwrap(),
            b"precious",
            0,
        )
        .unwrap();
        let disks = [disk(folder.path(), "one", 0)];
        assert_eq!(
            find_data(&disks, &DataRequest::default())
                .unwrap_err()
                .kind(),
            ErrorKind::NotFound
        );
        let error = find_data(&disks, &named(&one, false)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Occupied);
        assert!(error.next_step().contains("storage.erase"), "{error}");
        assert!(find_data(&disks, &named(&one, true)).unwrap().new);
    }
}
