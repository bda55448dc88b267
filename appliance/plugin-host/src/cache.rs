//! Compiled code on disk, by the digest of the component it was made from.
//!
//! Compiled code is machine code: whoever can make the daemon run a file of their own owns the daemon. So each file carries a MAC
//! over the component's digest and the code, made with a key that only this program's user can read (mode 0600, in a
//! folder of mode 0700). What has no such MAC is not run but made again.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};
use types::Sha256Digest;
use wasmtime::{Engine, component::Component};

const MAC_LENGTH: usize = 32;
const KEY_LENGTH: usize = 32;
/// No component of the allowed size compiles to more.
const MAX_CODE: u64 = 512 << 20;

/// The folder of compiled code can't be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path}")]
pub struct CacheError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The folder and its key.
pub(crate) struct Cache {
    folder: PathBuf,
    key: [u8; KEY_LENGTH],
}

impl Cache {
    /// Opens the folder, or makes it.
    pub(crate) fn open(folder: &Path) -> Result<Self, CacheError> {
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| CacheError {
                doing,
                path,
                source,
            }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed("make the folder", folder))?;
        let path = folder.join("key");
        let key = match read_key(&path, folder) {
            Ok(key) => key,
            // Gone, cut short or readable to others: a new key makes all kept code void.
            Err(_) => {
                fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
                    .map_err(failed("take for ourselves the folder", folder))?;
                let key: [u8; KEY_LENGTH] = rand::random();
                write_new(folder, &path, &[&key[..]]).map_err(failed("write", &path))?;
                key
            }
        };
        Ok(Self {
            folder: folder.to_owned(),
            key,
        })
    }

    /// The component with that digest, from kept code if there is any that can be trusted, else compiled from `bytes` and kept.
    /// Failing to keep it is no error: it is compiled again next time.
    pub(crate) fn component(
        &self,
        engine: &Engine,
        digest: Sha256Digest,
        bytes: &[u8],
    ) -> wasmtime::Result<Component> {
        let path = self.folder.join(format!("{digest}.cwasm"));
        match self.kept(engine, digest, &path) {
            Ok(Some(component)) => return Ok(component),
            Ok(None) => {}
            Err(why) => {
                tracing::warn!(path = %path.display(), why, "compiled policy is made again")
            }
        }
        let component = Component::from_binary(engine, bytes)?;
        let code = component.serialize()?;
        let mac: [u8; MAC_LENGTH] = self.mac(digest, &code).finalize().into_bytes().into();
        if let Err(error) = write_new(&self.folder, &path, &[&mac[..], &code[..]]) {
            tracing::warn!(path = %path.display(), %error, "compiled policy is not kept");
        }
        Ok(component)
    }

    fn kept(
        &self,
        engine: &Engine,
        digest: Sha256Digest,
        path: &Path,
    ) -> Result<Option<Component>, String> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let mut content = Vec::new();
        file.take(MAX_CODE)
            .read_to_end(&mut content)
            .map_err(|error| error.to_string())?;
        let (mac, code) = content
            .split_at_checked(MAC_LENGTH)
            .ok_or("it is cut short")?;
        self.mac(digest, code)
            .verify_slice(mac)
            .map_err(|_| "this program did not write it as it is")?;
        #[allow(
            unsafe_code,
            reason = "the only way to load compiled code; its origin was checked"
        )]
        // SAFETY: `deserialize` asks for bytes that `Component::serialize` of this wasmtime made, unaltered. `code` is in memory, where
        // nobody changes it after the check above: its MAC was made with a key that only this program's user can read, and
        // the only place that makes MACs with it is `component`, over the very output of `serialize`. wasmtime itself
        // refuses output of another version or of other settings.
        let component = unsafe { Component::deserialize(engine, code) };
        component.map(Some).map_err(|error| format!("{error:#}"))
    }

    fn mac(&self, digest: Sha256Digest, code: &[u8]) -> Hmac<Sha256> {
        // RFC 2104 §2: a key shorter than the hash's block is padded with zeros.
        let mut block = [0_u8; 64];
        block[..KEY_LENGTH].copy_from_slice(&self.key);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        mac.update(digest.bytes());
        mac.update(code);
        mac
    }
}

/// The key, if it is a file that belongs to the owner of the folder and to nobody else.
fn read_key(path: &Path, folder: &Path) -> io::Result<[u8; KEY_LENGTH]> {
    let owner = fs::metadata(folder)?;
    let mut file = File::open(path)?;
    let of = file.metadata()?;
    let private = |mode: u32| mode & 0o077 == 0;
    if !of.is_file() || !private(of.mode()) || !private(owner.mode()) || of.uid() != owner.uid() {
        return Err(io::Error::other("others may have read it"));
    }
    let mut key = [0; KEY_LENGTH];
    file.read_exact(&mut key)?;
    Ok(key)
}

/// Writes a file of mode 0600 whole or not at all.
fn write_new(folder: &Path, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let temporary = folder.join(format!(".{:032x}", rand::random::<u128>()));
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // What is left of it is in nobody's way; the error that matters is the first.
        let _ = fs::remove_file(&temporary);
    }
    written
}
