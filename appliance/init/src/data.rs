//! The data partition at boot, and the key it is opened with.

use std::path::Path;

use boot_disk::{
    DataKey, DataRecord, DataRequest, DataSource, Disk, DiskError, find_data, mount_data,
};
use host::modules::Modules;
use host_config::{DataDisk, Encryption};
use image_format::layout;
use tpm::{Blob, Pcrs, Tpm};

use crate::{DATA, Fault, boot::Machine, config};

/// Bytes of a key that the host makes.
const KEY_BYTES: usize = 64;
/// What the kernel encrypts with; no device asks for it.
const MODULES: [&str; 3] = ["dm_mod", "dm_crypt", "xts"];

/// The key of a data partition.
enum Key {
    /// None: it is not encrypted.
    None,
    /// Made by the host; the blob from which the TPM gives it out.
    Sealed(Vec<u8>, String),
    /// Given by an operator.
    Given(Vec<u8>),
}

impl Machine {
    /// Finds or makes the data partition and mounts it; why not is a fault. `given` is a key that an operator gave just now.
    pub(crate) fn open_data(&mut self, disks: &[Disk], given: Option<&[u8]>, tell: &dyn Fn(&str)) {
        let storage = &self.chosen.config.storage;
        let claimed = self.records.record().data.clone();
        let request = DataRequest {
            boot_disk: self.boot_disk.as_ref().map(|boot| boot.disk.path.clone()),
            claimed: claimed.as_ref().map(|data| data.partuuid.clone()),
            named: match &storage.data {
                DataDisk::Auto => None,
                DataDisk::Named(name) => Some(name.clone()),
            },
            erase: storage.erase,
        };
        let encryption = storage.encryption;
        let on_volume = || {
            let not = request.boot_disk.as_deref();
            let (label, file) = (layout::KEY_VOLUME_LABEL, layout::KEY_VOLUME_FILE);
            config::on_volume(disks, not, label, file, *layout::GIVEN_KEY_BYTES.end())
        };
        let given = || given.map(<[u8]>::to_vec).or_else(on_volume);
        let open = |modules: Option<&mut Modules>| -> Result<(DataSource, Option<String>), Fault> {
            let source = find_data(disks, &request).map_err(|error| Fault::from(&error))?;
            if source.new {
                let path = source.partition.path.display();
                tell(&format!("making the data partition {path}"));
            }
            let key = key_of(claimed.as_ref(), &source, encryption, given)?;
            if !matches!(key, Key::None) {
                load_modules(modules)?;
            }
            let opener = match &key {
                Key::None => None,
                Key::Sealed(key, _) => Some(DataKey::Random(key)),
                Key::Given(key) => Some(DataKey::Given(key)),
            };
            mount_data(&source, Path::new(DATA), opener).map_err(|error| Fault::from(&error))?;
            let sealed = match key {
                Key::Sealed(_, blob) => Some(blob),
                Key::None | Key::Given(_) => None,
            };
            Ok((source, sealed))
        };
        match open(self.modules.as_mut()) {
            Ok((source, sealed)) => {
                self.faults.clear("data");
                self.data = Some(source.partition.path.clone());
                let record = DataRecord {
                    partuuid: source.partition.partuuid,
                    sealed_key: sealed,
                    unknown: claimed.map(|data| data.unknown).unwrap_or_default(),
                };
                self.records_beside(&source.partition.path);
                if self.records.record().data.as_ref() != Some(&record) {
                    self.keep("remember the data partition", |host| {
                        host.data = Some(record)
                    });
                }
            }
            Err(mut fault) => {
                fault.what = "data".to_owned();
                self.faults.set(fault);
            }
        }
    }

    /// Opens the data partition with a key that an operator gave.
    ///
    /// # Errors
    /// It is open already, the key is too short or too long, or the fault that is left.
    pub(crate) fn unlock_data(&mut self, key: &[u8]) -> Result<(), Fault> {
        if self.data.is_some() {
            return Err(Fault::new(
                "data",
                "the data partition is open already",
                "There is nothing to unlock.",
            ));
        }
        check_length(key)?;
        self.open_data(&Disk::all(), Some(key), &|_| {});
        let left = self.faults.all().iter().find(|fault| fault.what == "data");
        left.cloned().map_or(Ok(()), Err)
    }
}

fn load_modules(modules: Option<&mut Modules>) -> Result<(), Fault> {
    let Some(modules) = modules else {
        return Ok(());
    };
    let failed = MODULES.iter().find_map(|name| modules.load(name).err());
    failed.map_or(Ok(()), |error| {
        Err(Fault::because(
            "data",
            &error,
            "Use an image with these modules, or a data partition without encryption.",
        ))
    })
}

fn check_length(key: &[u8]) -> Result<(), Fault> {
    let possible = layout::GIVEN_KEY_BYTES;
    if possible.contains(&key.len()) {
        return Ok(());
    }
    Err(Fault::new(
        "data",
        format!(
            "the key has {} bytes: from {} to {} are possible",
            key.len(),
            possible.start(),
            possible.end()
        ),
        "Make one with `openssl rand -out data.key 64`, and keep it where the host is not.",
    ))
}

/// The key of the data partition: as it was made, or, where it is new, as the configuration wants it.
fn key_of(
    claimed: Option<&DataRecord>,
    source: &DataSource,
    encryption: Encryption,
    given: impl FnOnce() -> Option<Vec<u8>>,
) -> Result<Key, Fault> {
    let sealed = claimed
        .and_then(|data| data.sealed_key.clone())
        .filter(|_| !source.new);
    if let Some(sealed) = sealed {
        let bytes = hex::decode(&sealed).unwrap_or_default();
        let unsealed = Blob::from_bytes(&bytes).and_then(|blob| Tpm::open()?.unseal(&blob));
        let key = unsealed.map_err(|error| {
            Fault::because("data", &error, "If the machine's TPM, its firmware settings or the Secure Boot keys were changed, change them back. Otherwise reset the host's state: it then begins with an empty data partition.")
        })?;
        return Ok(Key::Sealed(key, sealed));
    }
    let encrypted = !source.new
        && source
            .is_encrypted()
            .map_err(|error: DiskError| Fault::from(&error))?;
    if encrypted || (source.new && encryption == Encryption::Key) {
        let key = given().ok_or_else(|| {
            Fault::new(
                "data",
                format!("the data partition {} is locked, and nobody gave its key", source.partition.path.display()),
                &format!(
                    "Give it: `ashlar host unlock --key-file FILE`, or connect a volume labelled {} with the file {} and press r.",
                    layout::KEY_VOLUME_LABEL,
                    layout::KEY_VOLUME_FILE
                ),
            )
        })?;
        check_length(&key)?;
        return Ok(Key::Given(key));
    }
    if source.new && encryption == Encryption::Tpm {
        let key: [u8; KEY_BYTES] = rand::random();
        let blob = Tpm::open().and_then(|mut tpm| tpm.seal(&key, Pcrs::DEFAULT)).map_err(|error| {
            Fault::because("data", &error, "Turn the TPM on in the firmware, or set `storage.encryption` to \"none\" or \"key\" in the configuration.")
        })?;
        return Ok(Key::Sealed(key.to_vec(), hex::encode(blob.to_bytes())));
    }
    Ok(Key::None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use boot_disk::Partition;

    fn source(folder: &Path, beginning: &[u8], new: bool) -> DataSource {
        let path = folder.join("partition");
        std::fs::write(&path, beginning).unwrap();
        DataSource {
            partition: Partition {
                number: 3,
                path,
                name: layout::DATA.name.to_owned(),
                type_guid: layout::DATA.type_guid.to_owned(),
                partuuid: String::new(),
                start: 0,
                size: 0,
            },
            new,
        }
    }

    #[test]
    fn what_was_made_counts_and_not_what_is_configured_since() {
        let folder = tempfile::tempdir().unwrap();
        let given = || Some(vec![1; 64]);
        let locked = source(folder.path(), b"LUKS\xba\xbe\0\x02", false);
        for encryption in [Encryption::None, Encryption::Tpm, Encryption::Key] {
            let key = key_of(None, &locked, encryption, given);
            assert!(matches!(key, Ok(Key::Given(_))));
        }
        let open = source(folder.path(), b"XFSB", false);
        for encryption in [Encryption::None, Encryption::Tpm, Encryption::Key] {
            assert!(matches!(
                key_of(None, &open, encryption, given),
                Ok(Key::None)
            ));
        }
    }

    #[test]
    fn a_missing_or_short_key_is_a_fault_that_says_how_to_give_it() {
        let folder = tempfile::tempdir().unwrap();
        let new = source(folder.path(), b"", true);
        let Err(fault) = key_of(None, &new, Encryption::Key, || None) else {
            panic!("no key was given");
        };
        assert!(fault.message.contains("locked"), "{fault:?}");
        assert!(fault.next_step.contains("ashlar host unlock"), "{fault:?}");
        let Err(fault) = key_of(None, &new, Encryption::Key, || Some(vec![0; 31])) else {
            panic!("the key is too short");
        };
        assert!(fault.message.contains("31 bytes"), "{fault:?}");
        assert!(matches!(
            key_of(None, &new, Encryption::None, || None),
            Ok(Key::None)
        ));
    }
}
