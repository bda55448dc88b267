//! The host.

use api_types::{Health, HealthCheck, Host};
use control::{model, ports::CpuControl};

/// The host as it goes over the wire.
pub fn to_wire(host: &model::HostInfo) -> Host {
    Host {
        id: host.id.to_string(),
        version: host.version.clone(),
        zone: host.zone.clone(),
        vcpus_total: host.vcpus.total,
        vcpus_used: host.vcpus.used,
        memory_total_mib: host.memory.total.mib(),
        memory_used_mib: host.memory.used.mib(),
        disk_total_gib: host.disk.total.gib(),
        disk_used_gib: host.disk.used.gib(),
        local_disk_total_gib: host.local_disk.total.gib(),
        local_disk_used_gib: host.local_disk.used.gib(),
        cpu_control: host.cpu_control.name().to_owned(),
        cpu_control_missing: match &host.cpu_control {
            CpuControl::None(why) => Some(why.clone()),
            CpuControl::V1 | CpuControl::V2 => None,
        },
        dedicated_cpus: host.dedicated_cpus.as_ref().map(ToString::to_string),
        instances_running: host.instances_running,
        instances_total: host.instances_total,
        started_at: host.started_at.to_string(),
    }
}

/// The host's health as it goes over the wire.
pub fn health_to_wire(health: model::Health) -> Health {
    Health {
        ok: health.ok,
        version: health.version,
        checks: health
            .checks
            .into_iter()
            .map(|check| HealthCheck {
                name: check.name,
                ok: check.ok,
                message: check.message,
            })
            .collect(),
    }
}
