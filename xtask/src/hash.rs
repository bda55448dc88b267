//! Digests of what a cached result was made from.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Collects inputs; the same inputs in the same order give the same digest.
#[derive(Default)]
pub struct Inputs(Sha256);

impl Inputs {
    /// Adds a text, for instance a version.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes());
        self
    }

    /// Adds a file's content (not its name).
    pub fn file(&mut self, path: &Path) -> Result<&mut Self> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .with_context(|| format!("cannot read {}", path.display()))?;
        self.bytes(&bytes);
        Ok(self)
    }

    /// Adds every file below a folder, with its name, but not below any folder called `target`.
    pub fn tree(&mut self, root: &Path) -> Result<&mut Self> {
        for file in files_below(root)? {
            let name = file.strip_prefix(root).unwrap_or(&file);
            self.text(&name.to_string_lossy()).file(&file)?;
        }
        Ok(self)
    }

    /// The digest, in hexadecimal.
    pub fn digest(self) -> String {
        self.0
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Each input is preceded by its length, so that moving bytes from one to the next changes the digest.
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes.len().to_le_bytes());
        self.0.update(bytes);
    }
}

/// The regular files below a folder, sorted, leaving out `target` folders.
fn files_below(root: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = vec![root.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
            let kind = entry.file_type()?;
            if kind.is_dir() && entry.file_name() != "target" {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_changes_with_names_and_contents_but_not_with_target() {
        let dir = tempfile::tempdir().unwrap();
        let digest = || {
            let mut inputs = Inputs::default();
            inputs.tree(dir.path()).unwrap();
            inputs.digest()
        };
        std::fs::write(dir.path().join("a"), "1").unwrap();
        let first = digest();
        assert_eq!(first, digest());
        std::fs::create_dir(dir.path().join("target")).unwrap();
        std::fs::write(dir.path().join("target/x"), "1").unwrap();
        assert_eq!(first, digest());
        std::fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        let renamed = digest();
        assert_ne!(first, renamed);
        std::fs::write(dir.path().join("b"), "2").unwrap();
        assert_ne!(renamed, digest());
    }

    #[test]
    fn moving_bytes_between_inputs_matters() {
        let digest = |a: &str, b: &str| {
            let mut inputs = Inputs::default();
            inputs.text(a).text(b);
            inputs.digest()
        };
        assert_ne!(digest("ab", "c"), digest("a", "bc"));
    }
}
