//! The host itself, and its events.

use crate::{
    Control, Result,
    core::blocking,
    model::{
        Capacity, CpuUse, Disk, Event, Health, HealthCheck, HostInfo, Instance, Intent, PolicyKind,
        State,
    },
    placing,
    reconcile::credits,
};
use cpu::Assignments;
use tokio::sync::broadcast;

impl Control {
    /// What the host has and what of it is given.
    pub async fn host(&self) -> Result<HostInfo> {
        let core = self.core();
        let instances = core.all::<Instance>();
        let volumes = core.ports.volumes.clone();
        let space = blocking(move || volumes.space()).await??;
        let disks = core.all::<Disk>();
        let in_pool = disks.values().filter(|disk| !disk.category.is_local());
        let in_pool = in_pool.map(|disk| disk.size).sum();
        let own = core.own_cpus();
        let holding = || {
            instances
                .values()
                .filter(|instance| instance.holds_capacity())
        };
        let count = |which: &dyn Fn(&Instance) -> bool| {
            let counted = instances
                .values()
                .filter(|instance| which(instance))
                .count();
            u64::try_from(counted).unwrap_or(u64::MAX)
        };
        Ok(HostInfo {
            id: core.host,
            version: core.settings.version.clone(),
            zone: core.settings.zone.clone(),
            vcpus: Capacity {
                total: core
                    .settings
                    .vcpus
                    .saturating_add(own.as_ref().map_or(0, Assignments::total)),
                used: holding().fold(0, |sum, instance| sum.saturating_add(instance.vcpus)),
            },
            memory: Capacity {
                total: core.settings.memory,
                used: holding().map(|instance| instance.memory).sum(),
            },
            disk: Capacity {
                total: space.total,
                used: in_pool,
            },
            local_disk: Capacity {
                total: core.settings.local_disk,
                used: placing::local_disks_given(&instances, &disks),
            },
            cpu_control: core.ports.processors.control(),
            dedicated_cpus: own.map(|own| own.given()),
            instances_running: count(&|instance| instance.state.has_machine()),
            instances_total: count(&|_| true),
            started_at: core.started_at,
        })
    }

    /// Whether the host works.
    pub async fn health(&self) -> Health {
        let core = self.core();
        let volumes = core.ports.volumes.clone();
        let store = core
            .list::<crate::records::HostRecord>()
            .err()
            .map(|error| error.to_string());
        let pool = match blocking(move || volumes.space()).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.chain()),
            Err(error) => Some(error.to_string()),
        };
        let check = |name: &str, message: Option<String>| HealthCheck {
            name: name.to_owned(),
            ok: message.is_none(),
            message,
        };
        let mut checks = vec![check("store", store), check("pool", pool)];
        for policy in core.ports.policies.status() {
            let name = match policy.kind {
                PolicyKind::Scheduler => "scheduler",
                PolicyKind::Billing => "billing",
                PolicyKind::Admission => "admission",
            };
            let why = || {
                policy
                    .last_error
                    .clone()
                    .unwrap_or_else(|| "the built-in policy decides".to_owned())
            };
            checks.push(check(name, (!policy.healthy).then(why)));
        }
        checks.push(check("instances", self.not_running()));
        Health {
            ok: checks.iter().all(|check| check.ok),
            version: core.settings.version.clone(),
            checks,
        }
    }

    /// What the instance has of the host's CPUs.
    pub fn cpu_of(&self, instance: &Instance) -> Result<CpuUse> {
        Ok(CpuUse {
            credits: credits::shown(self.core(), instance)?,
            cpus: self.core().cpus_of(instance)?,
        })
    }

    /// The instances that are to run and do not, in one line.
    fn not_running(&self) -> Option<String> {
        let instances = self.core().all::<Instance>();
        let late: Vec<String> = instances
            .values()
            .filter(|instance| {
                instance.intent == Intent::Running && instance.state != State::Running
            })
            .map(|instance| format!("{} is {}", instance.id, instance.state))
            .collect();
        (!late.is_empty()).then(|| late.join(", "))
    }

    /// What happens from now on. A receiver that falls behind by more than 1,024 events misses the oldest; the
    /// sequence numbers show it.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.core().subscribe()
    }

    /// Now, on the clock that [`crate::commands::Request::received_ns`] is read from.
    pub fn monotonic_ns(&self) -> u64 {
        self.core().ports.clock.monotonic_ns()
    }
}
