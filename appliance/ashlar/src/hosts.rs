//! The hosts somebody has enrolled with: a file with their addresses, fingerprints and tokens, for its owner alone.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::client::Error;

/// The file, below the user's folder of configurations.
const FILE: &str = "ashlar/hosts.json";

/// A host that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownHost {
    /// Its address.
    pub address: String,
    /// SHA-256 digest of its certificate, `sha256:…`.
    pub fingerprint: String,
    /// The bearer token.
    pub token: String,
}

/// All that are known, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hosts {
    /// The one that is meant when none is named.
    pub current: Option<String>,
    /// By name.
    pub hosts: BTreeMap<String, KnownHost>,
}

impl Hosts {
    /// Where the file is: `$XDG_CONFIG_HOME/ashlar/hosts.json`, or below `~/.config`.
    #[must_use]
    pub fn path() -> Option<PathBuf> {
        let folder = std::env::var_os("XDG_CONFIG_HOME")
            .filter(|folder| !folder.is_empty())
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")))?;
        Some(folder.join(FILE))
    }

    /// Those in the file; none without it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let what = || format!("cannot read the known hosts in {}", path.display());
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(Error::local(what())(error)),
        };
        serde_json::from_str(&text).map_err(|error| Error::local(what())(error.into()))
    }

    /// Writes the file: whole, and never open to others.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let part = path.with_extension("part");
        let write = || -> std::io::Result<()> {
            if let Some(folder) = path.parent() {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(folder)?;
            }
            let _ = fs::remove_file(&part);
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&part)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&part, path)
        };
        write().map_err(Error::local(format!(
            "cannot write the known hosts to {}",
            path.display()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn hosts_are_kept_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/hosts.json");
        assert_eq!(Hosts::load(&path).unwrap(), Hosts::default());
        let mut hosts = Hosts::default();
        let host = KnownHost {
            address: "https://10.0.0.7:7443".into(),
            fingerprint: "sha256:ab".into(),
            token: "secret".into(),
        };
        hosts.hosts.insert("one".into(), host);
        hosts.current = Some("one".into());
        hosts.save(&path).unwrap();
        hosts.save(&path).unwrap();
        assert_eq!(Hosts::load(&path).unwrap(), hosts);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::write(&path, "nonsense").unwrap();
        assert!(Hosts::load(&path).is_err());
    }
}
