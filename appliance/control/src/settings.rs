//! What the operator may set.

use crate::model::Limits;
use cpu::{CpuSet, LAUNCH_CREDITS};
use std::{path::PathBuf, time::Duration};
use types::{AccountId, ByteCount, HostId, UtcOffset};

/// Settings of the control plane of one host.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the store is. One daemon per folder.
    pub state_folder: PathBuf,
    /// The host's id; `None`: made at the first start and kept in the store.
    pub host: Option<HostId>,
    /// Who pays for what comes into use from now on. What is in use stays with who pays for it.
    pub account: AccountId,
    /// Where the days of subscriptions begin.
    pub billing_zone: UtcOffset,
    /// The daemon's version, as shown.
    pub version: String,
    /// The zone the host is in.
    pub zone: String,
    /// Virtual CPUs that may be given to instances.
    pub vcpus: u32,
    /// Memory that may be given to instances.
    pub memory: ByteCount,
    /// What local disks may come to.
    pub local_disk: ByteCount,
    /// What one request may ask for.
    pub limits: Limits,
    /// How long a guest has to power off before it is stopped by force.
    pub stop_grace: Duration,
    /// How often use is metered and charged.
    pub metering_interval: Duration,
    /// How often everything is compared with what it should be, without being asked to.
    pub reconcile_interval: Duration,
    /// How often CPU credits are settled at least.
    pub credit_interval: Duration,
    /// CPU credits that a new burstable instance gets for each virtual CPU, once.
    pub launch_credits: u32,
    /// CPUs that instances of enterprise families have for themselves, whole cores at a time; none: everybody shares all.
    pub dedicated_cpus: CpuSet,
    /// Whether an instance that is to run, but whose machine was gone when the daemon came back (a reboot of the
    /// host), is started again.
    pub restart_vanished: bool,
}

impl Settings {
    /// Settings for a host with that many virtual CPUs and that much memory to give.
    #[must_use]
    pub fn new(state_folder: PathBuf, vcpus: u32, memory: ByteCount) -> Self {
        Self {
            state_folder,
            host: None,
            account: AccountId::default(),
            billing_zone: UtcOffset::UTC,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            zone: "local".to_owned(),
            vcpus,
            memory,
            local_disk: ByteCount::ZERO,
            limits: Limits {
                max_vcpus: vcpus.max(1),
                min_memory: ByteCount::from_mib(8),
                max_memory: memory,
                max_instances: 1000,
                max_disks: 4000,
            },
            stop_grace: Duration::from_secs(30),
            metering_interval: Duration::from_secs(60),
            reconcile_interval: Duration::from_secs(30),
            credit_interval: Duration::from_secs(10),
            launch_credits: LAUNCH_CREDITS,
            dedicated_cpus: CpuSet::default(),
            restart_vanished: false,
        }
    }
}
