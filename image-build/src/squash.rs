//! A file tree as a compressed file system: SquashFS 4.0 (Linux, Documentation/filesystems/squashfs.rst).

use std::io::{Cursor, Seek as _, SeekFrom};

use backhand::{
    BackhandError, FilesystemCompressor, FilesystemWriter, NodeHeader,
    compression::{CompressionOptions, Compressor, Zstd},
};

use crate::{Archive, BuildError, archive::Node};

/// Bytes that are compressed, and later read, together.
const BLOCK_BYTES: u32 = 128 << 10;

/// The file system, compressed with zstd at `level`, 1–19. The same tree gives the same bytes.
///
/// # Errors
/// A path cannot be in such a file system.
pub(crate) fn squash(tree: &Archive, level: i32) -> Result<Vec<u8>, BuildError> {
    write(tree, level)
        .map_err(|error| BuildError::because("cannot make the root's file system", error))
}

fn write(tree: &Archive, level: i32) -> Result<Vec<u8>, BackhandError> {
    let mut writer = FilesystemWriter::default();
    writer.set_block_size(BLOCK_BYTES);
    writer.set_only_root_id();
    writer.set_root_mode(0o755);
    writer.set_time(0);
    let options = CompressionOptions::Zstd(Zstd {
        compression_level: level.unsigned_abs(),
    });
    writer.set_compressor(FilesystemCompressor::new(Compressor::Zstd, Some(options))?);
    for (path, permissions, node) in tree.nodes() {
        let path = format!("/{path}");
        let header = NodeHeader {
            permissions,
            ..NodeHeader::default()
        };
        match node {
            Node::Folder => writer.push_dir(path, header)?,
            Node::File(data) => writer.push_file(Cursor::new(data), path, header)?,
            Node::Link(target) => writer.push_symlink(target, path, header)?,
            Node::CharacterDevice(major, minor) => {
                // linux/kdev_t.h, new_encode_dev.
                let number = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
                writer.push_char_device(number, path, header)?;
            }
        }
    }
    let mut out = Cursor::new(Vec::new());
    writer.write(&mut out)?;
    out.seek(SeekFrom::End(0))?;
    Ok(out.into_inner())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use backhand::{FilesystemReader, InnerNode};

    use super::*;

    #[test]
    fn what_is_read_is_what_was_put_in_and_the_same_tree_gives_the_same_bytes() {
        let mut tree = Archive::default();
        let large: Vec<u8> = (0..=255).cycle().step_by(3).take(700_000).collect();
        tree.file("/usr/bin/large", 0o755, large.clone());
        tree.file("/etc/empty", 0o600, Vec::new());
        tree.link("/init", "usr/bin/large");
        let bytes = squash(&tree, 3).unwrap();
        assert_eq!(bytes, squash(&tree, 3).unwrap());
        assert!(bytes.len() < large.len() / 2, "{}", bytes.len());

        let reader = FilesystemReader::from_reader(Cursor::new(bytes)).unwrap();
        assert_eq!(reader.block_size, BLOCK_BYTES);
        let mut seen = Vec::new();
        for node in reader.files() {
            let path = node.fullpath.to_string_lossy().into_owned();
            assert_eq!((node.header.uid, node.header.gid), (0, 0), "{path}");
            match &node.inner {
                InnerNode::File(file) => {
                    let mut data = Vec::new();
                    reader.file(file).reader().read_to_end(&mut data).unwrap();
                    if path == "/usr/bin/large" {
                        assert!(data == large && node.header.permissions == 0o755);
                    } else {
                        assert!(data.is_empty() && node.header.permissions == 0o600);
                    }
                }
                InnerNode::Symlink(link) => {
                    assert_eq!(link.link, std::path::Path::new("usr/bin/large"));
                }
                InnerNode::Dir(_) => {}
                other => panic!("{path} is {other:?}"),
            }
            seen.push(path);
        }
        seen.sort();
        assert_eq!(
            seen,
            [
                "/",
                "/etc",
                "/etc/empty",
                "/init",
                "/usr",
                "/usr/bin",
                "/usr/bin/large"
            ]
        );
    }
}
