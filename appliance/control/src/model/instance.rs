//! Instances.

use crate::model::{
    FinancialLock, InstanceAffinity, InstanceCharge, State, StopReason, StoppedMode,
};
use bytes::Bytes;
use std::{collections::BTreeMap, net::Ipv4Addr};
use types::{
    ByteCount, DecisionId, DeploymentSetId, DiskId, HostId, ImageId, InstanceId, InterfaceId,
    MacAddress, SecurityGroupId, Timestamp, VpcId, VswitchId,
};

/// What an instance is to become; its reconciler leads it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// It is to run.
    Running,
    /// It is to stop; the guest is asked.
    Stopped,
    /// It is to stop at once.
    StoppedByForce,
    /// It is to go, with everything that goes with it.
    Released,
}

/// How long the last start took. All in nanoseconds of the monotonic clock since the request was received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Timings {
    /// Until the request was accepted: placed, and on stable storage.
    pub accepted_ns: u64,
    /// Until disks and interface were ready.
    pub prepared_ns: Option<u64>,
    /// Until the vmm's virtual CPUs ran.
    pub running_ns: Option<u64>,
    /// Until the guest's first byte on the serial console.
    pub first_output_ns: Option<u64>,
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Instance {
    /// `i-…`
    pub id: InstanceId,
    /// A name for people; need not be unique.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Where it is in its life.
    pub state: State,
    /// What it is to become.
    pub intent: Intent,
    /// Whether it is to start again once it has stopped (a reboot).
    #[serde(default)]
    pub restart: bool,
    /// Why it is stopped; `None` unless it is.
    pub stop_reason: Option<StopReason>,
    /// What it keeps while it is stopped; of one that is not: what it is to keep then.
    #[serde(default)]
    pub stopped_mode: StoppedMode,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory: ByteCount,
    /// The type it was made from, if one was named.
    pub instance_type: Option<String>,
    /// The image it was made from.
    pub image: ImageId,
    /// What its request added to the image's kernel command line.
    pub cmdline: String,
    /// The disk made from the image's, if that has one.
    pub system_disk: Option<DiskId>,
    /// Further disks, in the order the guest sees them.
    pub data_disks: Vec<DiskId>,
    /// What its local disks come to, which are among its data disks.
    #[serde(default)]
    pub local_disks: ByteCount,
    /// Its primary interface.
    pub interface: InterfaceId,
    /// The VPC it is in.
    pub vpc: VpcId,
    /// The vswitch it is on.
    pub vswitch: VswitchId,
    /// Its address there.
    pub private_ip: Ipv4Addr,
    /// Its interface's hardware address.
    pub mac: MacAddress,
    /// The groups that decide about its traffic.
    pub security_groups: Vec<SecurityGroupId>,
    /// Labels.
    pub tags: BTreeMap<String, String>,
    /// While true, it cannot be released.
    pub deletion_protection: bool,
    /// How it is paid for.
    #[serde(default)]
    pub charge: InstanceCharge,
    /// Why it must not run, if it must not.
    #[serde(default)]
    pub lock: Option<FinancialLock>,
    /// The deployment set it is in.
    #[serde(default)]
    pub deployment_set: Option<DeploymentSetId>,
    /// The instances it is to be with, or apart from.
    #[serde(default)]
    pub affinity: InstanceAffinity,
    /// The host it was placed on.
    pub host: HostId,
    /// The decision that placed it.
    pub decision: DecisionId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last came to run.
    pub started_at: Option<Timestamp>,
    /// When it last came to stop.
    pub stopped_at: Option<Timestamp>,
    /// The last start.
    pub timings: Timings,
    /// When the request of the last start came in: nanoseconds of the host's monotonic clock.
    pub requested_ns: u64,
    /// The process of its vmm, while there is one.
    pub vmm_pid: Option<u32>,
    /// Counts its starts; 0 before the first.
    pub run: u64,
    /// Counts the changes of this record.
    pub generation: u64,
}

impl Instance {
    /// Whether virtual CPUs and memory are taken for it.
    #[must_use]
    pub const fn holds_capacity(&self) -> bool {
        self.state.has_machine() || self.stopped_mode.keeps_capacity()
    }

    /// What it keeps in a stop that `asked` was asked of. What is paid for in advance stays its own, and what is not paid does not; with
    /// local disks it is kept on its host, and so is its room there.
    #[must_use]
    pub(crate) fn stopped_mode_for(&self, asked: StoppedMode) -> StoppedMode {
        match (&self.charge, self.lock) {
            (_, Some(_)) => StoppedMode::StopCharging,
            (InstanceCharge::Subscription { .. }, None) => StoppedMode::NotApplicable,
            _ if self.local_disks > ByteCount::ZERO => StoppedMode::KeepCharging,
            (InstanceCharge::PayAsYouGo | InstanceCharge::Preemptible { .. }, None) => asked,
        }
    }

    /// What it keeps in a stop that nobody pays for.
    #[must_use]
    pub(crate) const fn stopped_by_host(&self) -> StoppedMode {
        match (self.charge.subscription(), self.lock) {
            (Some(_), None) => StoppedMode::NotApplicable,
            _ => StoppedMode::StopCharging,
        }
    }
}

/// Part of a console's output. Offsets count the bytes written since the instance was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    /// Offset of the first byte in `data`; larger than what was asked for when that is no longer kept.
    pub offset: u64,
    /// The bytes.
    pub data: Bytes,
}

impl Console {
    /// The offset after the last byte: what to ask for next.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.offset
            .saturating_add(u64::try_from(self.data.len()).unwrap_or(u64::MAX))
    }
}
