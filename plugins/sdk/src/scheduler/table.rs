//! The table of hosts a policy looks at.

use super::{
    DeploymentSet, PlacementRequest,
    bindings::exports::ashlar::policy::scheduling::HostTable as Loaded, constraint,
};
use alloc::{string::String, vec::Vec};

/// The hosts there are, by column: position n of every list is the same host. Hosts are in the order of their ids. Memory and
/// disk are in bytes.
#[derive(Clone, Debug, Default)]
pub struct HostTable {
    /// Names of the zones.
    pub zone_names: Vec<String>,
    /// The host's zone: a position in `zone_names`.
    pub zone: Vec<u32>,
    /// 1 if the host takes new instances, else 0.
    pub accepting: Vec<u8>,
    /// vCPUs on offer.
    pub vcpus_total: Vec<u32>,
    /// vCPUs taken.
    pub vcpus_used: Vec<u32>,
    /// Memory on offer.
    pub memory_total: Vec<u64>,
    /// Memory taken.
    pub memory_used: Vec<u64>,
    /// Local disk on offer.
    pub local_disk_total: Vec<u64>,
    /// Local disk taken.
    pub local_disk_used: Vec<u64>,
    /// Instances placed there.
    pub instances: Vec<u32>,
    /// Members of the request's deployment set placed there; empty if the request names no set.
    pub set_members: Vec<u32>,
}

impl From<Loaded> for HostTable {
    fn from(table: Loaded) -> Self {
        Self {
            zone_names: table.zone_names,
            zone: table.zone,
            accepting: table.accepting,
            vcpus_total: table.vcpus_total,
            vcpus_used: table.vcpus_used,
            memory_total: table.memory_total,
            memory_used: table.memory_used,
            local_disk_total: table.local_disk_total,
            local_disk_used: table.local_disk_used,
            instances: table.instances,
            set_members: Vec::new(),
        }
    }
}

impl HostTable {
    /// How many hosts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.zone.len()
    }

    /// Whether there is no host.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.zone.is_empty()
    }

    /// vCPUs not taken on a host. Panics if there is no such host, as do the other methods that take a host.
    #[must_use]
    pub fn vcpus_free(&self, host: usize) -> u32 {
        self.vcpus_total[host].saturating_sub(self.vcpus_used[host])
    }

    /// Memory not taken on a host, in bytes.
    #[must_use]
    pub fn memory_free(&self, host: usize) -> u64 {
        self.memory_total[host].saturating_sub(self.memory_used[host])
    }

    /// Local disk not taken on a host, in bytes.
    #[must_use]
    pub fn local_disk_free(&self, host: usize) -> u64 {
        self.local_disk_total[host].saturating_sub(self.local_disk_used[host])
    }

    /// The name of a host's zone.
    #[must_use]
    pub fn zone_name(&self, host: usize) -> Option<&str> {
        let position = usize::try_from(self.zone[host]).ok()?;
        self.zone_names.get(position).map(String::as_str)
    }

    /// The first of the conditions every policy must keep that a host does not meet.
    #[must_use]
    pub fn obstacle(&self, host: usize, request: &PlacementRequest) -> Option<&'static str> {
        let elsewhere = |zone: &String| self.zone_name(host) != Some(zone);
        let set_full = |set: &DeploymentSet| {
            self.set_members
                .get(host)
                .is_some_and(|members| *members >= set.max_per_host)
        };
        if self.accepting[host] == 0 {
            Some(constraint::NOT_ACCEPTING)
        } else if request.zone.as_ref().is_some_and(elsewhere) {
            Some(constraint::ZONE)
        } else if self.vcpus_free(host) < request.vcpus {
            Some(constraint::VCPUS)
        } else if self.memory_free(host) < request.memory {
            Some(constraint::MEMORY)
        } else if self.local_disk_free(host) < request.local_disk {
            Some(constraint::LOCAL_DISK)
        } else if request.deployment_set.as_ref().is_some_and(set_full) {
            Some(constraint::DEPLOYMENT_SET)
        } else {
            None
        }
    }
}
