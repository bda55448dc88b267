//! What is asked for.

use crate::{Constraint, HostTable, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use types::{ByteCount, HostId, InstanceId};

/// One instance that wants a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementRequest {
    /// The instance to place. Also seeds the policy's random numbers, so that a repeated request gets the same answer.
    pub instance: InstanceId,
    /// Name of its instance type, such as `ecs.g6.large`.
    pub instance_type: String,
    /// Virtual CPUs; at least 1.
    pub vcpus: u32,
    /// Memory; more than nothing.
    pub memory: ByteCount,
    /// Local disk the instance type brings along; zero for none.
    #[serde(default)]
    pub local_disk: ByteCount,
    /// The zone it must be in; `None` for any.
    #[serde(default)]
    pub zone: Option<String>,
    /// The deployment set whose members are to be kept apart.
    #[serde(default)]
    pub deployment_set: Option<DeploymentSet>,
    /// Whether it is preemptible.
    #[serde(default)]
    pub spot: bool,
    /// The hosts that where other instances are leaves it. Policies do not see this.
    #[serde(default, skip_serializing_if = "Affinity::is_empty")]
    pub affinity: Affinity,
}

/// What hosts are left to an instance that is to be with other instances, or apart from them. Who asks has looked up where those
/// are; what is placed later does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affinity {
    /// If given: no other hosts than these; none at all if it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<BTreeSet<HostId>>,
    /// Not these.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub never: BTreeSet<HostId>,
}

impl Affinity {
    /// Whether it leaves all hosts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.only.is_none() && self.never.is_empty()
    }

    /// Whether it leaves that host.
    #[must_use]
    pub fn allows(&self, host: HostId) -> bool {
        let only = self.only.as_ref();
        only.is_none_or(|only| only.contains(&host)) && !self.never.contains(&host)
    }

    /// Refuses the hosts that got a score although they are ruled out.
    pub(crate) fn rule_out(&self, hosts: &HostTable, verdicts: &mut [Verdict]) {
        if self.is_empty() {
            return;
        }
        for (host, verdict) in hosts.ids().iter().zip(verdicts) {
            if matches!(verdict, Verdict::Score(_)) && !self.allows(*host) {
                *verdict = Verdict::Refused(Constraint::Affinity);
            }
        }
    }
}

/// A set of instances that must not all fail with one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentSet {
    /// Its id.
    pub id: String,
    /// How many members one host may carry; at least 1.
    pub max_per_host: u32,
}

/// What a placed instance takes from its host: all that [`HostTable::reserve`](crate::HostTable::reserve) and
/// [`HostTable::release`](crate::HostTable::release) need to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footprint {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory: ByteCount,
    /// Local disk.
    pub local_disk: ByteCount,
    /// Id of the deployment set it is a member of.
    pub deployment_set: Option<String>,
}

impl PlacementRequest {
    /// What the instance will take from the host it gets.
    #[must_use]
    pub fn footprint(&self) -> Footprint {
        Footprint {
            vcpus: self.vcpus,
            memory: self.memory,
            local_disk: self.local_disk,
            deployment_set: self.deployment_set.as_ref().map(|set| set.id.clone()),
        }
    }
}
