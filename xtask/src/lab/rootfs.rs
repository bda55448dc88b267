//! The file trees of the emulated host and of its guest.

use std::path::Path;

use anyhow::{Context, Result};
use image_build::Archive;

use crate::command::Invocation;
use crate::{packages, paths};

/// A tree with busybox, a first process, and the folders it mounts things on.
pub fn base(init: &str) -> Result<Archive> {
    let mut archive = Archive::default();
    for folder in [
        "/bin", "/dev", "/etc", "/proc", "/run", "/sys", "/tmp", "/var/lib",
    ] {
        archive.folder(folder);
    }
    archive.character_device("/dev/console", 5, 1);
    let busybox =
        paths::find_program("busybox").context("busybox is missing: install busybox-static")?;
    add_program(&mut archive, "/bin/busybox", &busybox)?;
    archive.file("/init", 0o755, init.as_bytes().to_vec());
    Ok(archive)
}

/// Adds a program, without its debugging information, and the shared libraries it needs at the paths where its loader
/// looks for them.
pub fn add_program(archive: &mut Archive, path: &str, program: &Path) -> Result<()> {
    let stripped = tempfile::NamedTempFile::new().context("cannot create a temporary file")?;
    Invocation::new("strip")
        .arg("-o")
        .args([stripped.path(), program])
        .read()?;
    archive.copy(path, 0o755, stripped.path())?;
    for (path, library) in image_build::needed(program, &packages::library_folders())? {
        if !archive.contains(&path) {
            archive.copy(&path, 0o755, &library)?;
        }
    }
    Ok(())
}

/// Writes a tree as an initramfs; not compressed, because unpacking in an emulated machine takes longer than loading.
pub fn write(archive: &Archive, to: &Path) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(to)?);
        archive.write(&mut file)?;
        std::io::Write::flush(&mut file)
    };
    write().with_context(|| format!("cannot write {}", to.display()))
}
