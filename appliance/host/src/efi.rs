//! What the boot loader left in EFI variables (systemd, "The Boot Loader Interface"), and whether Secure Boot is in force.

use std::{fs, path::Path};

const FOLDER: &str = "/sys/firmware/efi/efivars";
/// The boot loader's vendor GUID.
const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// The GUID of variables that the specification itself defines (UEFI 2.10 §3.3).
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// How this boot came about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootInfo {
    /// The file of the image that was started, as the boot loader lists it: `ashlar-b+2-1.efi`.
    pub entry: Option<String>,
    /// PARTUUID of the partition the boot loader is on, lower case.
    pub partition: Option<String>,
    /// Whether Secure Boot is in force; unknown without EFI.
    pub secure_boot: Option<bool>,
}

/// Reads what there is; nothing where the machine was started otherwise.
#[must_use]
pub fn boot_info() -> BootInfo {
    let folder = Path::new(FOLDER);
    BootInfo {
        entry: text(folder, "LoaderEntrySelected"),
        partition: text(folder, "LoaderDevicePartUUID").map(|text| text.to_ascii_lowercase()),
        secure_boot: value(folder, "SecureBoot", GLOBAL).map(|bytes| bytes.first() == Some(&1)),
    }
}

/// A variable's value: the file begins with four bytes of attributes.
fn value(folder: &Path, name: &str, vendor: &str) -> Option<Vec<u8>> {
    let bytes = fs::read(folder.join(format!("{name}-{vendor}"))).ok()?;
    bytes.get(4..).map(<[u8]>::to_vec)
}

/// A text of the boot loader: UTF-16, ended by a zero.
fn text(folder: &Path, name: &str) -> Option<String> {
    let bytes = value(folder, name, LOADER)?;
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    String::from_utf16(&units).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_up_to_their_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = vec![6, 0, 0, 0];
        bytes.extend(
            "ashlar-a.efi\0junk"
                .encode_utf16()
                .flat_map(u16::to_le_bytes),
        );
        fs::write(
            folder.path().join(format!("LoaderEntrySelected-{LOADER}")),
            bytes,
        )
        .unwrap();
        assert_eq!(
            text(folder.path(), "LoaderEntrySelected").as_deref(),
            Some("ashlar-a.efi")
        );
        assert_eq!(text(folder.path(), "LoaderInfo"), None);
        fs::write(
            folder.path().join(format!("SecureBoot-{GLOBAL}")),
            [6, 0, 0, 0, 1],
        )
        .unwrap();
        assert_eq!(value(folder.path(), "SecureBoot", GLOBAL), Some(vec![1]));
    }
}
