//! The machine under the daemon: its slots, updates and configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The machine, as its first process knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostSystem {
    /// The host's id.
    pub host_id: String,
    /// Version of the running image.
    pub version: String,
    /// Which hardware the image is for.
    pub variant: String,
    /// The host's name.
    pub hostname: String,
    /// The slot that was booted; none when booted from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booted_slot: Option<String>,
    /// The slots that hold an image.
    pub slots: Vec<HostSlot>,
    /// The newest update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<HostUpdate>,
    /// Version of the daemon that runs instead of the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_daemon: Option<String>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Whether Secure Boot is in force, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<bool>,
    /// What was measured at boot: register of the TPM → value, hexadecimal. Empty without a TPM.
    pub measurements: BTreeMap<u8, String>,
    /// Boots so far.
    pub boots: u64,
    /// Memory in use on the whole machine that cannot be given back, KiB; what the kernel and the firmware keep included.
    pub memory_used_kib: u64,
}

/// A slot that holds an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostSlot {
    /// `A` or `B`.
    pub slot: String,
    /// Version of its image, if it can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `good`, `trial` or `bad`.
    pub state: String,
    /// Boots that are left to it, if it is on trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tries_left: Option<u32>,
}

/// One thing that does not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostFault {
    /// What.
    pub what: String,
    /// What is wrong with it.
    pub message: String,
    /// What to do about it.
    pub next_step: String,
}

/// Asks for an update of the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewHostUpdate {
    /// The release's manifest: the text of its file, exactly.
    pub manifest: String,
    /// Its signature: the text of the `.minisig` file.
    pub signature: String,
    /// Where the host fetches the release's file (http or https). Without one, send it to `/v1/host/updates/{id}/image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// `stop`: instances are stopped, and started again afterwards. `drained`: refused while any runs.
    #[serde(default = "stop")]
    pub instances: String,
    /// Boots that the new image gets to be found good, 1–9.
    #[serde(default = "three")]
    #[schema(minimum = 1, maximum = 9)]
    pub tries: u32,
    /// Replace the daemon alone, without a reboot; guests go on.
    #[serde(default)]
    pub live: bool,
    /// Whether the host reboots into it as soon as it is staged.
    #[serde(default = "yes")]
    pub reboot: bool,
}

fn stop() -> String {
    "stop".to_owned()
}

fn three() -> u32 {
    3
}

fn yes() -> bool {
    true
}

/// An update of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostUpdate {
    /// Its id.
    pub id: String,
    /// `Receiving`, `Staged`, `Applying`, `Trial`, `Good` or `Failed`.
    pub state: String,
    /// Version it comes from.
    pub from: String,
    /// Version it goes to.
    pub to: String,
    /// The slot it goes to; none when only the daemon is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// Name of the release's file that is expected.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// Bytes of it that are there.
    #[serde(default)]
    pub bytes_done: u64,
    /// Bytes it has.
    #[serde(default)]
    pub bytes_total: u64,
    /// Why it failed, or what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The host's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostConfiguration {
    /// Where it came from.
    pub source: String,
    /// TOML; none where the defaults are in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Whether another one comes into force with the next boot.
    #[serde(default)]
    pub pending: bool,
}

/// Uses a configuration from the next boot on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PushHostConfiguration {
    /// TOML.
    pub text: String,
}

/// Opens an encrypted data partition.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnlockHost {
    /// The key: 32 to 4096 bytes, hexadecimal.
    pub key: String,
}

/// Enrols a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Enroll {
    /// The one-time token from the host's screen.
    pub token: String,
}

/// What an enrolled client talks with from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Enrolled {
    /// The bearer token.
    pub api_token: String,
}
