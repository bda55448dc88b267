//! Where things are on the disk of a host.
//!
//! ```text
//! GPT ─ 1 ESP (FAT32)   EFI/BOOT/BOOTX64.EFI, EFI/Linux/ashlar-{a,b}.efi, loader/loader.conf, ashlar/host.toml
//!     ├ 2 state         no file system: two copies of one record
//!     └ 3 data          made at the first boot: XFS, or LUKS2 with XFS inside
//! ```

/// Bytes of a logical sector in an image file. On a disk with other sectors the partition table is rewritten when flashing.
pub const SECTOR_BYTES: u64 = 512;
/// Partitions begin on multiples of this, bytes.
pub const ALIGNMENT_BYTES: u64 = 1 << 20;

/// One partition of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number in the table, from 1.
    pub number: u32,
    /// Its name in the table (UEFI 2.10 §5.3.3), which is how it is recognised among those of its type.
    pub name: &'static str,
    /// Its type's GUID in the usual text form.
    pub type_guid: &'static str,
}

/// The EFI system partition.
pub const ESP: Partition = Partition {
    number: 1,
    name: "ashlar-esp",
    type_guid: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
};
/// The host's own state: who it is, what was configured, how its last update went.
pub const STATE: Partition = Partition {
    number: 2,
    name: "ashlar-state",
    type_guid: "6C0F1F1E-5B1C-4B0A-9D53-6A1E5D7A2C01",
};
/// Instances' disks, images, the daemon's state. Not in the image: made at the first boot in the room behind it.
pub const DATA: Partition = Partition {
    number: 3,
    name: "ashlar-data",
    type_guid: "6C0F1F1E-5B1C-4B0A-9D53-6A1E5D7A2C02",
};

/// Bytes of the state partition.
pub const STATE_BYTES: u64 = 8 << 20;
/// The least that a data partition is made of, bytes: XFS makes nothing smaller.
pub const MIN_DATA_BYTES: u64 = 512 << 20;

/// Label of the ESP's file system.
pub const ESP_LABEL: &str = "ASHLAR-ESP";
/// Label of a file system that brings a configuration file [`CONFIG_VOLUME_FILE`] to a host: a stick, a second virtual disk.
pub const CONFIG_VOLUME_LABEL: &str = "ASHLAR-CFG";
/// The configuration on such a volume.
pub const CONFIG_VOLUME_FILE: &str = "host.toml";

/// Label of a file system that brings the key of an encrypted data partition, in [`KEY_VOLUME_FILE`].
pub const KEY_VOLUME_LABEL: &str = "ASHLAR-KEY";
/// The key on such a volume: the file's bytes as they are.
pub const KEY_VOLUME_FILE: &str = "data.key";
/// Bytes that a key which an operator gives may have.
pub const GIVEN_KEY_BYTES: std::ops::RangeInclusive<usize> = 32..=4096;

/// The boot loader: systemd-boot, where firmware looks on a disk it knows nothing of (UEFI 2.10 §3.5.1.1).
pub const BOOT_LOADER: &str = "EFI/BOOT/BOOTX64.EFI";
/// The folder in which systemd-boot looks for unified kernel images.
pub const SLOT_FOLDER: &str = "EFI/Linux";
/// The boot loader's configuration.
pub const LOADER_CONF: &str = "loader/loader.conf";
/// The configuration written when flashing.
pub const CONFIG_FILE: &str = "ashlar/host.toml";

/// In the initramfs: the image's root, a compressed file system (SquashFS 4.0).
pub const ROOT: &str = "root.squashfs";
/// In the image's root: its first process.
pub const INIT: &str = "init";
/// In the image's root: what it is (os-release(5)).
pub const OS_RELEASE: &str = "etc/os-release";
/// In the image's root: minisign public keys that updates may be signed with, one per line.
pub const TRUSTED_KEYS: &str = "etc/ashlar/trusted-keys";
/// In the image's root: kernel modules that are loaded at every boot, one per line.
pub const MODULES: &str = "etc/ashlar/modules";
/// In the image's root: seconds since 1970 that the clock is never before.
pub const CLOCK_FLOOR: &str = "etc/ashlar/clock-floor";
/// In the image's root: the daemon, which is the first process too.
pub const DAEMON: &str = "usr/bin/ashlard";
/// In the image's root: the policies that come with it.
pub const PLUGINS: &str = "usr/share/ashlar/plugins";
