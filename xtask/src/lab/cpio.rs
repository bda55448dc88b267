//! An initramfs as the kernel reads it: a "newc" cpio archive (Linux, Documentation/driver-api/early-userspace/
//! buffer-format.rst). Everything belongs to root whoever builds it, and the same inputs give the same bytes.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};

const FOLDER: u32 = 0o040_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// A file tree in memory, kept in order of path so that a folder precedes what is in it.
#[derive(Default)]
pub struct Archive {
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    mode: u32,
    device: (u32, u32),
    data: Vec<u8>,
}

impl Archive {
    /// Adds a folder and those above it. Paths are absolute, as the booted system sees them.
    pub fn folder(&mut self, path: &str) {
        let mut end = 0;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            end += 1 + part.len();
            self.entries
                .entry(path[1..end].to_owned())
                .or_insert(Entry {
                    mode: FOLDER,
                    device: (0, 0),
                    data: Vec::new(),
                });
        }
    }

    /// Adds a file with its permission bits, and the folders above it.
    pub fn file(&mut self, path: &str, permissions: u32, data: Vec<u8>) {
        self.insert(path, 0o100_000 | permissions, (0, 0), data);
    }

    /// Adds a copy of a file of this machine.
    pub fn copy(&mut self, path: &str, permissions: u32, from: &Path) -> Result<()> {
        let data =
            std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.file(path, permissions, data);
        Ok(())
    }

    /// Adds a character device: without /dev/console the first process has no output.
    pub fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.insert(path, CHARACTER_DEVICE, (major, minor), Vec::new());
    }

    /// Whether there is something at a path.
    pub fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path.trim_start_matches('/'))
    }

    /// Writes the archive.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut inode = 0;
        for (path, entry) in &self.entries {
            inode += 1;
            write_entry(to, inode, path, entry)?;
        }
        let end = Entry {
            mode: 0,
            device: (0, 0),
            data: Vec::new(),
        };
        write_entry(to, 0, "TRAILER!!!", &end)
    }

    fn insert(&mut self, path: &str, mode: u32, device: (u32, u32), data: Vec<u8>) {
        if let Some((parent, _)) = path
            .rsplit_once('/')
            .filter(|(parent, _)| !parent.is_empty())
        {
            self.folder(parent);
        }
        self.entries.insert(
            path.trim_start_matches('/').to_owned(),
            Entry { mode, device, data },
        );
    }
}

fn write_entry(to: &mut impl Write, inode: u32, path: &str, entry: &Entry) -> io::Result<()> {
    let too_long = |_| {
        io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{path} is too large for an initramfs"),
        )
    };
    let size = u32::try_from(entry.data.len()).map_err(too_long)?;
    let name_size = u32::try_from(path.len() + 1).map_err(too_long)?;
    let links = if entry.mode & 0o170_000 == 0o040_000 {
        2
    } else {
        1
    };
    let (major, minor) = entry.device;
    let fields = [
        inode, entry.mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0,
    ];
    to.write_all(b"070701")?;
    for field in fields {
        write!(to, "{field:08x}")?;
    }
    to.write_all(path.as_bytes())?;
    // The header has 110 bytes; name and data each end on a multiple of four.
    to.write_all(&[0; 4][..4 - (110 + path.len()) % 4])?;
    to.write_all(&entry.data)?;
    to.write_all(&[0; 4][..(4 - entry.data.len() % 4) % 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(archive: &Archive) -> Vec<u8> {
        let mut bytes = Vec::new();
        archive.write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn entries_are_aligned_and_folders_come_first() {
        let mut archive = Archive::default();
        archive.file("/bin/a", 0o755, b"hello".to_vec());
        archive.file("/bin/b", 0o644, b"x".to_vec());
        archive.character_device("/dev/console", 5, 1);
        let bytes = bytes(&archive);
        assert_eq!(bytes.len() % 4, 0);
        let mut at = 0;
        let mut names = Vec::new();
        while at < bytes.len() {
            assert_eq!(&bytes[at..at + 6], b"070701", "at {at}");
            let field = |n: usize| {
                let text = std::str::from_utf8(&bytes[at + 6 + 8 * n..][..8]).unwrap();
                usize::from_str_radix(text, 16).unwrap()
            };
            let (size, name_size) = (field(6), field(11));
            let name = &bytes[at + 110..][..name_size];
            assert_eq!(name.last(), Some(&0));
            names.push(String::from_utf8(name[..name_size - 1].to_vec()).unwrap());
            let data = (at + 110 + name_size).next_multiple_of(4);
            at = (data + size).next_multiple_of(4);
        }
        assert_eq!(
            names,
            ["bin", "bin/a", "bin/b", "dev", "dev/console", "TRAILER!!!"]
        );
    }

    #[test]
    fn the_same_tree_gives_the_same_bytes() {
        let mut one = Archive::default();
        one.folder("/a/b");
        one.file("/c", 0o644, vec![1]);
        let mut two = Archive::default();
        two.file("/c", 0o644, vec![1]);
        two.folder("/a");
        two.folder("/a/b");
        assert_eq!(bytes(&one), bytes(&two));
    }
}
