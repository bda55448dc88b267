//! CPUs that count what they are told was used.

use super::World;
use control::ports::{CpuControl, CpuShare, PortError, PortErrorKind, PortResult, Processors};
use cpu::Topology;
use std::time::Duration;
use types::InstanceId;

fn unknown(instance: InstanceId) -> PortError {
    PortError::new(
        PortErrorKind::NotFound,
        format!("nothing is known of {instance}"),
    )
}

impl Processors for World {
    fn control(&self) -> CpuControl {
        match &self.things().no_cpu_control {
            Some(why) => CpuControl::None(why.clone()),
            None => CpuControl::V2,
        }
    }

    fn topology(&self) -> Option<Topology> {
        self.things().topology.clone()
    }

    fn limit(&self, instance: InstanceId, share: &CpuShare) -> PortResult<()> {
        let mut things = self.call("limit")?;
        if !things.machines.contains_key(&instance) {
            return Err(unknown(instance));
        }
        let now = things.shares.entry(instance).or_default();
        now.weight = share.weight.or(now.weight);
        now.quota = share.quota.or(now.quota);
        now.place = share.place.clone().or(now.place.take());
        Ok(())
    }

    fn used(&self, instance: InstanceId, run: u64) -> PortResult<Duration> {
        let things = self.call("used")?;
        let used = things.cpu_used.get(&(instance, run)).copied();
        used.ok_or_else(|| unknown(instance))
    }
}
