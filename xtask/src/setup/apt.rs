//! apt, without questions: only what was asked for, nothing removed, fresh package lists only when needed, retried.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::Invocation;
use crate::{paths, privilege, progress};

/// Tries of one operation that goes to the network.
const TRIES: u32 = 3;
/// Wait before the second try; doubled before each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Other package managers may hold the lock; they get this long.
const LOCK_WAIT: &str = "DPkg::Lock::Timeout=300";

/// Whether this is a machine of the Debian family.
pub fn is_available() -> bool {
    paths::find_program("apt-get").is_some() && paths::find_program("dpkg").is_some()
}

/// Installs packages (`name` or `name=version`) without their recommendations.
pub fn install(packages: &[&str]) -> Result<()> {
    install_with(packages, &[])
}

/// As [`install`], with further options of apt-get.
pub fn install_with(packages: &[&str], options: &[&str]) -> Result<()> {
    privilege::ensure()?;
    progress::note(format!("installing {}", packages.join(" ")));
    // --no-remove: a package that conflicts with what the user has must not push that out.
    let go = || {
        apt_get()
            .args(options)
            .args(["install", "--yes", "--no-install-recommends", "--no-remove"])
            .args(packages)
            .read()
    };
    with_fresh_lists_on_failure(go).with_context(|| {
        format!(
            "apt cannot install {}; try it by hand to see why",
            packages.join(" ")
        )
    })?;
    Ok(())
}

/// Downloads a package's file (without installing it) into `dir`, which is emptied of older ones; returns the file.
pub fn download(package: &str, dir: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for old in debs(dir)? {
        std::fs::remove_file(&old).with_context(|| format!("cannot remove {}", old.display()))?;
    }
    with_fresh_lists_on_failure(|| {
        Invocation::new("apt-get")
            // The sandbox user couldn't write to the folder of whoever calls this.
            .args(["-o", "APT::Sandbox::User=root", "download", package])
            .dir(dir)
            .read()
    })
    .with_context(|| format!("apt cannot download {package}"))?;
    match debs(dir)?.pop() {
        Some(file) => Ok(file),
        None => bail!(
            "apt said it downloaded {package}, but {} holds no package",
            dir.display()
        ),
    }
}

/// Fetches the package lists.
pub fn update() -> Result<()> {
    privilege::ensure()?;
    retried(|| apt_get().arg("update").read().map(drop))
        .context("apt cannot fetch the package lists: is there a network?")
}

/// The versions of a package that apt can install, newest first.
pub fn versions(package: &str) -> Vec<String> {
    Invocation::new("apt-cache")
        .args(["madison", package])
        .read()
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(|version| version.trim().to_owned())
        .collect()
}

fn apt_get() -> Invocation {
    Invocation::as_root("apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C")
        .args(["-q", "-o", LOCK_WAIT])
}

/// The lists may be absent or name versions that are gone: only a failure costs an update.
fn with_fresh_lists_on_failure(mut operation: impl FnMut() -> Result<String>) -> Result<()> {
    if operation().is_ok() {
        return Ok(());
    }
    crate::interrupt::check()?;
    update()?;
    retried(|| operation().map(drop))
}

fn retried(mut operation: impl FnMut() -> Result<()>) -> Result<()> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..TRIES {
        if operation().is_ok() {
            return Ok(());
        }
        crate::interrupt::check()?;
        std::thread::sleep(pause);
        pause *= 2;
    }
    operation()
}

fn debs(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    Ok(entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|ext| ext == "deb"))
        .collect())
}
