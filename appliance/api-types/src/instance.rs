//! Instances.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Affinity, InstanceCharge, InstanceLock, NewCharge};

/// Where an instance is in its life. `RunInstances` leads from `Pending` through `Starting` to `Running`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum InstanceState {
    /// Accepted; resources are being prepared.
    Pending,
    /// Its machine is being started.
    Starting,
    /// Its virtual CPUs run.
    Running,
    /// Asked to stop.
    Stopping,
    /// Not running; disks and addresses are kept, and what `stopped_mode` says.
    Stopped,
}

impl InstanceState {
    /// Every state, in the order of an instance's life.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Stopped,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Starting => "Starting",
            Self::Running => "Running",
            Self::Stopping => "Stopping",
            Self::Stopped => "Stopped",
        }
    }
}

/// What a stopped instance keeps beside its disks and addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum StoppedMode {
    /// Its virtual CPUs and memory: they are charged on, and it can be started at any time.
    KeepCharging,
    /// Nothing: virtual CPUs and memory cost nothing and others may get them, so that a later start may find no room.
    StopCharging,
    /// Its virtual CPUs and memory, which are paid for in advance.
    #[serde(rename = "Not-applicable")]
    NotApplicable,
}

/// Why an instance is in its state, when there is more to say than "it was asked to".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StateReason {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Instance {
    /// `i-…`
    pub id: String,
    /// A name for people; need not be unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where it is in its life.
    pub state: InstanceState,
    /// What it is to become; the host leads it there.
    pub intent: InstanceIntent,
    /// Why, when there is more to say than that it was asked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_reason: Option<StateReason>,
    /// What it keeps while it is stopped; absent while it is to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_mode: Option<StoppedMode>,
    /// The instance type it was made from, if one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// The CPU credits of a burstable instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_credits: Option<CpuCredits>,
    /// The host's CPUs that it has for itself: `2-3,6-7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// The image it was made from.
    pub image_id: String,
    /// Added to the kernel's command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
    /// The deployment set it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_set_id: Option<String>,
    /// The instances it is to be with, or apart from; absent: it does not matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// The host it was placed on.
    pub host_id: String,
    /// The placement decision that chose the host.
    pub decision_id: String,
    /// Its disks, the system disk first.
    pub disks: Vec<AttachedDisk>,
    /// Its network interfaces, the primary one first.
    pub network_interfaces: Vec<NetworkInterface>,
    /// Labels set by the user.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// While true, the instance cannot be deleted.
    #[serde(default)]
    pub deletion_protection: bool,
    /// How it is paid for.
    #[serde(default)]
    pub charge: InstanceCharge,
    /// Why it does not run before something is paid; absent of one that may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<InstanceLock>,
    /// The last start, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_start: Option<StartTimings>,
    /// Process id of its machine monitor on the host, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmm_pid: Option<u32>,
    /// From the request that started it to its first byte on the console, in milliseconds; absent until that byte came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_to_first_guest_output_ms: Option<f64>,
    /// When it was made (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it last came to run (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub started_at: Option<String>,
    /// When it last came to stop (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub stopped_at: Option<String>,
}

/// CPU credits of a burstable instance, as of a few seconds ago. One credit is one virtual CPU at 100 % for a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CpuCredits {
    /// What there is to spend, launch credits included; to a hundredth.
    pub balance: f64,
    /// The most it can save, launch credits apart.
    pub max: f64,
    /// What an hour earns while it runs.
    pub per_hour: f64,
    /// What it may use of each virtual CPU for ever, in percent.
    pub baseline_percent: u32,
    /// Whether it has used up its credits and is held to its baseline.
    pub throttled: bool,
}

/// What an instance is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InstanceIntent {
    /// It is to run.
    Running,
    /// It is to stop, or to stay stopped.
    Stopped,
    /// It is to go, with everything that goes with it.
    Released,
}

/// How far into an instance's last start each step was done: milliseconds since the host received the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StartTimings {
    /// Accepted: placed, and on stable storage.
    pub accepted_ms: f64,
    /// Disks and interface were ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared_ms: Option<f64>,
    /// Its virtual CPUs ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_ms: Option<f64>,
    /// The guest's first byte on the serial console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_output_ms: Option<f64>,
}

/// A disk as its instance sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttachedDisk {
    /// `d-…`
    pub disk_id: String,
    /// System or data.
    pub role: crate::DiskRole,
    /// The name a Linux guest is expected to give it: `vda`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkInterface {
    /// `eni-…`
    pub id: String,
    /// The VPC it is in.
    pub vpc_id: String,
    /// The vswitch it is on.
    pub vswitch_id: String,
    /// Its IPv4 address.
    #[schema(format = Ipv4)]
    pub private_ip: String,
    /// Its hardware address: `00:16:3e:…`.
    pub mac: String,
    /// The security groups that decide about its traffic.
    pub security_group_ids: Vec<String>,
}

/// Run (or only create) instances.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunInstances {
    /// The image to boot.
    pub image_id: String,
    /// An instance type such as `ecs.g6.large`; or else `vcpus` and `memory_mib`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    /// Virtual CPUs; with `memory_mib`, instead of `instance_type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub vcpus: Option<u32>,
    /// Memory, MiB; with `vcpus`, instead of `instance_type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub memory_mib: Option<u64>,
    /// How many. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    pub count: Option<u32>,
    /// How many there must be at least for any to be made; default: all of `count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    pub min_count: Option<u32>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128)]
    pub name: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256)]
    pub description: Option<String>,
    /// The vswitch to be on; without one, the default vswitch, which is made when first needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vswitch_id: Option<String>,
    /// Up to 5; without any, the VPC's default group, which is made when first needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 5)]
    pub security_group_ids: Vec<String>,
    /// A fixed address on the vswitch; only with `count` 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = Ipv4)]
    pub private_ip: Option<String>,
    /// The zone to be in; without one, any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The deployment set to be in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_set_id: Option<String>,
    /// The instances to be with, or apart from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Added to the kernel's command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2048)]
    pub cmdline: Option<String>,
    /// How the system disk differs from the image's. Only for images that have a disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_disk: Option<NewSystemDisk>,
    /// Data disks, in the order the guest sees them; before them come the local disks of the type. At most 16 in all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 16)]
    pub data_disks: Vec<NewDataDisk>,
    /// False: leave them stopped. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<bool>,
    /// How they are paid for; absent: by the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charge: Option<NewCharge>,
    /// Refuse to delete them until this is taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deletion_protection: bool,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Makes a repeated request answer what the first answered: up to 64 ASCII characters of your choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64)]
    pub client_token: Option<String>,
    /// Check everything, change nothing: a request that would succeed answers the problem `DryRunOperation`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// How a system disk differs from its image's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSystemDisk {
    /// Size, GiB; at least the image's, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 32768)]
    pub size_gib: Option<u64>,
    /// Whether it goes when its instance goes. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_with_instance: Option<bool>,
}

/// A data disk of a new instance: a new one of `size_gib`, or the existing `disk_id`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDataDisk {
    /// Size of a new, empty disk, GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 32768)]
    pub size_gib: Option<u64>,
    /// An Available disk; only with `count` 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_id: Option<String>,
    /// A name for people; of a new disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128)]
    pub name: Option<String>,
    /// Whether it goes when its instance goes; of a new disk. Default true, which it must be of a local one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_with_instance: Option<bool>,
    /// What it is on; of a new disk. Default `cloud_essd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<crate::DiskCategory>,
}

/// Change an instance; what is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModifyInstance {
    /// The name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128)]
    pub name: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256)]
    pub description: Option<String>,
    /// While true, the instance cannot be deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_protection: Option<bool>,
    /// All of its labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
}

/// The instances a request made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstancesCreated {
    /// In the order of their ids' creation.
    pub instances: Vec<Instance>,
}

/// Stop an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopInstance {
    /// False: press the power button and wait for the guest; true: take the power away.
    #[serde(default)]
    pub force: bool,
    /// What it keeps then; absent: `KeepCharging`. One that is stopped and keeps its virtual CPUs and memory gives them up when it is
    /// stopped with `StopCharging`. What is paid for in advance keeps what is paid for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_mode: Option<KeepWhenStopped>,
}

/// What an instance is to keep when it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum KeepWhenStopped {
    /// Its virtual CPUs and memory, which are charged on.
    KeepCharging,
    /// Only its disks and addresses.
    StopCharging,
}

/// Stop an instance and start it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RebootInstance {
    /// False: press the power button and wait for the guest; true: take the power away.
    #[serde(default)]
    pub force: bool,
}
