//! The image's root, which a host runs from, and the initramfs that brings it there.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use image_format::{Release, layout};

use crate::{Archive, BuildError, Kernel, VariantFile, needed, squash::squash};

/// The folders that are mounted on, or that programs expect.
const FOLDERS: [&str; 12] = [
    "/dev",
    "/etc",
    "/mnt",
    "/proc",
    "/root",
    "/run",
    "/sys",
    "/tmp",
    "/usr/bin",
    "/usr/sbin",
    "/var/lib/ashlar",
    "/var/tmp",
];

/// What the root is made of.
pub struct RootInputs<'a> {
    /// The kernel whose modules go into it.
    pub kernel: &'a Kernel,
    /// Which modules and programs.
    pub variant: &'a VariantFile,
    /// The daemon, without debugging information.
    pub daemon: PathBuf,
    /// The initramfs' program, likewise.
    pub first: PathBuf,
    /// Programs by their name in the variant.
    pub programs: BTreeMap<String, PathBuf>,
    /// Where shared libraries are looked for.
    pub library_folders: Vec<PathBuf>,
    /// Firmware that drivers load into devices: its name below /lib/firmware → file of this machine.
    pub firmware: BTreeMap<String, PathBuf>,
    /// Policies that come with the host.
    pub plugins: Vec<PathBuf>,
    /// minisign public keys, one per line.
    pub trusted_keys: String,
    /// What it says of itself.
    pub release: Release,
    /// A time that is in the past when the image runs, seconds since 1970.
    pub clock_floor: u64,
}

/// A root in the making: a caller may add or replace files before it is packed.
pub struct Root {
    /// The files.
    pub archive: Archive,
}

impl Root {
    /// Puts a root together.
    ///
    /// # Errors
    /// A file cannot be read, or a library or a module is missing.
    pub fn new(inputs: &RootInputs<'_>) -> Result<Self, BuildError> {
        let mut archive = Archive::default();
        for folder in FOLDERS {
            archive.folder(folder);
        }
        let daemon = format!("/{}", layout::DAEMON);
        archive.copy(&daemon, 0o755, &inputs.daemon)?;
        archive.link(&format!("/{}", layout::INIT), layout::DAEMON);
        let mut libraries = needed(&inputs.daemon, &inputs.library_folders)?;
        for name in &inputs.variant.programs {
            let program = inputs.programs.get(name).ok_or_else(|| {
                BuildError::new(format!(
                    "the variant {} has the program {name}, which is not on this machine",
                    inputs.variant.name
                ))
            })?;
            archive.copy(&format!("/usr/sbin/{name}"), 0o755, program)?;
            libraries.extend(needed(program, &inputs.library_folders)?);
        }
        for (path, file) in libraries {
            archive.copy(&path, 0o755, &file)?;
        }
        for (name, file) in &inputs.firmware {
            archive.copy(&format!("/lib/firmware/{name}"), 0o644, file)?;
        }
        for plugin in &inputs.plugins {
            let name = plugin.file_name().unwrap_or_default().to_string_lossy();
            archive.copy(&format!("/{}/{name}", layout::PLUGINS), 0o644, plugin)?;
        }
        let text = |text: &str| text.as_bytes().to_vec();
        archive.file(
            &format!("/{}", layout::OS_RELEASE),
            0o644,
            text(&inputs.release.os_release()),
        );
        let load = inputs.variant.load.join("\n");
        archive.file(&format!("/{}", layout::MODULES), 0o644, text(&load));
        archive.file(
            &format!("/{}", layout::CLOCK_FLOOR),
            0o644,
            text(&inputs.clock_floor.to_string()),
        );
        archive.file(
            &format!("/{}", layout::TRUSTED_KEYS),
            0o644,
            text(&inputs.trusted_keys),
        );
        archive.file(
            "/etc/passwd",
            0o644,
            text("root:x:0:0:root:/root:/nonexistent\n"),
        );
        archive.file("/etc/group", 0o644, text("root:x:0:\n"));
        archive.link("/etc/resolv.conf", "/run/ashlar/resolv.conf");
        archive.link("/etc/mtab", "/proc/self/mounts");
        inputs
            .kernel
            .add_tree(&inputs.variant.all_modules(inputs.kernel), &mut archive)?;
        Ok(Self { archive })
    }

    /// The initramfs: `first`, the program that mounts the root, what it needs, and the root itself, compressed with zstd at
    /// `level`, 1–19.
    ///
    /// # Errors
    /// A file cannot be read or is too large for a format, or a module or a library is missing.
    pub fn initramfs(
        &self,
        first: &Path,
        library_folders: &[PathBuf],
        kernel: &Kernel,
        level: i32,
    ) -> Result<Vec<u8>, BuildError> {
        let mut archive = Archive::default();
        for folder in ["/dev", "/proc", "/new"] {
            archive.folder(folder);
        }
        archive.character_device("/dev/console", 5, 1);
        archive.copy("/init", 0o755, first)?;
        for (path, file) in needed(first, library_folders)? {
            archive.copy(&path, 0o755, &file)?;
        }
        kernel.add_tree(&["loop", "squashfs"], &mut archive)?;
        archive.file(
            &format!("/{}", layout::ROOT),
            0o400,
            squash(&self.archive, level)?,
        );
        let failed = |error| BuildError::because("cannot pack the initramfs", error);
        let mut encoder = zstd::Encoder::new(Vec::new(), level).map_err(failed)?;
        encoder.include_checksum(true).map_err(failed)?;
        archive.write(&mut encoder).map_err(failed)?;
        encoder.finish().map_err(failed)
    }
}
