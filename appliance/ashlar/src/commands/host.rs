//! `ashlar host`.

use api_types::Host;

use crate::{
    client::{Client, Error},
    output::{Output, age_now, facts, mib},
};

/// The host: its capacity and what is in use.
pub async fn host(client: &Client, output: &Output) -> Result<(), Error> {
    let host: Host = client.get("/v1/host").await?;
    output.answer(&host, |h| {
        facts(&[
            ("id", h.id.clone()),
            ("version", h.version.clone()),
            ("zone", h.zone.clone()),
            ("up for", age_now(&h.started_at)),
            (
                "instances",
                format!("{} running of {}", h.instances_running, h.instances_total),
            ),
            (
                "vcpus",
                format!("{} given of {}", h.vcpus_used, h.vcpus_total),
            ),
            (
                "memory",
                format!(
                    "{} given of {}",
                    mib(h.memory_used_mib),
                    mib(h.memory_total_mib)
                ),
            ),
            (
                "cpu control",
                match &h.cpu_control_missing {
                    Some(why) => format!("{}: {why}", h.cpu_control),
                    None => h.cpu_control.clone(),
                },
            ),
            (
                "dedicated cpus",
                h.dedicated_cpus.clone().unwrap_or_default(),
            ),
            (
                "disk space",
                format!("{} GiB given of {} GiB", h.disk_used_gib, h.disk_total_gib),
            ),
            (
                "local disks",
                match h.local_disk_total_gib {
                    0 => String::new(),
                    total => format!("{} GiB given of {total} GiB", h.local_disk_used_gib),
                },
            ),
        ])
    })
}
