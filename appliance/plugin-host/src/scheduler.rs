//! A scheduling policy that is a component.

use crate::{
    LoadError,
    bindings::scheduler::{
        SchedulerPre,
        exports::ashlar::policy::scheduling::{
            DeploymentSet, HostTable as Table, Parameter, PlacementRequest as Request, Verdicts,
        },
    },
    plugin::{Plugin, interface},
    sandbox::{Sandbox, seed},
};
use placement::{
    Constraint, HostTable, PlacementRequest, SchedulingPolicy, Verdict, check_verdicts,
};
use types::{FailureKind, PolicyFailure, PolicyIdentity};

/// A component of world `scheduler`.
pub struct SchedulerPlugin {
    plugin: Plugin,
    world: SchedulerPre<Sandbox>,
}

impl SchedulerPlugin {
    /// Makes sure that it exports what it should, and that it takes its parameters.
    pub(crate) fn new(plugin: Plugin) -> Result<Self, LoadError> {
        let name = plugin.identity.name.clone();
        let world =
            SchedulerPre::new(plugin.instance.clone()).map_err(|error| interface(&name, &error))?;
        let loaded = Self { plugin, world };
        loaded
            .plugin
            .call(0, |store| {
                let world = loaded.world.instantiate(&mut *store)?;
                let scheduling = world.ashlar_policy_scheduling();
                scheduling.call_check_configuration(store, &loaded.parameters())
            })
            .map_err(|failure| LoadError::Configuration {
                name,
                why: match failure.kind {
                    FailureKind::Refused => failure.message,
                    kind => format!("it {kind}: {}", failure.message),
                },
            })?;
        Ok(loaded)
    }

    fn parameters(&self) -> Vec<Parameter<'_>> {
        let parameters = self.plugin.parameters.iter();
        parameters
            .map(|(name, value)| Parameter { name, value })
            .collect()
    }
}

impl SchedulingPolicy for SchedulerPlugin {
    fn identity(&self) -> PolicyIdentity {
        self.plugin.identity.clone()
    }

    fn evaluate(
        &self,
        request: &PlacementRequest,
        hosts: &HostTable,
    ) -> Result<Vec<Verdict>, PolicyFailure> {
        let instance = request.instance.to_string();
        let set = request.deployment_set.as_ref();
        let members = set.map_or_else(Vec::new, |set| hosts.members_of(&set.id));
        let zones: Vec<&str> = hosts.zone_names().iter().map(String::as_str).collect();
        let columns = hosts.columns();
        let asked = Request {
            instance: &instance,
            instance_type: &request.instance_type,
            vcpus: request.vcpus,
            memory: request.memory.bytes(),
            local_disk: request.local_disk.bytes(),
            zone: request.zone.as_deref(),
            deployment_set: set.map(|set| DeploymentSet {
                id: &set.id,
                max_per_host: set.max_per_host,
            }),
            spot: request.spot,
        };
        let table = Table {
            zone_names: &zones,
            zone: &columns.zone,
            accepting: &columns.accepting,
            vcpus_total: &columns.vcpus_total,
            vcpus_used: &columns.vcpus_used,
            memory_total: &columns.memory_total,
            memory_used: &columns.memory_used,
            local_disk_total: &columns.local_disk_total,
            local_disk_used: &columns.local_disk_used,
            instances: &columns.instances,
            set_members: &members,
        };
        let answer = self.plugin.call(seed(&instance), |store| {
            let world = self.world.instantiate(&mut *store)?;
            let scheduling = world.ashlar_policy_scheduling();
            scheduling.call_filter_and_score(store, &self.parameters(), asked, table)
        })?;
        let verdicts = rows(&answer, hosts.len()).and_then(|verdicts| {
            check_verdicts(request, hosts, &verdicts)?;
            Ok(verdicts)
        });
        verdicts.map_err(|why| self.plugin.failure(FailureKind::InvalidAnswer, &why))
    }
}

/// From the columns of an answer to one verdict per host.
fn rows(answer: &Verdicts, hosts: usize) -> Result<Vec<Verdict>, String> {
    for (column, length) in [
        ("refused-for", answer.refused_for.len()),
        ("score", answer.score.len()),
    ] {
        if length != hosts {
            return Err(format!(
                "`{column}` is about {length} hosts; the table has {hosts}"
            ));
        }
    }
    let named = answer.constraints.len();
    if named > usize::from(u8::MAX) {
        return Err(format!("{named} constraints; at most 255 are allowed"));
    }
    let names = answer.constraints.iter();
    let constraints: Vec<Constraint> = names.map(|name| Constraint::from_name(name)).collect();
    let verdict = |(code, score): (&u8, &f64)| match usize::from(*code).checked_sub(1) {
        None => Ok(Verdict::Score(*score)),
        Some(position) => match constraints.get(position) {
            Some(constraint) => Ok(Verdict::Refused(constraint.clone())),
            None => Err(format!(
                "a host is refused for constraint {code}; {named} are named"
            )),
        },
    };
    answer
        .refused_for
        .iter()
        .zip(&answer.score)
        .map(verdict)
        .collect()
}
