//! The control groups of vmm processes: one for each, named after its user id, so that a process which waits for a machine
//! is in its group already and a restarted daemon finds it by `run.json`.
//!
//! Where groups cannot be used everything runs without limits.

use anyhow::Context;
use cgroup::{Error, Group, Groups, Hierarchy, Version};
use control::ports::{CpuControl, CpuShare};
use cpu::Topology;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// How often, and how far apart, a group is removed again that the kernel says is in use: a process is reaped before its
/// group knows.
const TRIES: u32 = 20;
const TRIES_APART: Duration = Duration::from_millis(25);

/// The groups of this daemon's vmm processes.
pub struct VmmGroups {
    /// Else why there are none.
    groups: Result<Groups, String>,
    topology: Option<Topology>,
}

impl VmmGroups {
    /// Groups under a parent of that name, for machines with `vcpus` virtual CPUs in all.
    pub fn open(parent: &str, vcpus: u32) -> Self {
        let open = || Groups::open(Hierarchy::find()?, parent, vcpus.saturating_mul(100));
        let groups = open().map_err(|error: Error| format!("{:#}", anyhow::Error::from(error)));
        let pins = groups.as_ref().is_ok_and(Groups::pins);
        let topology = pins
            .then(|| cgroup::topology(Path::new("/sys")))
            .transpose();
        let topology = topology.unwrap_or_else(|error| {
            let error = anyhow::Error::from(error);
            tracing::warn!("machines cannot be kept on CPUs: {error:#}");
            None
        });
        Self { groups, topology }
    }

    /// No groups.
    #[cfg(test)]
    pub fn none() -> Self {
        Self {
            groups: Err("tests have none".to_owned()),
            topology: None,
        }
    }

    pub fn control(&self) -> CpuControl {
        match &self.groups {
            Err(why) => CpuControl::None(why.clone()),
            Ok(groups) => match groups.version() {
                Version::V1 => CpuControl::V1,
                Version::V2 => CpuControl::V2,
            },
        }
    }

    pub fn topology(&self) -> Option<Topology> {
        self.topology.clone()
    }

    fn of(&self, uid: u32) -> Option<Group> {
        let groups = self.groups.as_ref().ok()?;
        Some(groups.group(&name(uid))).filter(Group::exists)
    }

    /// Makes the group of a process that is about to be started; the directories to start it in.
    pub fn make(&self, uid: u32) -> Vec<PathBuf> {
        let Ok(groups) = &self.groups else {
            return Vec::new();
        };
        match groups.make(&name(uid)) {
            Ok(group) => group.directories(),
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::warn!("a vmm runs without a limit: {error:#}");
                Vec::new()
            }
        }
    }

    /// Puts the share of a process in force. Fine where there are no groups, or not of that process.
    pub fn limit(&self, uid: u32, share: &CpuShare) -> anyhow::Result<()> {
        let Some(group) = self.of(uid) else {
            return Ok(());
        };
        if let Some(weight) = share.weight {
            group.set_weight(weight)?;
        }
        if let Some(quota) = share.quota {
            group.set_quota(Some(quota))?;
        }
        if let Some(place) = &share.place {
            group.set_cpus(&place.cpus, &place.nodes)?;
        }
        Ok(())
    }

    /// The CPU time a process has used; also of one that ended, until its group is removed.
    pub fn used(&self, uid: u32) -> anyhow::Result<Duration> {
        let group = self
            .of(uid)
            .context("it is in no control group of this daemon")?;
        Ok(group.used()?)
    }

    /// Removes the group of a process that ended.
    pub async fn remove(&self, uid: u32) {
        let Ok(groups) = &self.groups else { return };
        for tried in 1.. {
            match groups.remove(&name(uid)) {
                Ok(()) => return,
                Err(_) if tried < TRIES => tokio::time::sleep(TRIES_APART).await,
                Err(error) => {
                    let error = anyhow::Error::from(error);
                    return tracing::warn!(
                        "a control group is left until the next start: {error:#}"
                    );
                }
            }
        }
    }

    /// Removes the groups of processes that are gone.
    pub fn sweep(&self) {
        if let Ok(groups) = &self.groups
            && let Err(error) = groups.sweep()
        {
            let error = anyhow::Error::from(error);
            tracing::warn!("old control groups are left: {error:#}");
        }
    }
}

fn name(uid: u32) -> String {
    format!("vmm-{uid}")
}
