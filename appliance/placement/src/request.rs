//! What is asked for.

use serde::{Deserialize, Serialize};
use types::{ByteCount, InstanceId};

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
