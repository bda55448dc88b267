//! The processors port over the control groups of the machines.

use super::{HostMachines, translate::not_running};
use control::ports::{CpuControl, CpuShare, PortError, PortErrorKind, PortResult, Processors};
use cpu::Topology;
use std::{io, time::Duration};
use types::InstanceId;

impl Processors for HostMachines {
    fn control(&self) -> CpuControl {
        self.shared.groups.control()
    }

    fn topology(&self) -> Option<Topology> {
        self.shared.groups.topology()
    }

    fn limit(&self, instance: InstanceId, share: &CpuShare) -> PortResult<()> {
        let uid = self
            .shared
            .running()
            .get(&instance)
            .map(|machine| machine.run.uid);
        let uid = uid.ok_or_else(|| not_running(instance))?;
        self.shared.groups.limit(uid, share).map_err(|error| {
            failed(
                format!("cannot limit what {instance} uses of the CPUs"),
                &error,
            )
        })
    }

    fn used(&self, instance: InstanceId, run: u64) -> PortResult<Duration> {
        let now = self
            .shared
            .running()
            .get(&instance)
            .map(|machine| machine.run);
        if let Some(now) = now.filter(|now| now.number == run) {
            let what = || format!("what {instance} uses of the CPUs is not known");
            let used = self.shared.groups.used(now.uid);
            return used.map_err(|error| failed(what(), &error));
        }
        let last = self.shared.last_use().get(&instance).copied();
        last.filter(|last| last.run == run)
            .map(|last| last.used)
            .ok_or_else(|| not_running(instance))
    }
}

fn failed(what: String, error: &anyhow::Error) -> PortError {
    PortError::new(PortErrorKind::Failed, what)
        .with_source(io::Error::other(format!("{error:#}")))
        .with_next_step("see whether the control groups of the daemon are still mounted")
}
