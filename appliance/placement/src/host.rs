//! One host: what it has, what is taken, and what still fits.

use crate::{Constraint, Footprint, PlacementRequest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{ByteCount, HostId};

/// A host's capacity and what of it is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRow {
    /// The host.
    pub id: HostId,
    /// The zone it is in.
    pub zone: String,
    /// Whether it takes new instances.
    pub accepting: bool,
    /// vCPUs on offer.
    pub vcpus_total: u32,
    /// vCPUs taken.
    pub vcpus_used: u32,
    /// Memory on offer.
    pub memory_total: ByteCount,
    /// Memory taken.
    pub memory_used: ByteCount,
    /// Local disk on offer.
    pub local_disk_total: ByteCount,
    /// Local disk taken.
    pub local_disk_used: ByteCount,
    /// Instances placed here.
    pub instances: u32,
    /// Members of each deployment set placed here; sets without a member are absent.
    #[serde(default)]
    pub deployment_sets: BTreeMap<String, u32>,
}

/// The books of a host would not add up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapacityError {
    /// Not enough is free.
    #[error("host {host} lacks {constraint}: {needed} needed, {free} free")]
    Lacking {
        /// The host.
        host: HostId,
        /// What is short.
        constraint: Constraint,
        /// How much is asked for (vCPUs or bytes).
        needed: u64,
        /// How much there is.
        free: u64,
    },
    /// More was given back than was taken.
    #[error("host {host}: more {constraint} given back than was taken ({given_back} of {used})")]
    NotTaken {
        /// The host.
        host: HostId,
        /// What was given back.
        constraint: Constraint,
        /// How much was given back (vCPUs, bytes or members).
        given_back: u64,
        /// How much was taken.
        used: u64,
    },
    /// There is no such host in the table.
    #[error("host {0} is not in the host table")]
    UnknownHost(HostId),
}

impl HostRow {
    /// An empty host that takes instances.
    #[must_use]
    pub fn new(id: HostId, zone: &str, vcpus: u32, memory: ByteCount) -> Self {
        Self {
            id,
            zone: zone.to_owned(),
            accepting: true,
            vcpus_total: vcpus,
            vcpus_used: 0,
            memory_total: memory,
            memory_used: ByteCount::ZERO,
            local_disk_total: ByteCount::ZERO,
            local_disk_used: ByteCount::ZERO,
            instances: 0,
            deployment_sets: BTreeMap::new(),
        }
    }

    /// vCPUs not taken.
    #[must_use]
    pub fn vcpus_free(&self) -> u32 {
        self.vcpus_total.saturating_sub(self.vcpus_used)
    }

    /// Memory not taken.
    #[must_use]
    pub fn memory_free(&self) -> ByteCount {
        self.memory_total.saturating_sub(self.memory_used)
    }

    /// Local disk not taken.
    #[must_use]
    pub fn local_disk_free(&self) -> ByteCount {
        self.local_disk_total.saturating_sub(self.local_disk_used)
    }

    /// The first condition of `request` this host does not meet, in the order of [`Constraint`]. Its affinity is not looked at.
    #[must_use]
    pub fn obstacle(&self, request: &PlacementRequest) -> Option<Constraint> {
        let members = |set: &str| self.deployment_sets.get(set).copied().unwrap_or_default();
        if !self.accepting {
            Some(Constraint::NotAccepting)
        } else if request.zone.as_ref().is_some_and(|zone| *zone != self.zone) {
            Some(Constraint::Zone)
        } else if self.vcpus_free() < request.vcpus {
            Some(Constraint::Vcpus)
        } else if self.memory_free() < request.memory {
            Some(Constraint::Memory)
        } else if self.local_disk_free() < request.local_disk {
            Some(Constraint::LocalDisk)
        } else if request
            .deployment_set
            .as_ref()
            .is_some_and(|set| members(&set.id) >= set.max_per_host)
        {
            Some(Constraint::DeploymentSet)
        } else {
            None
        }
    }

    /// Takes what `footprint` says. Nothing changes on an error.
    ///
    /// Only capacity counts here: an instance that is already placed is booked wherever it is, also on a host that takes
    /// no new ones.
    ///
    /// # Errors
    /// [`CapacityError::Lacking`] when there is not enough left.
    pub fn reserve(&mut self, footprint: &Footprint) -> Result<(), CapacityError> {
        for (constraint, needed, free) in [
            (
                Constraint::Vcpus,
                u64::from(footprint.vcpus),
                u64::from(self.vcpus_free()),
            ),
            (
                Constraint::Memory,
                footprint.memory.bytes(),
                self.memory_free().bytes(),
            ),
            (
                Constraint::LocalDisk,
                footprint.local_disk.bytes(),
                self.local_disk_free().bytes(),
            ),
        ] {
            if needed > free {
                return Err(CapacityError::Lacking {
                    host: self.id,
                    constraint,
                    needed,
                    free,
                });
            }
        }
        self.vcpus_used += footprint.vcpus;
        self.memory_used = self.memory_used + footprint.memory;
        self.local_disk_used = self.local_disk_used + footprint.local_disk;
        self.instances = self.instances.saturating_add(1);
        if let Some(set) = &footprint.deployment_set {
            let members = self.deployment_sets.entry(set.clone()).or_default();
            *members = members.saturating_add(1);
        }
        Ok(())
    }

    /// Gives back what [`reserve`](Self::reserve) took. Nothing changes on an error.
    ///
    /// # Errors
    /// [`CapacityError::NotTaken`] when it was never taken.
    pub fn release(&mut self, footprint: &Footprint) -> Result<(), CapacityError> {
        let set = footprint.deployment_set.as_deref();
        let members = set.map(|set| self.deployment_sets.get(set).copied().unwrap_or_default());
        for (constraint, given_back, used) in [
            (
                Constraint::Vcpus,
                u64::from(footprint.vcpus),
                u64::from(self.vcpus_used),
            ),
            (
                Constraint::Memory,
                footprint.memory.bytes(),
                self.memory_used.bytes(),
            ),
            (
                Constraint::LocalDisk,
                footprint.local_disk.bytes(),
                self.local_disk_used.bytes(),
            ),
            (
                Constraint::DeploymentSet,
                u64::from(members.is_some()),
                u64::from(members.unwrap_or(1)),
            ),
            (
                Constraint::Named("instances".into()),
                1,
                u64::from(self.instances),
            ),
        ] {
            if given_back > used {
                return Err(CapacityError::NotTaken {
                    host: self.id,
                    constraint,
                    given_back,
                    used,
                });
            }
        }
        self.vcpus_used -= footprint.vcpus;
        self.memory_used = self.memory_used.saturating_sub(footprint.memory);
        self.local_disk_used = self.local_disk_used.saturating_sub(footprint.local_disk);
        self.instances -= 1;
        if let (Some(set), Some(members)) = (set, members) {
            if members > 1 {
                self.deployment_sets.insert(set.to_owned(), members - 1);
            } else {
                self.deployment_sets.remove(set);
            }
        }
        Ok(())
    }
}
