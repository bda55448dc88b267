//! The components of installed policies, by their digests.

use anyhow::{Context, Result};
use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use types::Sha256Digest;

/// A folder of files `<digest>.wasm`: whole or not there.
pub struct Components {
    folder: PathBuf,
}

impl Components {
    /// Opens the folder, or makes it.
    pub fn open(folder: &Path) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    fn file(&self, module: Sha256Digest) -> PathBuf {
        self.folder.join(format!("{module}.wasm"))
    }

    /// Keeps a component; when this returns it is on stable storage.
    pub fn keep(&self, component: &[u8]) -> io::Result<()> {
        let path = self.file(Sha256Digest::of(component));
        let unfinished = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        let written = file
            .write_all(component)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&unfinished, &path));
        if let Err(error) = written {
            // What cannot be removed now is by `retain`.
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        File::open(&self.folder)?.sync_all()
    }

    /// A component that is kept, unless something else is in its file by now.
    pub fn read(&self, module: Sha256Digest) -> io::Result<Vec<u8>> {
        let path = self.file(module);
        let component = fs::read(&path)?;
        if Sha256Digest::of(&component) != module {
            let what = format!("{} was altered: install the policy again", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(component)
    }

    /// Removes everything but these.
    pub fn retain(&self, modules: &BTreeSet<Sha256Digest>) -> io::Result<()> {
        let wanted: BTreeSet<PathBuf> = modules.iter().map(|module| self.file(*module)).collect();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if !wanted.contains(&path) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_there_until_nobody_wants_it() {
        let folder = tempfile::tempdir().unwrap();
        let components = Components::open(&folder.path().join("components")).unwrap();
        let (one, other) = (Sha256Digest::of(b"one"), Sha256Digest::of(b"other"));
        components.keep(b"one").unwrap();
        components.keep(b"one").unwrap();
        components.keep(b"other").unwrap();
        fs::write(folder.path().join("components/broken-off.new"), "half").unwrap();
        components.retain(&BTreeSet::from([one])).unwrap();
        assert_eq!(components.read(one).unwrap(), b"one");
        let gone = components.read(other).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        assert_eq!(fs::read_dir(&components.folder).unwrap().count(), 1);
    }

    #[test]
    fn an_altered_file_is_not_taken_for_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let components = Components::open(folder.path()).unwrap();
        let module = Sha256Digest::of(b"policy");
        components.keep(b"policy").unwrap();
        fs::write(components.file(module), b"other").unwrap();
        let error = components.read(module).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
