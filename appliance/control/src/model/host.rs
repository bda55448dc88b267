//! The host itself.

use crate::ports::CpuControl;
use ::cpu::CpuSet;
use types::{ByteCount, HostId, Timestamp};

/// What there is of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity<T> {
    /// What may be given to instances.
    pub total: T,
    /// What is given.
    pub used: T,
}

/// The host that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostInfo {
    /// Its id.
    pub id: HostId,
    /// Version of the daemon.
    pub version: String,
    /// The zone it is in.
    pub zone: String,
    /// Virtual CPUs.
    pub vcpus: Capacity<u32>,
    /// Memory.
    pub memory: Capacity<ByteCount>,
    /// Space of the disk pool: what the disks may come to need counts as given.
    pub disk: Capacity<ByteCount>,
    /// Local disks.
    pub local_disk: Capacity<ByteCount>,
    /// Whether it can limit what instances use of its CPUs.
    pub cpu_control: CpuControl,
    /// The CPUs that instances of enterprise families have for themselves; `None`: they share all.
    pub dedicated_cpus: Option<CpuSet>,
    /// Instances that have a machine.
    pub instances_running: u64,
    /// Instances in all.
    pub instances_total: u64,
    /// When the daemon started.
    pub started_at: Timestamp,
}

/// What a request may ask for on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most virtual CPUs of one instance.
    pub max_vcpus: u32,
    /// The least memory of one instance.
    pub min_memory: ByteCount,
    /// The most memory of one instance.
    pub max_memory: ByteCount,
    /// The most instances there may be on the host, stopped ones included.
    pub max_instances: u32,
    /// The most disks there may be on the host.
    pub max_disks: u32,
}

/// One thing that has to work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What: `store`, `pool`, `scheduler`, `billing`, `instances`.
    pub name: String,
    /// Whether it does.
    pub ok: bool,
    /// What is wrong, if it does not.
    pub message: Option<String>,
}

/// Whether the host works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether every check is fine.
    pub ok: bool,
    /// Version of the daemon.
    pub version: String,
    /// The checks.
    pub checks: Vec<HealthCheck>,
}
