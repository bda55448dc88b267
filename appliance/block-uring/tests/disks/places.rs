//! File systems to try disks on.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A folder on some file system; cleaned up on drop.
pub struct Place {
    pub name: &'static str,
    pub folder: PathBuf,
    /// Held for its removal.
    _owner: TempDir,
    mounted: bool,
}

impl Place {
    /// A file of `len` bytes, without a name.
    pub fn file(&self, len: u64) -> File {
        let file = tempfile::tempfile_in(&self.folder).expect("file");
        file.set_len(len).expect("size");
        file
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.mounted {
            return;
        }
        // The kernel lets go of a closed ring's files a moment later.
        let deadline = Instant::now() + Duration::from_secs(10);
        let unmounted = || {
            Command::new("umount")
                .arg(&self.folder)
                .output()
                .is_ok_and(|o| o.status.success())
        };
        while !unmounted() {
            if Instant::now() > deadline {
                eprintln!("{} stays mounted", self.folder.display());
                return;
            }
            std::thread::yield_now();
        }
    }
}

fn folder_in(parent: Option<&Path>) -> Option<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("block-uring-test-");
    match parent {
        Some(parent) => builder.tempdir_in(parent).ok(),
        None => builder.tempdir().ok(),
    }
}

/// Every place this machine offers.
pub fn all() -> Vec<Place> {
    let plain = |name, parent: Option<&Path>| {
        let owner = folder_in(parent)?;
        Some(Place {
            name,
            folder: owner.path().to_owned(),
            _owner: owner,
            mounted: false,
        })
    };
    let places = [
        plain("temporary folder", None),
        plain("tmpfs", Some(Path::new("/dev/shm"))),
        mounted("xfs", 512 << 20),
    ];
    places.into_iter().flatten().collect()
}

/// A small file system of its own on a loop device: needs root and the file system's mkfs.
pub fn mounted(kind: &'static str, bytes: u64) -> Option<Place> {
    let owner = folder_in(None)?;
    let image = owner.path().join("image");
    File::create(&image)
        .and_then(|file| file.set_len(bytes))
        .ok()?;
    let folder = owner.path().join("mount");
    std::fs::create_dir(&folder).ok()?;
    let run = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    let made = run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image));
    let mounted = made
        && run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(&folder));
    mounted.then_some(Place {
        name: kind,
        folder,
        _owner: owner,
        mounted,
    })
}
