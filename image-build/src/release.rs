//! A release: all its files, and the signed manifest that names them.

use std::{
    fs::{self, File},
    io::{self, Cursor, Read, Write},
    path::{Path, PathBuf},
};

use image_format::{
    Artifact, ArtifactKind, LoaderDefault, MANIFEST_SCHEMA, Manifest, Release, Slot, SlotFile,
    layout,
};
use minisign::{SecretKey, SecretKeyBox};
use sha2::{Digest as _, Sha256};
use types::Sha256Digest;

use crate::{
    BuildError, EspFile, Ingredient, Kernel, Root, RootInputs, UkiParts, VariantFile, make_esp,
    make_uki, sbom, write_disk, write_iso,
};

/// A key that releases are signed with.
pub struct SigningKey(SecretKey);

impl SigningKey {
    /// Reads an unencrypted minisign secret key.
    ///
    /// # Errors
    /// The text is no such key.
    pub fn parse(text: &str) -> Result<Self, BuildError> {
        let failed = |error| {
            BuildError::because(
                "the signing key is no unencrypted minisign secret key",
                error,
            )
        };
        let key = SecretKeyBox::from_string(text).map_err(failed)?;
        Ok(Self(key.into_unencrypted_secret_key().map_err(failed)?))
    }

    /// The text of a new key, random.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn generate() -> Result<String, BuildError> {
        let failed = |error| BuildError::because("cannot make a signing key", error);
        let pair = minisign::KeyPair::generate_unencrypted_keypair().map_err(failed)?;
        let text = pair.sk.to_box(None).map_err(failed)?;
        Ok(text.into_string())
    }

    /// Its public half, one line.
    ///
    /// # Errors
    /// The key is damaged.
    pub fn public(&self) -> Result<String, BuildError> {
        let failed = |error| BuildError::because("the signing key has no public half", error);
        let public = minisign::PublicKey::from_secret_key(&self.0).map_err(failed)?;
        Ok(public.to_base64())
    }

    fn sign(&self, bytes: &[u8], comment: &str) -> Result<String, BuildError> {
        let signature = minisign::sign(None, &self.0, Cursor::new(bytes), Some(comment), None)
            .map_err(|error| BuildError::because("cannot sign the manifest", error))?;
        Ok(signature.into_string())
    }
}

/// Signs an EFI program: what it returns is the program with its signature in it.
pub type SignEfi = dyn Fn(&[u8]) -> Result<Vec<u8>, BuildError> + Send + Sync;

/// What a release is built from.
pub struct Inputs<'a> {
    /// The variant.
    pub variant: &'a VariantFile,
    /// The kernel.
    pub kernel: &'a Kernel,
    /// What goes into the root.
    pub root: RootInputs<'a>,
    /// systemd's stub, `linuxx64.efi.stub`.
    pub stub: PathBuf,
    /// systemd-boot, `systemd-bootx64.efi`.
    pub boot_loader: PathBuf,
    /// Added to the variant's command line.
    pub more_command_line: String,
    /// What the image says of itself.
    pub release: Release,
    /// Once good, no image below this security version is taken.
    pub minimum_security_version: u32,
    /// The time the inputs are of, seconds since 1970.
    pub source_date_epoch: u64,
    /// How hard to compress, 1–19.
    pub level: i32,
    /// Whether to make more than a host needs to update itself: the disk image and what the network boots.
    pub everything: bool,
    /// What of whom is in it.
    pub ingredients: Vec<Ingredient>,
    /// Signs an EFI program for Secure Boot, if that is wanted.
    pub sign: Option<&'a SignEfi>,
}

/// What was built.
pub struct Built {
    /// The manifest's file.
    pub manifest_file: PathBuf,
    /// The manifest.
    pub manifest: Manifest,
    /// Files in the image's root.
    pub files_in_root: usize,
    /// Bytes of those, not compressed.
    pub root_bytes: u64,
}

/// Builds a release into the folder `out`. `change` may add or replace files of the root before it is packed.
///
/// # Errors
/// An input cannot be read, a file cannot be written, or something does not fit.
pub fn build(
    inputs: &Inputs<'_>,
    key: &SigningKey,
    out: &Path,
    change: impl FnOnce(&mut Root),
) -> Result<Built, BuildError> {
    fs::create_dir_all(out).map_err(BuildError::io("make the folder", out))?;
    let read = |path: &Path| fs::read(path).map_err(BuildError::io("read", path));
    let mut root = Root::new(&inputs.root)?;
    change(&mut root);
    let initramfs = root.initramfs(
        &inputs.root.first,
        &inputs.root.library_folders,
        inputs.kernel,
        inputs.level,
    )?;
    let kernel = read(&inputs.kernel.image)?;
    let os_release = inputs.release.os_release();
    let command_line = format!(
        "{} {}",
        inputs.variant.command_line, inputs.more_command_line
    );
    let uki = make_uki(
        &read(&inputs.stub)?,
        &UkiParts {
            os_release: &os_release,
            command_line: command_line.trim(),
            uname: &inputs.kernel.version,
            kernel: &kernel,
            initramfs: &initramfs,
        },
    )?;
    let uki = match inputs.sign {
        Some(sign) => sign(&uki)?,
        None => uki,
    };
    let mut manifest = Manifest {
        schema: MANIFEST_SCHEMA,
        version: inputs.release.version.clone(),
        variant: inputs.release.variant.clone(),
        security_version: inputs.release.security_version,
        minimum_security_version: inputs.minimum_security_version,
        state_schema: inputs.release.state_schema,
        source_date_epoch: inputs.source_date_epoch,
        kernel: inputs.kernel.version.clone(),
        artifacts: Vec::new(),
    };
    let base = manifest.base_name();
    let mut files = Files {
        out,
        artifacts: Vec::new(),
    };
    files.write(ArtifactKind::Uki, &format!("{base}.efi"), &uki)?;
    let daemon = read(&inputs.root.daemon)?;
    let packed = compress(
        &mut &daemon[..],
        inputs.level,
        daemon.len() as u64,
        Vec::new(),
    )?;
    let version = &inputs.release.version;
    files.write_packed(
        ArtifactKind::Daemon,
        &format!("ashlard-{version}.zst"),
        &packed,
        &daemon,
    )?;
    let bill = sbom("ashlar", version, &inputs.ingredients)?;
    files.write(ArtifactKind::Sbom, &format!("{base}.cdx.json"), &bill)?;
    if inputs.everything {
        let loader = read(&inputs.boot_loader)?;
        let loader = match inputs.sign {
            Some(sign) => sign(&loader)?,
            None => loader,
        };
        files.write(
            ArtifactKind::Iso,
            &format!("{base}.iso"),
            &make_iso(&uki, &base)?,
        )?;
        let disk = files.path(&format!("{base}.img"));
        make_disk(inputs, &uki, &loader, &disk, &base)?;
        files.compress_file(
            ArtifactKind::Disk,
            &format!("{base}.img.zst"),
            &disk,
            inputs.level,
        )?;
        fs::remove_file(&disk).map_err(BuildError::io("remove", &disk))?;
        let pxe = format!("{base}.pxe");
        let folder = files.path(&pxe);
        fs::create_dir_all(&folder).map_err(BuildError::io("make the folder", &folder))?;
        files.write(ArtifactKind::Kernel, &format!("{pxe}/vmlinuz"), &kernel)?;
        files.write(ArtifactKind::Initrd, &format!("{pxe}/initrd"), &initramfs)?;
        let script = format!(
            "#!ipxe\nkernel vmlinuz initrd=initrd {} ${{ashlar}}\ninitrd initrd\nboot\n",
            command_line.trim()
        );
        files.write(
            ArtifactKind::Ipxe,
            &format!("{pxe}/ashlar.ipxe"),
            script.as_bytes(),
        )?;
    }
    manifest.artifacts = files.artifacts;
    let bytes = manifest
        .to_bytes()
        .map_err(|error| BuildError::because("cannot write the manifest", error))?;
    let manifest_file = out.join(format!("{base}.manifest.json"));
    let comment = format!("timestamp:{} {base}", inputs.source_date_epoch);
    fs::write(&manifest_file, &bytes).map_err(BuildError::io("write", &manifest_file))?;
    let signature = out.join(format!("{base}.manifest.json.minisig"));
    fs::write(&signature, key.sign(&bytes, &comment)?)
        .map_err(BuildError::io("write", &signature))?;
    let public = out.join(format!("{base}.pub"));
    fs::write(&public, format!("{}\n", key.public()?)).map_err(BuildError::io("write", &public))?;
    Ok(Built {
        manifest_file,
        manifest,
        files_in_root: root.archive.files().count(),
        root_bytes: root
            .archive
            .files()
            .map(|(_, data)| data.len() as u64)
            .sum(),
    })
}

/// A volume that boots the image at once: there is nothing to choose on virtual media.
fn make_iso(uki: &[u8], base: &str) -> Result<Vec<u8>, BuildError> {
    // Room for the file system itself beside the image, and enough clusters for FAT32.
    let size = ((uki.len() as u64) + (8 << 20))
        .next_multiple_of(1 << 20)
        .max(64 << 20);
    let file = EspFile {
        path: layout::BOOT_LOADER,
        data: uki,
    };
    let esp = make_esp(size, volume_id(base), &[file])?;
    let mut iso = Vec::new();
    write_iso(&mut iso, &esp)?;
    Ok(iso)
}

/// A serial number for a file system, the same for the same release.
fn volume_id(base: &str) -> u32 {
    let digest = Sha256::digest(base);
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

fn make_disk(
    inputs: &Inputs<'_>,
    uki: &[u8],
    loader: &[u8],
    disk: &Path,
    base: &str,
) -> Result<(), BuildError> {
    let slot = format!("{}/{}", layout::SLOT_FOLDER, SlotFile::good(Slot::A));
    let loader_conf = LoaderDefault::Good(Slot::A).loader_conf();
    let esp = make_esp(
        inputs.variant.esp_mib << 20,
        volume_id(base),
        &[
            EspFile {
                path: layout::BOOT_LOADER,
                data: loader,
            },
            EspFile {
                path: layout::LOADER_CONF,
                data: loader_conf.as_bytes(),
            },
            EspFile {
                path: &slot,
                data: uki,
            },
        ],
    )?;
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(disk)
        .map_err(BuildError::io("make", disk))?;
    write_disk(&mut file, &esp, base).map(drop)
}

/// The files of a release as they are written.
struct Files<'a> {
    out: &'a Path,
    artifacts: Vec<Artifact>,
}

impl Files<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    fn write(&mut self, kind: ArtifactKind, name: &str, data: &[u8]) -> Result<(), BuildError> {
        let path = self.path(name);
        fs::write(&path, data).map_err(BuildError::io("write", &path))?;
        self.artifacts.push(artifact(kind, name, data));
        Ok(())
    }

    fn write_packed(
        &mut self,
        kind: ArtifactKind,
        name: &str,
        packed: &[u8],
        raw: &[u8],
    ) -> Result<(), BuildError> {
        self.write(kind, name, packed)?;
        if let Some(artifact) = self.artifacts.last_mut() {
            artifact.raw_size = Some(raw.len() as u64);
            artifact.raw_sha256 = Some(Sha256Digest::of(raw));
        }
        Ok(())
    }

    /// Compresses a file that is too large for memory.
    fn compress_file(
        &mut self,
        kind: ArtifactKind,
        name: &str,
        raw: &Path,
        level: i32,
    ) -> Result<(), BuildError> {
        let path = self.path(name);
        let mut from = Hashing::new(File::open(raw).map_err(BuildError::io("read", raw))?);
        let size = fs::metadata(raw)
            .map_err(BuildError::io("read", raw))?
            .len();
        let to = File::create(&path).map_err(BuildError::io("write", &path))?;
        let to = compress(&mut from, level, size, Hashing::new(to))?;
        self.artifacts.push(Artifact {
            kind,
            file: name.to_owned(),
            size: to.count,
            sha256: to.digest(),
            raw_size: Some(size),
            raw_sha256: Some(from.digest()),
        });
        Ok(())
    }
}

fn artifact(kind: ArtifactKind, name: &str, data: &[u8]) -> Artifact {
    Artifact {
        kind,
        file: name.to_owned(),
        size: data.len() as u64,
        sha256: Sha256Digest::of(data),
        raw_size: None,
        raw_sha256: None,
    }
}

/// One zstd frame with the content's size and checksum in it.
fn compress<W: Write>(from: &mut impl Read, level: i32, size: u64, to: W) -> Result<W, BuildError> {
    let pack = || -> io::Result<W> {
        let mut encoder = zstd::Encoder::new(to, level)?;
        encoder.include_checksum(true)?;
        encoder.set_pledged_src_size(Some(size))?;
        encoder.include_contentsize(true)?;
        io::copy(from, &mut encoder)?;
        encoder.finish()
    };
    pack().map_err(|error| BuildError::because("cannot compress", error))
}

/// What passes through is counted and hashed.
struct Hashing<T> {
    inner: T,
    hash: Sha256,
    count: u64,
}

impl<T> Hashing<T> {
    fn new(inner: T) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            count: 0,
        }
    }

    fn digest(self) -> Sha256Digest {
        Sha256Digest::new(self.hash.finalize().into())
    }

    fn passed(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.count += bytes.len() as u64;
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(data)?;
        self.passed(&data[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, data: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(data)?;
        let read = &data[..count];
        self.hash.update(read);
        self.count += count as u64;
        Ok(count)
    }
}
