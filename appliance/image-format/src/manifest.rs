//! The manifest of a release: what it is, which files belong to it, and from where a host may come.

use serde::{Deserialize, Serialize};
use types::Sha256Digest;

use crate::{Release, SignatureError, TrustedKeys, Variant, release::is_version};

/// The one schema of manifests there is.
pub const MANIFEST_SCHEMA: u32 = 1;
/// The largest manifest that is read, bytes.
pub const MAX_MANIFEST_BYTES: usize = 64 << 10;
/// The largest file that may belong to a release, bytes.
const MAX_ARTIFACT_BYTES: u64 = 8 << 30;

/// What a release says of itself. Written as JSON; signed as those bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always [`MANIFEST_SCHEMA`].
    pub schema: u32,
    /// Version of the product.
    pub version: String,
    /// Which hardware it is for.
    pub variant: Variant,
    /// How it counts against going back (see [`Release::security_version`]).
    pub security_version: u32,
    /// Once this release was found good, the host takes none with a security version below this one.
    pub minimum_security_version: u32,
    /// Schema of the daemon's state in it.
    pub state_schema: u64,
    /// The time its inputs are of, seconds since 1970 (SOURCE_DATE_EPOCH); not when it was built.
    pub source_date_epoch: u64,
    /// Version of the kernel in it.
    pub kernel: String,
    /// Its files.
    pub artifacts: Vec<Artifact>,
}

/// What a file of a release is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArtifactKind {
    /// The disk image, compressed with zstd: what is flashed.
    Disk,
    /// The unified kernel image: what a slot holds and an update streams.
    Uki,
    /// For virtual media.
    Iso,
    /// Kernel of the network boot set.
    Kernel,
    /// Initramfs of the network boot set.
    Initrd,
    /// Script of the network boot set.
    Ipxe,
    /// The daemon alone, compressed with zstd: for an update that keeps guests running.
    Daemon,
    /// Software bill of materials (CycloneDX).
    Sbom,
}

/// One file of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// What it is.
    pub kind: ArtifactKind,
    /// Its path, relative to the manifest's folder: no `..`, no leading `/`.
    pub file: String,
    /// Its size, bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Sha256Digest,
    /// If it is compressed: its size when it is not, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_size: Option<u64>,
    /// If it is compressed: its digest when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_sha256: Option<Sha256Digest>,
}

/// A manifest that cannot be trusted or makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is too long.
    #[error("the manifest has more than {MAX_MANIFEST_BYTES} bytes")]
    TooLong,
    /// Its signature does not hold.
    #[error("the manifest is not to be trusted")]
    Signature(#[from] SignatureError),
    /// It is not JSON of the right form.
    #[error("the manifest cannot be read")]
    Json(#[from] serde_json::Error),
    /// It is of a schema this program does not know.
    #[error(
        "the manifest has schema {0}, and this version knows {MANIFEST_SCHEMA}: update in smaller steps"
    )]
    Schema(u32),
    /// A value cannot be.
    #[error("the manifest's {0} is not possible")]
    Value(&'static str),
}

impl Manifest {
    /// Reads a manifest whose signature holds. Nothing is parsed before it does.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn verified(
        bytes: &[u8],
        signature: &str,
        keys: &TrustedKeys,
    ) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLong);
        }
        keys.verify(bytes, signature)?;
        Self::parse(bytes)
    }

    /// Reads a manifest without asking who signed it: to look at one, never to act on it.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLong);
        }
        let manifest: Self = serde_json::from_slice(bytes)?;
        if manifest.schema != MANIFEST_SCHEMA {
            return Err(ManifestError::Schema(manifest.schema));
        }
        if !is_version(&manifest.version) {
            return Err(ManifestError::Value("version"));
        }
        if manifest.minimum_security_version > manifest.security_version {
            return Err(ManifestError::Value("minimum security version"));
        }
        for artifact in &manifest.artifacts {
            let size = artifact
                .raw_size
                .unwrap_or(artifact.size)
                .max(artifact.size);
            if size > MAX_ARTIFACT_BYTES {
                return Err(ManifestError::Value("size of a file"));
            }
            if artifact.raw_size.is_some() != artifact.raw_sha256.is_some() {
                return Err(ManifestError::Value("uncompressed digest of a file"));
            }
            if !is_plain_path(&artifact.file) {
                return Err(ManifestError::Value("name of a file"));
            }
        }
        Ok(manifest)
    }

    /// As its bytes: what is signed.
    ///
    /// # Errors
    /// None that can happen with these types; serde's in name.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ManifestError> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The file of that kind.
    #[must_use]
    pub fn artifact(&self, kind: ArtifactKind) -> Option<&Artifact> {
        self.artifacts.iter().find(|artifact| artifact.kind == kind)
    }

    /// What the image says of itself.
    #[must_use]
    pub fn release(&self) -> Release {
        Release {
            version: self.version.clone(),
            variant: self.variant.clone(),
            security_version: self.security_version,
            state_schema: self.state_schema,
        }
    }

    /// What the release's files are called before their ending: `ashlar-0.1.0-metal`.
    #[must_use]
    pub fn base_name(&self) -> String {
        format!("ashlar-{}-{}", self.version, self.variant)
    }
}

fn is_plain_path(path: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-+~".contains(&b))
    };
    path.len() <= 256 && path.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minisign::KeyPair;
    use std::io::Cursor;

    fn manifest() -> Manifest {
        Manifest {
            schema: MANIFEST_SCHEMA,
            version: "0.1.0".into(),
            variant: "lab".parse().unwrap(),
            security_version: 2,
            minimum_security_version: 1,
            state_schema: 1,
            source_date_epoch: 1_700_000_000,
            kernel: "6.12.1".into(),
            artifacts: vec![Artifact {
                kind: ArtifactKind::Uki,
                file: "ashlar-0.1.0-lab.efi".into(),
                size: 5,
                sha256: Sha256Digest::of(b"image"),
                raw_size: None,
                raw_sha256: None,
            }],
        }
    }

    #[test]
    fn a_signed_manifest_is_read_and_a_changed_one_is_not() {
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        let keys = TrustedKeys::parse(&pair.pk.to_base64()).unwrap();
        let bytes = manifest().to_bytes().unwrap();
        let signature = minisign::sign(None, &pair.sk, Cursor::new(&bytes), None, None)
            .unwrap()
            .into_string();
        assert_eq!(
            Manifest::verified(&bytes, &signature, &keys).unwrap(),
            manifest()
        );
        for at in (0..bytes.len()).step_by(7) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(
                matches!(
                    Manifest::verified(&changed, &signature, &keys),
                    Err(ManifestError::Signature(_))
                ),
                "byte {at}"
            );
        }
    }

    #[test]
    fn impossible_values_are_named() {
        type Change = fn(&mut Manifest);
        let changes: [(Change, &str); 5] = [
            (|m| m.schema = 9, "schema 9"),
            (|m| m.version = "../1".into(), "version"),
            (
                |m| m.minimum_security_version = 3,
                "minimum security version",
            ),
            (
                |m| m.artifacts[0].file = "../../etc/passwd".into(),
                "name of a file",
            ),
            (|m| m.artifacts[0].size = u64::MAX, "size of a file"),
        ];
        for (change, named) in changes {
            let mut manifest = manifest();
            change(&mut manifest);
            let bytes = manifest.to_bytes().unwrap();
            let error = Manifest::parse(&bytes).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        assert!(matches!(
            Manifest::parse(&vec![b' '; MAX_MANIFEST_BYTES + 1]),
            Err(ManifestError::TooLong)
        ));
    }
}
