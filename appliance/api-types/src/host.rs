//! The host itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The host that answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Host {
    /// Its id.
    pub id: String,
    /// Version of the daemon.
    pub version: String,
    /// The zone it is in.
    #[serde(default)]
    pub zone: String,
    /// Virtual CPUs it may give to instances.
    pub vcpus_total: u32,
    /// Virtual CPUs given.
    pub vcpus_used: u32,
    /// Memory it may give to instances, MiB.
    pub memory_total_mib: u64,
    /// Memory given, MiB.
    pub memory_used_mib: u64,
    /// Disk space it may give, GiB.
    pub disk_total_gib: u64,
    /// Disk space given, GiB: what the disks may come to need.
    pub disk_used_gib: u64,
    /// Local disk space it may give, GiB.
    #[serde(default)]
    pub local_disk_total_gib: u64,
    /// Local disk space given, GiB.
    #[serde(default)]
    pub local_disk_used_gib: u64,
    /// How it limits what instances use of its CPUs: `v1` or `v2` (of control groups), or `none`: not at all.
    #[serde(default)]
    pub cpu_control: String,
    /// Why not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_control_missing: Option<String>,
    /// The CPUs that instances of enterprise families have for themselves: `2-7`; absent: all share all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedicated_cpus: Option<String>,
    /// Instances that run.
    pub instances_running: u64,
    /// Instances in all.
    pub instances_total: u64,
    /// When the daemon started (RFC 3339).
    #[schema(format = DateTime)]
    pub started_at: String,
}

/// Whether the host works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Whether every check is fine.
    pub ok: bool,
    /// Version of the daemon.
    pub version: String,
    /// The checks.
    pub checks: Vec<HealthCheck>,
}

/// One thing that has to work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthCheck {
    /// What: `store`, `pool`, `scheduler`, `billing`, `instances`; or what a host lacks.
    pub name: String,
    /// Whether it does.
    pub ok: bool,
    /// What is wrong, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
