//! The slots on the EFI system partition, through the kernel's vfat.
//!
//! Why a power cut at any write leaves a host that boots: an image is written under a name that the boot loader does not look
//! at, made durable and read back; only then is it renamed, which touches one or two directory sectors. The boot loader's
//! configuration is replaced the same way. The booted slot's file is never touched, so whatever becomes of a directory entry
//! in the middle of a change, at least that one is whole. The file system is mounted only while it is used, with `dirsync`, so
//! that directory changes reach the disk in the order in which they are made, and `syncfs` before each step that builds on one.

use std::{
    fs::{self, File},
    io::{Read, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use image_format::{
    LoaderDefault, MAX_HEADER_BYTES, Release, Slot, SlotFile, SlotState, Uki, layout,
};
use rustix::{
    fs::{Advice, fadvise},
    mount::{MountFlags, UnmountFlags, mount, unmount},
};
use sha2::{Digest as _, Sha256};
use types::Sha256Digest;

use crate::{DiskError, ErrorKind};

/// Bytes copied at a time.
const CHUNK: usize = 1 << 20;
/// Room that is left free beside an image, bytes: for directories and the boot loader's configuration.
const SLACK: u64 = 1 << 20;

/// The mounted EFI system partition; unmounted when dropped.
pub struct Esp {
    root: PathBuf,
    mounted: bool,
}

/// What is in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotEntry {
    /// Its file.
    pub file: SlotFile,
    /// What the image says of itself; none if it cannot be read.
    pub release: Option<Release>,
    /// Bytes.
    pub size: u64,
}

/// An image that is in its slot, whole, and not yet known to the boot loader.
#[derive(Debug)]
pub struct Staged {
    slot: Slot,
    part: PathBuf,
}

impl Esp {
    /// Mounts the partition at `at`, a folder that is made.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn mount(device: &Path, at: &Path) -> Result<Self, DiskError> {
        const DOING: &str = "mount the EFI system partition";
        fs::create_dir_all(at).map_err(DiskError::io(DOING, device))?;
        // A daemon that was killed in the middle may have left it mounted.
        let _ = unmount(at, UnmountFlags::DETACH);
        let flags =
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::DIRSYNC;
        mount(device, at, "vfat", flags, c"umask=0077,errors=remount-ro")
            .map_err(DiskError::io(DOING, device))?;
        Ok(Self {
            root: at.to_owned(),
            mounted: true,
        })
    }

    /// A partition whose files are in a folder already.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            mounted: false,
        }
    }

    /// What is in the slots, A first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn slots(&self) -> Result<Vec<SlotEntry>, DiskError> {
        let mut found: Vec<SlotEntry> = self
            .files()?
            .into_iter()
            .map(|(file, path)| SlotEntry {
                file,
                release: release_of(&path).ok(),
                size: fs::metadata(&path).map_or(0, |metadata| metadata.len()),
            })
            .collect();
        found.sort_by_key(|entry| (entry.file.slot, entry.file.state() != SlotState::Good));
        found.dedup_by_key(|entry| entry.file.slot);
        Ok(found)
    }

    /// What the boot loader prefers, if its configuration says it.
    #[must_use]
    pub fn preferred(&self) -> Option<LoaderDefault> {
        LoaderDefault::parse(&fs::read_to_string(self.root.join(layout::LOADER_CONF)).ok()?)
    }

    /// The configuration that was written when flashing.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn configuration(&self) -> Result<Option<String>, DiskError> {
        let path = self.root.join(layout::CONFIG_FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DiskError::io("read the configuration", &path)(error)),
        }
    }

    /// Writes an image of `size` bytes with that digest into a slot, as far as the boot loader is concerned invisibly. What was in
    /// the slot goes first. `progress` hears how many bytes are there.
    ///
    /// # Errors
    /// The image is not what was promised, ends early, or does not fit; the slot is empty then.
    pub fn stage(
        &self,
        slot: Slot,
        image: &mut dyn Read,
        size: u64,
        sha256: Sha256Digest,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Staged, DiskError> {
        let folder = self.root.join(layout::SLOT_FOLDER);
        fs::create_dir_all(&folder).map_err(DiskError::io("make the folder", &folder))?;
        self.clean()?;
        for (file, path) in self.files()? {
            if file.slot == slot {
                fs::remove_file(&path).map_err(DiskError::io("remove the old image", &path))?;
            }
        }
        self.sync()?;
        self.check_room(size)?;
        let part = folder.join(format!("{}.part", SlotFile::good(slot)));
        let written = write_image(&part, image, size, sha256, progress)
            .and_then(|()| self.sync())
            .and_then(|()| read_back(&part, sha256));
        if let Err(error) = written {
            let _ = fs::remove_file(&part);
            return Err(error);
        }
        Ok(Staged { slot, part })
    }

    /// Lets the boot loader try a staged image for so many boots.
    ///
    /// # Errors
    /// The partition cannot be written; the slot in use is still preferred then.
    pub fn switch(&self, staged: Staged, tries: u32) -> Result<(), DiskError> {
        let target = self.path(SlotFile::trial(staged.slot, tries));
        fs::rename(&staged.part, &target)
            .map_err(DiskError::io("put the image in its place", &target))?;
        self.sync()?;
        self.prefer(LoaderDefault::Trial(staged.slot))
    }

    /// An image that an earlier daemon staged and did not switch to.
    ///
    /// # Errors
    /// There is none in that slot.
    pub fn staged(&self, slot: Slot) -> Result<Staged, DiskError> {
        let part = self
            .root
            .join(layout::SLOT_FOLDER)
            .join(format!("{}.part", SlotFile::good(slot)));
        if !part.is_file() {
            return Err(DiskError::new(
                ErrorKind::NotFound,
                format!("slot {slot} holds no image that was staged"),
                "Begin the update again.",
            ));
        }
        Ok(Staged { slot, part })
    }

    /// The slot is good from now on, and preferred.
    ///
    /// # Errors
    /// There is no image in it, or the partition cannot be written.
    pub fn mark_good(&self, slot: Slot) -> Result<(), DiskError> {
        self.rename(slot, SlotFile::good(slot))?;
        self.prefer(LoaderDefault::Good(slot))
    }

    /// The slot is bad from now on, and the other one preferred.
    ///
    /// # Errors
    /// There is no image in it, or the partition cannot be written.
    pub fn mark_bad(&self, slot: Slot) -> Result<(), DiskError> {
        let file = self.file(slot)?.0;
        // The other one first: at no moment is a bad slot the only one with a claim.
        self.prefer(LoaderDefault::Good(slot.other()))?;
        self.rename(slot, file.bad())
    }

    /// Boots the other slot from now on; this one stays good.
    ///
    /// # Errors
    /// There is no image in it that was found good, or the partition cannot be written.
    pub fn go_back(&self, to: Slot) -> Result<(), DiskError> {
        let file = self.file(to)?.0;
        if file.state() != SlotState::Good {
            return Err(DiskError::new(
                ErrorKind::NotFound,
                format!("slot {to} holds no image that was found good"),
                "Update the host to the version that is wanted instead.",
            ));
        }
        self.prefer(LoaderDefault::Good(to))
    }

    /// Removes what an interrupted update left.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn clean(&self) -> Result<(), DiskError> {
        for folder in [layout::SLOT_FOLDER, "loader"] {
            for entry in fs::read_dir(self.root.join(folder))
                .into_iter()
                .flatten()
                .flatten()
            {
                let path = entry.path();
                if path
                    .extension()
                    .is_some_and(|extension| extension == "part")
                {
                    fs::remove_file(&path).map_err(DiskError::io("remove", &path))?;
                }
            }
        }
        Ok(())
    }

    fn files(&self) -> Result<Vec<(SlotFile, PathBuf)>, DiskError> {
        let folder = self.root.join(layout::SLOT_FOLDER);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(DiskError::io("read the slots in", &folder)(error)),
        };
        Ok(entries
            .flatten()
            .filter_map(|entry| {
                let file = entry.file_name().to_str()?.parse().ok()?;
                // A rename that a power cut interrupted leaves an empty file under the new name, beside the old one.
                let there = entry.metadata().is_ok_and(|metadata| metadata.len() > 0);
                there.then(|| (file, entry.path()))
            })
            .collect())
    }

    fn file(&self, slot: Slot) -> Result<(SlotFile, PathBuf), DiskError> {
        self.files()?
            .into_iter()
            .find(|(file, _)| file.slot == slot)
            .ok_or_else(|| {
                DiskError::new(
                    ErrorKind::NotFound,
                    format!("slot {slot} holds no image"),
                    "Update the host: that fills its other slot.",
                )
            })
    }

    fn rename(&self, slot: Slot, to: SlotFile) -> Result<(), DiskError> {
        let (file, path) = self.file(slot)?;
        if file == to {
            return Ok(());
        }
        let target = self.path(to);
        fs::rename(&path, &target).map_err(DiskError::io("rename the image", &path))?;
        self.sync()
    }

    fn prefer(&self, default: LoaderDefault) -> Result<(), DiskError> {
        if self.preferred() == Some(default) {
            return Ok(());
        }
        let path = self.root.join(layout::LOADER_CONF);
        let part = path.with_extension("part");
        let write = || -> std::io::Result<()> {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let mut file = File::create(&part)?;
            file.write_all(default.loader_conf().as_bytes())?;
            file.sync_all()?;
            fs::rename(&part, &path)
        };
        write().map_err(DiskError::io(
            "write the boot loader's configuration",
            &path,
        ))?;
        self.sync()
    }

    fn path(&self, file: SlotFile) -> PathBuf {
        self.root.join(layout::SLOT_FOLDER).join(file.to_string())
    }

    fn sync(&self) -> Result<(), DiskError> {
        File::open(&self.root)
            .and_then(|root| Ok(rustix::fs::syncfs(&root)?))
            .map_err(DiskError::io("flush", &self.root))
    }

    fn check_room(&self, size: u64) -> Result<(), DiskError> {
        let stat = rustix::fs::statvfs(&self.root).map_err(DiskError::io("measure", &self.root))?;
        let free = stat.f_bavail * stat.f_frsize;
        if free < size + SLACK {
            return Err(DiskError::new(
                ErrorKind::Full,
                format!(
                    "the EFI system partition has {} MiB free, and the image needs {} MiB",
                    free >> 20,
                    (size + SLACK) >> 20
                ),
                "Flash the host anew with the larger image: its partitions are as large as that needs.",
            ));
        }
        Ok(())
    }
}

impl Drop for Esp {
    fn drop(&mut self) {
        if self.mounted && unmount(&self.root, UnmountFlags::empty()).is_err() {
            let _ = unmount(&self.root, UnmountFlags::DETACH);
        }
    }
}

fn write_image(
    part: &Path,
    image: &mut dyn Read,
    size: u64,
    sha256: Sha256Digest,
    progress: &mut dyn FnMut(u64),
) -> Result<(), DiskError> {
    let failed = DiskError::io("write the image", part);
    let mut file = File::create(part).map_err(&failed)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut count = 0;
    while count < size {
        let want = usize::try_from((size - count).min(CHUNK as u64)).unwrap_or(CHUNK);
        let got = image.read(&mut chunk[..want]).map_err(|error| {
            DiskError::new(
                ErrorKind::Damaged,
                format!("the image stopped coming after {count} of {size} bytes"),
                "Begin the update again.",
            )
            .because(error)
        })?;
        if got == 0 {
            return Err(DiskError::new(
                ErrorKind::Damaged,
                format!("the image ended after {count} of {size} bytes"),
                "Begin the update again.",
            ));
        }
        hash.update(&chunk[..got]);
        file.write_all(&chunk[..got]).map_err(&failed)?;
        count += got as u64;
        progress(count);
    }
    if Sha256Digest::new(hash.finalize().into()) != sha256 {
        return Err(not_as_promised());
    }
    file.sync_all().map_err(&failed)
}

/// Reads what is on the disk, not what is still in memory.
fn read_back(part: &Path, sha256: Sha256Digest) -> Result<(), DiskError> {
    let failed = DiskError::io("read the image back", part);
    let mut file = File::open(part).map_err(&failed)?;
    fadvise(&file, 0, None, Advice::DontNeed).map_err(|error| failed(error.into()))?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let got = file.read(&mut chunk).map_err(&failed)?;
        if got == 0 {
            break;
        }
        hash.update(&chunk[..got]);
    }
    if Sha256Digest::new(hash.finalize().into()) != sha256 {
        return Err(DiskError::new(
            ErrorKind::Damaged,
            "the disk gives back another image than was written to it",
            "Replace the disk: it is failing.",
        ));
    }
    Ok(())
}

fn not_as_promised() -> DiskError {
    DiskError::new(
        ErrorKind::Damaged,
        "the image is not the one that the manifest names: its SHA-256 digest differs",
        "Get the release again; it was changed or damaged on its way.",
    )
}

fn release_of(path: &Path) -> Result<Release, DiskError> {
    let failed = DiskError::io("read the image", path);
    let damaged = |error: image_format::UkiError| {
        DiskError::new(
            ErrorKind::Damaged,
            format!("{} is no image", path.display()),
            "Update the host.",
        )
        .because(error)
    };
    let mut file = File::open(path).map_err(&failed)?;
    let size = file.metadata().map_err(&failed)?.len();
    let mut head = Vec::new();
    (&file)
        .take(MAX_HEADER_BYTES as u64)
        .read_to_end(&mut head)
        .map_err(&failed)?;
    let uki = Uki::parse(&head).map_err(damaged)?;
    uki.check_size(size).map_err(damaged)?;
    let section = uki
        .section(".osrel")
        .map(|section| (section.offset, section.size.min(CHUNK as u64)));
    let (offset, length) = section.unwrap_or_default();
    file.seek(SeekFrom::Start(offset)).map_err(&failed)?;
    let mut text = Vec::new();
    file.take(length).read_to_end(&mut text).map_err(&failed)?;
    Uki::release(&text).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder in the partition's place, with a good image in slot A.
    fn esp() -> (tempfile::TempDir, Esp) {
        let folder = tempfile::tempdir().unwrap();
        let esp = Esp::at(folder.path());
        fs::create_dir_all(folder.path().join(layout::SLOT_FOLDER)).unwrap();
        fs::write(esp.path(SlotFile::good(Slot::A)), "image a").unwrap();
        esp.prefer(LoaderDefault::Good(Slot::A)).unwrap();
        (folder, esp)
    }

    fn stage(esp: &Esp, image: &[u8], promised: &[u8]) -> Result<Staged, DiskError> {
        esp.stage(
            Slot::B,
            &mut &image[..],
            promised.len() as u64,
            Sha256Digest::of(promised),
            &mut |_| {},
        )
    }

    fn names(esp: &Esp) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(esp.root.join(layout::SLOT_FOLDER))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_update_is_staged_tried_and_found_good() {
        let (_folder, esp) = esp();
        let staged = stage(&esp, b"image b", b"image b").unwrap();
        assert_eq!(names(&esp), ["ashlar-a.efi", "ashlar-b.efi.part"]);
        assert_eq!(esp.preferred(), Some(LoaderDefault::Good(Slot::A)));
        esp.switch(staged, 3).unwrap();
        assert_eq!(names(&esp), ["ashlar-a.efi", "ashlar-b+3.efi"]);
        assert_eq!(esp.preferred(), Some(LoaderDefault::Trial(Slot::B)));
        // The boot loader counts.
        fs::rename(
            esp.root.join("EFI/Linux/ashlar-b+3.efi"),
            esp.root.join("EFI/Linux/ashlar-b+2-1.efi"),
        )
        .unwrap();
        esp.mark_good(Slot::B).unwrap();
        esp.mark_good(Slot::B).unwrap();
        assert_eq!(names(&esp), ["ashlar-a.efi", "ashlar-b.efi"]);
        assert_eq!(esp.preferred(), Some(LoaderDefault::Good(Slot::B)));
        esp.go_back(Slot::A).unwrap();
        assert_eq!(esp.preferred(), Some(LoaderDefault::Good(Slot::A)));
    }

    #[test]
    fn a_bad_slot_loses_its_claim_and_cannot_be_gone_back_to() {
        let (_folder, esp) = esp();
        let staged = stage(&esp, b"image b", b"image b").unwrap();
        esp.switch(staged, 1).unwrap();
        esp.mark_bad(Slot::B).unwrap();
        assert_eq!(names(&esp), ["ashlar-a.efi", "ashlar-b+0-1.efi"]);
        assert_eq!(esp.preferred(), Some(LoaderDefault::Good(Slot::A)));
        assert_eq!(
            esp.go_back(Slot::B).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }

    #[test]
    fn an_image_that_is_not_what_was_promised_leaves_the_other_slot_alone() {
        let (_folder, esp) = esp();
        for (image, promised, said) in [
            (&b"image c"[..], &b"image b"[..], "SHA-256"),
            (b"image", b"image b", "ended after 5 of 7"),
        ] {
            let error = stage(&esp, image, promised).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged);
            assert!(error.to_string().contains(said), "{error}");
            assert_eq!(names(&esp), ["ashlar-a.efi"]);
        }
        assert!(esp.staged(Slot::B).is_err());
    }

    #[test]
    fn what_an_interrupted_update_left_goes() {
        let (_folder, esp) = esp();
        let staged = stage(&esp, b"image b", b"image b").unwrap();
        assert!(esp.staged(Slot::B).is_ok());
        drop(staged);
        esp.clean().unwrap();
        assert_eq!(names(&esp), ["ashlar-a.efi"]);
        let slots = esp.slots().unwrap();
        assert_eq!(slots.len(), 1);
        assert_eq!(slots[0].release, None, "it is no image");
    }

    #[test]
    fn a_rename_that_a_power_cut_interrupted_is_done_again() {
        let (_folder, esp) = esp();
        let staged = stage(&esp, b"image b", b"image b").unwrap();
        esp.switch(staged, 3).unwrap();
        // The new name is there, empty, and the old one still.
        fs::write(esp.path(SlotFile::good(Slot::B)), "").unwrap();
        esp.mark_good(Slot::B).unwrap();
        assert_eq!(names(&esp), ["ashlar-a.efi", "ashlar-b.efi"]);
        assert_eq!(
            fs::read(esp.path(SlotFile::good(Slot::B))).unwrap(),
            b"image b"
        );
    }

    #[test]
    fn the_flashed_configuration_is_found() {
        let (folder, esp) = esp();
        assert_eq!(esp.configuration().unwrap(), None);
        fs::create_dir(folder.path().join("ashlar")).unwrap();
        fs::write(folder.path().join(layout::CONFIG_FILE), "version = 1\n").unwrap();
        assert_eq!(
            esp.configuration().unwrap().as_deref(),
            Some("version = 1\n")
        );
    }
}
