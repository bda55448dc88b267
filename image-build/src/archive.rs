//! A file tree, and how it is written for an initramfs: a "newc" cpio archive (Linux, Documentation/driver-api/early-userspace/
//! buffer-format.rst). Everything belongs to root whoever builds it, and the same tree gives the same bytes.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
};

use cpio::newc::Builder;

use crate::BuildError;

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// A file tree in memory, kept in order of path so that a folder precedes what is in it.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    mode: u32,
    device: (u32, u32),
    data: Vec<u8>,
}

/// What is at a path of a tree.
pub(crate) enum Node<'a> {
    /// A folder.
    Folder,
    /// A file with this content.
    File(&'a [u8]),
    /// A symbolic link to there.
    Link(&'a str),
    /// A character device: major and minor number.
    CharacterDevice(u32, u32),
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
                    mode: FOLDER | 0o755,
                    device: (0, 0),
                    data: Vec::new(),
                });
        }
    }

    /// Adds a file with its permission bits, and the folders above it. One that is there is replaced.
    pub fn file(&mut self, path: &str, permissions: u32, data: Vec<u8>) {
        self.insert(path, FILE | permissions, (0, 0), data);
    }

    /// Adds a copy of a file of this machine.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn copy(&mut self, path: &str, permissions: u32, from: &Path) -> Result<(), BuildError> {
        let data = std::fs::read(from).map_err(BuildError::io("read", from))?;
        self.file(path, permissions, data);
        Ok(())
    }

    /// Adds a symbolic link to `target`.
    pub fn link(&mut self, path: &str, target: &str) {
        self.insert(path, LINK | 0o777, (0, 0), target.as_bytes().to_vec());
    }

    /// Adds a character device: without /dev/console the first process has no output.
    pub fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.insert(path, CHARACTER_DEVICE | 0o600, (major, minor), Vec::new());
    }

    /// Whether there is something at a path.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path.trim_start_matches('/'))
    }

    /// The files: path without its leading `/`, and content; in order of path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.mode & 0o170_000 == FILE)
            .map(|(path, entry)| (path.as_str(), entry.data.as_slice()))
    }

    /// All of it, in order of path: path without its leading `/`, permission bits, and what it is.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&str, u16, Node<'_>)> {
        self.entries.iter().map(|(path, entry)| {
            let node = match entry.mode & 0o170_000 {
                FOLDER => Node::Folder,
                LINK => Node::Link(std::str::from_utf8(&entry.data).unwrap_or_default()),
                CHARACTER_DEVICE => Node::CharacterDevice(entry.device.0, entry.device.1),
                _ => Node::File(&entry.data),
            };
            let permissions = u16::try_from(entry.mode & 0o7777).unwrap_or_default();
            (path.as_str(), permissions, node)
        })
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// The writer's, or a file is too large for the format (4 GiB).
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut inode = 0;
        for (path, entry) in &self.entries {
            inode += 1;
            let size = u32::try_from(entry.data.len()).map_err(|_| {
                io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!("{path} is too large for an initramfs"),
                )
            })?;
            let folder = entry.mode & 0o170_000 == FOLDER;
            let (major, minor) = entry.device;
            let mut file = Builder::new(path)
                .ino(inode)
                .mode(entry.mode)
                .nlink(if folder { 2 } else { 1 })
                .rdev_major(major)
                .rdev_minor(minor)
                .write(&mut *to, size);
            file.write_all(&entry.data)?;
            file.finish()?;
        }
        cpio::newc::trailer(to).map(drop)
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
        archive.link("/init", "bin/a");
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
            [
                "bin",
                "bin/a",
                "bin/b",
                "dev",
                "dev/console",
                "init",
                "TRAILER!!!"
            ]
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
