//! The file trees of the emulated host and of its guest.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cpio::Archive;
use crate::command::Invocation;
use crate::paths;

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
    for library in libraries(program) {
        if !archive.contains(&library) {
            archive.copy(&library, 0o755, &PathBuf::from(&library))?;
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

/// What ldd lists; a statically linked program has none, and ldd then fails.
fn libraries(program: &Path) -> Vec<String> {
    Invocation::new("ldd")
        .arg(program)
        .read()
        .map(|text| parse_ldd(&text))
        .unwrap_or_default()
}

/// `libc.so.6 => /lib/…/libc.so.6 (0x…)` or `/lib64/ld-linux-x86-64.so.2 (0x…)`; the vdso has no file.
fn parse_ldd(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            let path = line.split_once("=> ").map_or(line, |(_, path)| path);
            let path = path.split(" (").next()?;
            path.starts_with('/').then(|| path.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        let text = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x2)\n\t/lib64/ld-linux-x86-64.so.2 (0x3)\n\tlibgone.so => not found\n";
        assert_eq!(
            parse_ldd(text),
            ["/lib/x/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]
        );
        assert_eq!(parse_ldd("\tstatically linked\n"), Vec::<String>::new());
    }
}
