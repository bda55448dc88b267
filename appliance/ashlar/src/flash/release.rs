//! A release on disk: its manifest, signature and files.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use image_format::{Artifact, ArtifactKind, MAX_MANIFEST_BYTES, Manifest, TrustedKeys};
use sha2::{Digest as _, Sha256};
use types::Sha256Digest;

use crate::client::Error;

/// Where keys are looked for when none is given.
const SYSTEM_KEYS: &str = "/etc/ashlar/trusted-keys";

/// A release whose signature holds.
#[derive(Debug)]
pub struct Release {
    /// Its manifest.
    pub manifest: Manifest,
    /// The manifest's folder.
    pub folder: PathBuf,
}

/// The manifest beside an image: `ashlar-0.1.0-metal.img.zst` → `ashlar-0.1.0-metal.manifest.json`.
pub fn manifest_beside(image: &Path) -> Option<PathBuf> {
    let name = image.file_name()?.to_str()?;
    let base = [".img.zst", ".img", ".efi", ".iso", ".manifest.json"]
        .iter()
        .find_map(|ending| name.strip_suffix(ending))?;
    Some(image.with_file_name(format!("{base}.manifest.json")))
}

/// The keys given, or those of this machine's user and system.
///
/// # Errors
/// There are none, or what is there cannot be read.
pub fn keys(given: Option<&str>) -> Result<TrustedKeys, Error> {
    let parse = |text: &str, from: &str| {
        TrustedKeys::parse(text).map_err(|error| Error::Failed(format!("{from}: {error}")))
    };
    if let Some(given) = given {
        return match fs::read_to_string(given) {
            Ok(text) => parse(&text, given),
            // Not a file: the key itself.
            Err(_) => parse(given, "--pubkey"),
        };
    }
    let own = crate::hosts::Hosts::path().map(|path| path.with_file_name("trusted-keys"));
    for path in own.into_iter().chain([PathBuf::from(SYSTEM_KEYS)]) {
        if let Ok(text) = fs::read_to_string(&path) {
            return parse(&text, &path.display().to_string());
        }
    }
    Err(Error::Usage(format!(
        "no key says whose images are to be trusted: give the minisign public key of who made the image with --pubkey, or put it into {SYSTEM_KEYS}"
    )))
}

impl Release {
    /// Reads the release of a manifest, if somebody trusted signed it.
    ///
    /// # Errors
    /// It cannot be read, or is not to be trusted.
    pub fn verified(manifest: &Path, keys: &TrustedKeys) -> Result<Self, Error> {
        let bytes = bounded(manifest)?;
        let mut signature = manifest.as_os_str().to_owned();
        signature.push(".minisig");
        let signature = PathBuf::from(signature);
        let text = String::from_utf8_lossy(&bounded(&signature)?).into_owned();
        let verified = Manifest::verified(&bytes, &text, keys).map_err(|error| {
            let cause = std::error::Error::source(&error)
                .map_or(String::new(), |cause| format!(": {cause}"));
            Error::Failed(format!("{}: {error}{cause}", manifest.display()))
        })?;
        Ok(Self {
            manifest: verified,
            folder: manifest.parent().map_or_else(PathBuf::new, Path::to_owned),
        })
    }

    /// Reads a manifest without asking who signed it: to look at, never to act on.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn unverified(manifest: &Path) -> Result<Manifest, Error> {
        Manifest::parse(&bounded(manifest)?)
            .map_err(|error| Error::Failed(format!("{}: {error}", manifest.display())))
    }

    /// A file of the release.
    ///
    /// # Errors
    /// It has none of that kind.
    pub fn file(&self, kind: ArtifactKind) -> Result<(&Artifact, PathBuf), Error> {
        let artifact = self.manifest.artifact(kind).ok_or_else(|| {
            Error::Failed(format!(
                "the release {} has no {kind:?} file",
                self.manifest.version
            ))
        })?;
        Ok((artifact, self.folder.join(&artifact.file)))
    }
}

/// Whether a file is the one that a manifest names.
///
/// # Errors
/// It is not, or cannot be read.
pub fn check_file(path: &Path, artifact: &Artifact, progress: &dyn Fn(u64)) -> Result<(), Error> {
    let doing = format!("cannot read {}", path.display());
    let mut file = File::open(path).map_err(Error::local(&doing))?;
    let size = file.metadata().map_err(Error::local(&doing))?.len();
    if size != artifact.size {
        return Err(Error::Failed(format!(
            "{} has {size} bytes, and the signed manifest says {}: get it again",
            path.display(),
            artifact.size
        )));
    }
    if digest(&mut file, progress).map_err(Error::local(&doing))? != artifact.sha256 {
        return Err(Error::Failed(format!(
            "{} is not the file that was signed: its SHA-256 digest differs; get it again",
            path.display()
        )));
    }
    Ok(())
}

/// The digest of all that can be read.
pub fn digest(from: &mut impl Read, progress: &dyn Fn(u64)) -> std::io::Result<Sha256Digest> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let count = from.read(&mut chunk)?;
        if count == 0 {
            return Ok(Sha256Digest::new(hash.finalize().into()));
        }
        hash.update(&chunk[..count]);
        progress(count as u64);
    }
}

fn bounded(path: &Path) -> Result<Vec<u8>, Error> {
    let doing = format!("cannot read {}", path.display());
    let file = File::open(path).map_err(Error::local(&doing))?;
    let mut bytes = Vec::new();
    file.take(MAX_MANIFEST_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::local(&doing))?;
    Ok(bytes)
}
