//! The machine under the daemon, where its first process is ours.

use boot_disk::{LiveDaemon, UpdateRecord};
use image_format::Slot;
use std::{collections::BTreeMap, path::PathBuf};

/// How the machine is.
#[derive(Clone, Debug, PartialEq)]
pub struct HostStatus {
    /// The host's id.
    pub host_id: String,
    /// Version of the running image.
    pub version: String,
    /// Which hardware the image is for.
    pub variant: String,
    /// The host's name.
    pub hostname: String,
    /// The slot that was booted, if it was one.
    pub booted: Option<Slot>,
    /// The slots that hold an image.
    pub slots: Vec<HostSlot>,
    /// The newest update.
    pub update: Option<UpdateRecord>,
    /// The daemon that runs instead of the image's.
    pub live: Option<LiveDaemon>,
    /// What is wrong.
    pub faults: Vec<HostFault>,
    /// Addresses by which the host can be reached.
    pub addresses: Vec<String>,
    /// SHA-256 digest of the host's certificate, `sha256:…`.
    pub certificate_sha256: String,
    /// No image below this security version is taken.
    pub security_floor: u32,
    /// Where the configuration in force came from.
    pub configuration_source: String,
    /// The device of the data partition.
    pub data: Option<PathBuf>,
    /// Whether Secure Boot is in force, if known.
    pub secure_boot: Option<bool>,
    /// What was measured at boot: register of the TPM → value, hexadecimal.
    pub measurements: BTreeMap<u8, String>,
    /// Boots so far.
    pub boots: u64,
    /// Memory in use on the whole machine, KiB.
    pub memory_used_kib: u64,
}

/// A slot that holds an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSlot {
    /// Which.
    pub slot: Slot,
    /// Version of its image, if it can be read.
    pub version: Option<String>,
    /// `good`, `trial` or `bad`.
    pub state: String,
    /// Boots that are left to it, if it is on trial.
    pub tries_left: Option<u32>,
}

/// One thing that does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFault {
    /// What.
    pub what: String,
    /// What is wrong with it.
    pub message: String,
    /// What to do about it.
    pub next_step: String,
}

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConfiguration {
    /// Where it came from.
    pub source: String,
    /// TOML; none where the defaults are in force.
    pub text: Option<String>,
    /// Whether another one comes into force with the next boot.
    pub pending: bool,
}

/// An update that is asked for.
#[derive(Clone, Debug)]
pub struct NewUpdate {
    /// The release's manifest, as it was signed.
    pub manifest: Vec<u8>,
    /// Its signature.
    pub signature: String,
    /// Where the host fetches the release's file; without one the caller sends it.
    pub url: Option<String>,
    /// Whether instances are stopped for it (and started again), or must have been stopped by the operator.
    pub instances: boot_disk::InstancesPolicy,
    /// Boots that the new image gets to be found good, 1–9.
    pub tries: u32,
    /// Only the daemon, without a reboot.
    pub live: bool,
    /// Whether the host reboots into it by itself.
    pub reboot: bool,
}

/// Where an update is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateState {
    /// The file is expected or arriving.
    Receiving,
    /// The file is there, whole; the host still runs what it ran.
    Staged,
    /// The host goes down for it, or the daemon is being replaced.
    Applying,
    /// The new image runs, and has to be found good.
    Trial,
    /// It is good.
    Good,
    /// It is not; the host runs what it ran before.
    Failed,
}

/// An update as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateStatus {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub state: UpdateState,
    /// Version it comes from.
    pub from: String,
    /// Version it goes to.
    pub to: String,
    /// The slot it goes to; none when only the daemon is replaced.
    pub slot: Option<Slot>,
    /// Name of the file that is expected.
    pub file: String,
    /// Bytes of it that are there.
    pub bytes_done: u64,
    /// Bytes it has.
    pub bytes_total: u64,
    /// Why it failed, or what it waits for.
    pub reason: Option<String>,
}
