//! What a host knows of itself, apart from its instances.
//!
//! Fields that a newer version wrote and this one does not know are kept, so that a host that goes back and forth between its
//! slots loses nothing.

use std::collections::BTreeMap;

use image_format::Slot;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use types::{Sha256Digest, Timestamp};

type Unknown = BTreeMap<String, Value>;

/// The record of a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostRecord {
    /// Who the host is; none before its first boot.
    pub identity: Option<Identity>,
    /// How it was configured.
    pub configuration: Configuration,
    /// The newest update and what became of it.
    pub update: Option<UpdateRecord>,
    /// No image below this security version is taken.
    pub security_floor: u32,
    /// A seed for the next boot's randomness, hexadecimal.
    pub entropy_seed: Option<String>,
    /// The data partition that is this host's.
    pub data: Option<DataRecord>,
    /// A daemon that runs instead of the image's.
    pub live: Option<LiveDaemon>,
    /// Boots so far.
    pub boots: u64,
    /// What a newer version added.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Who a host is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// The host's id.
    pub host_id: String,
    /// Its TLS key, PEM.
    pub key_pem: String,
    /// Its TLS certificate, PEM.
    pub certificate_pem: String,
    /// The bearer token of those who are enrolled.
    pub api_token: String,
    /// Digest of the one-time enrolment token; none once it was used.
    pub enrolment_sha256: Option<Sha256Digest>,
    /// What a newer version added.
    #[serde(flatten, default)]
    pub unknown: Unknown,
}

/// How a host was configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Configuration {
    /// What was pushed over the API, TOML.
    pub pushed: Option<String>,
    /// Digest of the flashed configuration when that was pushed: a new flash with another one counts again.
    pub flashed_sha256: Option<Sha256Digest>,
    /// The last configuration that was in force and good, TOML.
    pub last_good: Option<String>,
    /// What a newer version added.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// One update of the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateRecord {
    /// Its id.
    pub id: String,
    /// Version it came from.
    pub from: String,
    /// Version it goes to.
    pub to: String,
    /// The slot it is in.
    pub slot: Slot,
    /// How far it is.
    pub phase: UpdatePhase,
    /// The security version that becomes the floor once it is good.
    pub minimum_security_version: u32,
    /// Why it failed.
    pub reason: Option<String>,
    /// When it was begun.
    pub begun: Timestamp,
    /// When it came to its end.
    pub ended: Option<Timestamp>,
    /// What a newer version added.
    #[serde(flatten, default)]
    pub unknown: Unknown,
}

/// How far an update is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpdatePhase {
    /// In its slot, whole; the host has not switched.
    Staged,
    /// Preferred by the boot loader, for some boots.
    Trial,
    /// Found good.
    Good,
    /// Not found good: the host is back in the other slot.
    Failed,
}

/// What is done with instances when the host reboots into an update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstancesPolicy {
    /// They are stopped, and started again afterwards.
    #[default]
    Stop,
    /// The host waits until the operator has stopped them.
    Drained,
}

/// The data partition of a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataRecord {
    /// Its PARTUUID.
    pub partuuid: String,
    /// The key of its encryption, sealed by the machine's TPM, hexadecimal; none if it is not encrypted.
    #[serde(default)]
    pub sealed_key: Option<String>,
    /// What a newer version added.
    #[serde(flatten, default)]
    pub unknown: Unknown,
}

/// A daemon that was updated without a reboot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveDaemon {
    /// Its version.
    pub version: String,
    /// Digest of its program.
    pub sha256: Sha256Digest,
    /// Version of the image it runs on; with another image it does not count.
    pub over: String,
    /// What a newer version added.
    #[serde(flatten, default)]
    pub unknown: Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_version_wrote_is_kept() {
        let newer = r#"{"security_floor":3,"invented":{"later":1},"configuration":{"pushed":null,"also":2}}"#;
        let record: HostRecord = serde_json::from_str(newer).unwrap();
        assert_eq!(record.security_floor, 3);
        let back = serde_json::to_value(&record).unwrap();
        assert_eq!(back["invented"]["later"], 1);
        assert_eq!(back["configuration"]["also"], 2);
    }

    #[test]
    fn nothing_is_a_record() {
        assert_eq!(
            serde_json::from_str::<HostRecord>("{}").unwrap(),
            HostRecord::default()
        );
    }
}
