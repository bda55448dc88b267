//! A disk pool whose file system can reflink.
//!
//! ```text
//! make: DIR reflinks? ── yes ─→ DIR itself is the pool
//!          └─ no ─→ DIR/pool.xfs (sparse, mkfs.xfs) ── mount -o loop ─→ DIR/pool is the pool
//! remove: unmount DIR/pool, delete DIR/pool and DIR/pool.xfs
//! ```
//!
//! Everything is recognised by these names, so what a killed run left behind is found and removed by the next one.
//! Making a pool that is there already changes nothing; one that is there but not mounted (after a reboot) is mounted.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command::Invocation;
use crate::progress;

const IMAGE: &str = "pool.xfs";
const UNFINISHED: &str = "pool.xfs.new";
const MOUNT_POINT: &str = "pool";
/// mkfs.xfs makes nothing smaller than 300 MiB.
const SMALLEST: u64 = 320 << 20;

/// A pool; removed when dropped unless it is kept.
pub struct Pool {
    dir: PathBuf,
    made: bool,
    keep: bool,
}

impl Pool {
    /// Makes sure that there is a place for reflinked files in `dir`; `size` bytes (sparse) if a pool must be made.
    pub fn make(dir: &Path, size: u64) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let dir = dir
            .canonicalize()
            .with_context(|| format!("cannot find {}", dir.display()))?;
        let image = dir.join(IMAGE);
        if !image.exists() && can_reflink(&dir)? {
            return Ok(Self {
                dir,
                made: false,
                keep: false,
            });
        }
        // From here on, an error drops this guard, which takes back what was done.
        let pool = Self {
            dir,
            made: true,
            keep: image.exists(),
        };
        if !image.exists() {
            make_image(&pool.dir, size)?;
        }
        if !is_mount_point(&pool.path())? {
            mount(&image, &pool.path())?;
        }
        Ok(pool)
    }

    /// The folder to put files into.
    pub fn path(&self) -> PathBuf {
        if self.made {
            self.dir.join(MOUNT_POINT)
        } else {
            self.dir.clone()
        }
    }

    /// Whether a file system was made for it; otherwise the folder's own does.
    pub fn was_made(&self) -> bool {
        self.made
    }

    /// Leaves the pool in place when this value goes.
    pub fn keep(mut self) {
        self.keep = true;
    }

    /// Unmounts and deletes the pool in `dir`, and what an earlier run may have left of one. Nothing there is no error.
    pub fn remove(dir: &Path) -> Result<()> {
        let Ok(dir) = dir.canonicalize() else {
            return Ok(());
        };
        let mount_point = dir.join(MOUNT_POINT);
        let was_mounted = is_mount_point(&mount_point)?;
        if was_mounted {
            unmount(&mount_point)?;
        }
        let image = dir.join(IMAGE);
        // The mount point has a common name: it is ours only beside an image of ours.
        if mount_point.is_dir() && (was_mounted || image.exists()) {
            std::fs::remove_dir(&mount_point)
                .with_context(|| format!("cannot remove {}", mount_point.display()))?;
        }
        for file in [image, dir.join(UNFINISHED)] {
            if file.exists() {
                std::fs::remove_file(&file)
                    .with_context(|| format!("cannot remove {}", file.display()))?;
            }
        }
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.made
            && !self.keep
            && let Err(error) = Self::remove(&self.dir)
        {
            progress::note(format!(
                "the pool in {} is still there: {error:#}; `cargo xtask pool remove` takes it away",
                self.dir.display()
            ));
        }
    }
}

/// Reads `4G`, `512M`, `2GiB` or a number of bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{text:?} is no size; write for instance 4G"))?;
    let shift = match unit
        .trim()
        .trim_end_matches("iB")
        .to_ascii_uppercase()
        .as_str()
    {
        "" => 0,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => {
            return Err(format!(
                "{unit:?} is no unit of size; use M, G or T (powers of 1024)"
            ));
        }
    };
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("{text} is too large"))
}

/// Tries a reflink rather than guessing from the file system's name.
fn can_reflink(dir: &Path) -> Result<bool> {
    let file = || {
        tempfile::tempfile_in(dir)
            .with_context(|| format!("cannot create a file in {}", dir.display()))
    };
    let (mut from, to) = (file()?, file()?);
    std::io::Write::write_all(&mut from, &[0x5a; 4096])?;
    Ok(rustix::fs::ioctl_ficlone(&to, &from).is_ok())
}

fn make_image(dir: &Path, size: u64) -> Result<()> {
    if size < SMALLEST {
        bail!(
            "a pool of {size} bytes is too small: XFS needs at least {} MiB",
            SMALLEST >> 20
        );
    }
    progress::note(format!(
        "{} cannot reflink: making an XFS pool of {} MiB (sparse) in it",
        dir.display(),
        size >> 20
    ));
    let unfinished = dir.join(UNFINISHED);
    let file = File::create(&unfinished)
        .with_context(|| format!("cannot create {}", unfinished.display()))?;
    file.set_len(size)
        .with_context(|| format!("cannot size {}", unfinished.display()))?;
    drop(file);
    format_xfs(&unfinished)?;
    std::fs::rename(&unfinished, dir.join(IMAGE)).context("cannot name the finished pool image")
}

/// Makes an XFS that can reflink in a file.
pub fn format_xfs(file: &Path) -> Result<()> {
    let mkfs =
        crate::paths::find_program("mkfs.xfs").context("mkfs.xfs is missing: install xfsprogs")?;
    Invocation::new(mkfs)
        .args(["-q", "-f", "-m", "reflink=1"])
        .arg(file)
        .read()
        .with_context(|| format!("cannot make a file system in {}", file.display()))?;
    Ok(())
}

fn mount(image: &Path, mount_point: &Path) -> Result<()> {
    std::fs::create_dir_all(mount_point)
        .with_context(|| format!("cannot create {}", mount_point.display()))?;
    Invocation::as_root("mount")
        .args(["-t", "xfs", "-o", "loop"])
        .args([image, mount_point])
        .read()
        .with_context(|| {
            format!(
                "cannot mount {}: does the kernel have XFS and a free loop device?",
                image.display()
            )
        })?;
    if !crate::privilege::is_root() {
        let owner = std::fs::metadata(image)?;
        Invocation::as_root("chown")
            .arg(format!("{}:{}", owner.uid(), owner.gid()))
            .arg(mount_point)
            .read()?;
    }
    Ok(())
}

fn unmount(mount_point: &Path) -> Result<()> {
    // The loop device was made by mount and goes with it.
    Invocation::as_root("umount")
        .arg(mount_point)
        .shielded()
        .read()
        .with_context(|| {
            let users = users_of(mount_point);
            if users.is_empty() {
                format!("cannot unmount {}", mount_point.display())
            } else {
                format!(
                    "cannot unmount {}: still used by {}",
                    mount_point.display(),
                    users.join(", ")
                )
            }
        })?;
    Ok(())
}

/// Processes that have something open below a mount point, as `name (pid)`.
fn users_of(mount_point: &Path) -> Vec<String> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let below = |link: PathBuf| {
        std::fs::read_link(link).is_ok_and(|target| target.starts_with(mount_point))
    };
    processes
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|process| {
            let id = process
                .file_name()
                .and_then(|name| name.to_str()?.parse().ok());
            id.is_some_and(|id: u32| id != std::process::id())
        })
        .filter(|process| {
            let open = std::fs::read_dir(process.join("fd")).ok();
            ["cwd", "root", "exe"]
                .iter()
                .any(|link| below(process.join(link)))
                || open.is_some_and(|fds| fds.filter_map(Result::ok).any(|fd| below(fd.path())))
        })
        .filter_map(|process| {
            let name = std::fs::read_to_string(process.join("comm")).ok()?;
            Some(format!(
                "{} ({})",
                name.trim(),
                process.file_name()?.to_str()?
            ))
        })
        .collect()
}

fn is_mount_point(path: &Path) -> Result<bool> {
    let table =
        std::fs::read_to_string("/proc/self/mountinfo").context("cannot read the mount table")?;
    Ok(mount_points(&table).any(|mounted| Path::new(&mounted) == path))
}

/// The fifth field of each line, with the kernel's octal escapes undone (proc(5)).
fn mount_points(table: &str) -> impl Iterator<Item = String> {
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|field| {
            let mut parts = field.split('\\');
            let mut path = parts.next().unwrap_or_default().to_owned();
            for part in parts {
                let (code, rest) = part.split_at_checked(3).unwrap_or((part, ""));
                path.extend(u8::from_str_radix(code, 8).map(char::from));
                path.push_str(rest);
            }
            path
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("4G"), Ok(4 << 30));
        assert_eq!(parse_size("512MiB"), Ok(512 << 20));
        assert_eq!(parse_size("1024"), Ok(1024));
        for bad in ["", "G", "4X", "99999999999T"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mount_points_with_blanks_are_understood() {
        let table = "36 35 98:0 / /mnt/a\\040b rw - xfs /dev/loop0 rw\n37 35 0:1 / /proc rw - proc proc rw\n";
        assert_eq!(
            mount_points(table).collect::<Vec<_>>(),
            ["/mnt/a b", "/proc"]
        );
    }

    #[test]
    fn too_small_a_pool_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        if can_reflink(dir.path()).unwrap() {
            return; // No pool is ever made here.
        }
        assert!(Pool::make(dir.path(), 1 << 20).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_pool_reflinks_survives_a_second_make_and_goes_with_its_guard() {
        let dir = tempfile::tempdir().unwrap();
        let pool = Pool::make(dir.path(), 512 << 20).unwrap();
        assert!(can_reflink(&pool.path()).unwrap());
        std::fs::write(pool.path().join("kept"), "x").unwrap();
        Pool::make(dir.path(), 512 << 20).unwrap().keep();
        assert!(pool.path().join("kept").exists());
        std::fs::remove_file(pool.path().join("kept")).unwrap();
        drop(pool);
        assert!(!is_mount_point(&dir.path().join(MOUNT_POINT)).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_run_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        if can_reflink(dir.path()).unwrap() {
            return;
        }
        Pool::make(dir.path(), 512 << 20).unwrap().keep();
        std::fs::write(dir.path().join(UNFINISHED), "").unwrap();
        Pool::remove(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
