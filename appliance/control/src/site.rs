//! Which hosts are left to an instance by what was asked for: its zone, its deployment set, and the instances it is to be with or
//! apart from.

use crate::{
    ControlError, ErrorKind, Result,
    commands::RunInstances,
    core::Transaction,
    model::{DeploymentSet, DeploymentStrategy, Instance, InstanceAffinity},
    use_cases::deployment_sets,
};
use placement::{Affinity, HostRow, PlacementRequest};
use std::{collections::BTreeSet, sync::Arc};
use types::{DeploymentSetId, HostId, InstanceId};

/// What was asked for, looked up.
#[derive(Default)]
pub(crate) struct Site {
    /// `None`: any.
    pub(crate) zone: Option<String>,
    set: Option<(DeploymentSetId, DeploymentStrategy)>,
    affinity: Affinity,
}

impl Site {
    /// Of new instances. Everything that is named must be there.
    pub(crate) fn asked(transaction: &Transaction<'_>, command: &RunInstances) -> Result<Self> {
        if let Some(zone) = &command.zone {
            check_zone(&transaction.core().settings.zone, zone)?;
        }
        let set = command
            .deployment_set
            .map(|id| deployment_sets::find(transaction, id))
            .transpose()
            .map_err(|error| error.with_field("deployment_set"))?;
        check_affinity(transaction, &command.affinity)?;
        let instances = transaction.all::<Instance>();
        Ok(Self {
            zone: command.zone.clone(),
            set: set.map(|set| (set.id, set.strategy)),
            affinity: resolve(instances.values(), None, &command.affinity),
        })
    }

    /// Of an instance that is placed anew. Its disks are in its zone: it need not be asked for again.
    pub(crate) fn again(transaction: &Transaction<'_>, instance: &Instance) -> Result<Self> {
        let set = match instance.deployment_set {
            Some(id) => transaction.get::<DeploymentSet>(&id)?,
            None => None,
        };
        let instances = transaction.all::<Instance>();
        Ok(Self {
            zone: None,
            set: set.map(|set| (set.id, set.strategy)),
            affinity: resolve(instances.values(), Some(instance.id), &instance.affinity),
        })
    }

    /// Puts it into a request that is answered from a table of that one host.
    ///
    /// Policies are told of sets whose members are kept apart; that others are kept together is the core's business.
    pub(crate) fn put_into(&self, request: &mut PlacementRequest, host: &HostRow) {
        request.zone.clone_from(&self.zone);
        request.affinity.clone_from(&self.affinity);
        let Some((id, strategy)) = &self.set else {
            return;
        };
        let id = id.to_string();
        match strategy {
            DeploymentStrategy::Availability => {
                request.deployment_set = Some(placement::DeploymentSet {
                    id,
                    max_per_host: 1,
                });
            }
            DeploymentStrategy::LowLatency if host.deployment_sets.contains_key(&id) => {
                let near = BTreeSet::from([host.id]);
                let only = request.affinity.only.take();
                request.affinity.only = Some(match only {
                    Some(only) => &only & &near,
                    None => near,
                });
            }
            // The first one goes anywhere.
            DeploymentStrategy::LowLatency => {}
        }
    }

    /// Counts an instance that was placed on a host.
    pub(crate) fn placed_on(&self, host: &mut HostRow) {
        count(host, self.set.map(|(id, _)| id));
    }
}

/// Counts a member on its host.
pub(crate) fn count(host: &mut HostRow, set: Option<DeploymentSetId>) {
    if let Some(set) = set {
        let members = host.deployment_sets.entry(set.to_string()).or_default();
        *members = members.saturating_add(1);
    }
}

fn check_zone(there: &str, asked: &str) -> Result<()> {
    if asked == there {
        return Ok(());
    }
    let shown: String = asked
        .chars()
        .take(64)
        .flat_map(char::escape_debug)
        .collect();
    Err(ControlError::new(
        ErrorKind::NotFound,
        "InvalidZoneId.NotFound",
        format!("No host is in a zone `{shown}`."),
    )
    .with_field("zone")
    .with_next_step(format!("Name the zone {there}, or none.")))
}

fn check_affinity(transaction: &Transaction<'_>, affinity: &InstanceAffinity) -> Result<()> {
    let InstanceAffinity { with, apart_from } = affinity;
    for (list, ids) in [("with", with), ("apart_from", apart_from)] {
        if ids.len() > InstanceAffinity::MAX {
            let message = format!(
                "{} instances in {list}: it may name at most {}.",
                ids.len(),
                InstanceAffinity::MAX
            );
            return Err(ControlError::invalid(format!("affinity.{list}"), message));
        }
        for (position, id) in ids.iter().enumerate() {
            if transaction.get::<Instance>(id)?.is_none() {
                return Err(ControlError::not_found("InstanceId", "instance", id)
                    .with_field(format!("affinity.{list}[{position}]")));
            }
        }
    }
    match apart_from.iter().position(|id| with.contains(id)) {
        None => Ok(()),
        Some(position) => {
            let id = apart_from[position];
            let message = format!("No host is with {id} and apart from it.");
            let field = format!("affinity.apart_from[{position}]");
            Err(ControlError::invalid(field, message)
                .with_next_step("Name each instance in one of the two lists."))
        }
    }
}

/// Another instance: what decides where one may be.
struct Other<'a> {
    id: InstanceId,
    host: HostId,
    affinity: &'a InstanceAffinity,
}

impl<'a> From<&'a Arc<Instance>> for Other<'a> {
    fn from(instance: &'a Arc<Instance>) -> Self {
        Self {
            id: instance.id,
            host: instance.host,
            affinity: &instance.affinity,
        }
    }
}

/// The hosts that an instance's affinity leaves it, and those it is kept from by others' that name it; `this` is that of an instance
/// that is there already.
fn resolve<'a>(
    others: impl IntoIterator<Item = impl Into<Other<'a>>>,
    this: Option<InstanceId>,
    affinity: &InstanceAffinity,
) -> Affinity {
    let InstanceAffinity { with, apart_from } = affinity;
    let mut resolved = Affinity::default();
    let mut beside: Option<BTreeSet<HostId>> = None;
    for other in others {
        let other: Other<'_> = other.into();
        if with.contains(&other.id) {
            beside.get_or_insert_default().insert(other.host);
        }
        let keeps_away = this.is_some_and(|this| other.affinity.apart_from.contains(&this));
        if apart_from.contains(&other.id) || keeps_away {
            resolved.never.insert(other.host);
        }
    }
    // Nothing can be with two instances that are on different hosts.
    resolved.only = beside.map(|hosts| match hosts.len() {
        1 => hosts,
        _ => BTreeSet::new(),
    });
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::ByteCount;

    fn instance(number: u128) -> InstanceId {
        InstanceId::generate(number)
    }

    fn host(number: u128) -> HostId {
        HostId::generate(number)
    }

    fn named(with: &[u128], apart_from: &[u128]) -> InstanceAffinity {
        let ids = |numbers: &[u128]| numbers.iter().copied().map(instance).collect();
        InstanceAffinity {
            with: ids(with),
            apart_from: ids(apart_from),
        }
    }

    #[test]
    fn others_are_looked_up_where_they_are() {
        // Instances 1 and 2 are on host 1, 3 on host 2, which wants to be apart from 9; 7 is gone.
        let (nobody, from_nine) = (named(&[], &[]), named(&[], &[9]));
        let check =
            |this: Option<u128>, asked: InstanceAffinity, only: Option<&[u128]>, never: &[u128]| {
                let there = [(1, 1, &nobody), (2, 1, &nobody), (3, 2, &from_nine)];
                let others = there.map(|(id, on, affinity)| Other {
                    id: instance(id),
                    host: host(on),
                    affinity,
                });
                let hosts = |numbers: &[u128]| numbers.iter().copied().map(host).collect();
                let expected = Affinity {
                    only: only.map(hosts),
                    never: hosts(never),
                };
                let resolved = resolve(others, this.map(instance), &asked);
                assert_eq!(resolved, expected, "{asked:?}");
            };
        check(None, named(&[], &[]), None, &[]);
        check(None, named(&[1], &[]), Some(&[1]), &[]);
        check(None, named(&[1, 2], &[3]), Some(&[1]), &[2]);
        check(None, named(&[1, 3], &[]), Some(&[]), &[]);
        check(None, named(&[], &[1, 2, 3]), None, &[1, 2]);
        check(Some(8), named(&[7], &[7]), None, &[]);
        check(Some(9), named(&[], &[]), None, &[2]);
        check(Some(9), named(&[3], &[]), Some(&[2]), &[2]);
    }

    #[test]
    fn a_set_for_low_latency_is_where_members_are() {
        let set = DeploymentSetId::generate(1);
        let mut row = HostRow::new(host(1), "a", 4, ByteCount::GIB);
        let mut request = PlacementRequest {
            instance: instance(1),
            instance_type: "custom".to_owned(),
            vcpus: 1,
            memory: ByteCount::GIB,
            local_disk: ByteCount::ZERO,
            zone: None,
            deployment_set: None,
            spot: false,
            affinity: Affinity::default(),
        };
        let plain = request.clone();
        let mut site = Site {
            set: Some((set, DeploymentStrategy::LowLatency)),
            ..Site::default()
        };
        site.put_into(&mut request, &row);
        assert_eq!(request, plain);
        site.placed_on(&mut row);
        site.put_into(&mut request, &row);
        assert_eq!(request.affinity.only, Some(BTreeSet::from([host(1)])));
        assert_eq!(request.deployment_set, None);
        // And with an instance that is elsewhere: nowhere.
        site.affinity.only = Some(BTreeSet::from([host(2)]));
        site.put_into(&mut request, &row);
        assert_eq!(request.affinity.only, Some(BTreeSet::new()));
    }
}
