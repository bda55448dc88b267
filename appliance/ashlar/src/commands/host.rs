//! `ashlar host` and `ashlar plugins`.

use api_types::{Host, Page, Plugin, PluginKind};

use crate::{
    client::{Client, Error},
    output::{Column, Output, age_now, facts, mib, or_dash},
};

/// The host: its capacity and what is in use.
pub async fn host(client: &Client, output: &Output) -> Result<(), Error> {
    let host: Host = client.get("/v1/host").await?;
    output.answer(&host, |h| {
        facts(&[
            ("id", h.id.clone()),
            ("version", h.version.clone()),
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
                "disk space",
                format!("{} GiB given of {} GiB", h.disk_used_gib, h.disk_total_gib),
            ),
        ])
    })
}

const COLUMNS: &[Column<Plugin>] = &[
    Column("KIND", |p| {
        match p.kind {
            PluginKind::Scheduler => "scheduler",
            PluginKind::Billing => "billing",
            PluginKind::Admission => "admission",
        }
        .into()
    }),
    Column("NAME", |p| p.name.clone()),
    Column("STATUS", |p| {
        if p.healthy { "fine" } else { "failing" }.into()
    }),
    Column("CALLS", |p| p.calls.to_string()),
    Column("FALLBACKS", |p| p.fallbacks.to_string()),
    Column("MODULE", |p| {
        or_dash(
            p.module_sha256
                .as_ref()
                .map(|hex| hex.get(..12).unwrap_or(hex).to_owned())
                .as_ref(),
        )
    }),
    Column("LAST ERROR", |p| or_dash(p.last_error.as_ref())),
];

/// The policies in force.
pub async fn plugins(client: &Client, output: &Output) -> Result<(), Error> {
    let page: Page<Plugin> = client.get("/v1/plugins").await?;
    output.list(&page, &page.items, |p| p.name.clone(), COLUMNS)
}
