//! Placing an instance within the transaction that accepts it.

use crate::{
    ControlError, ErrorKind, Result,
    core::{Core, Transaction},
    model::{Disk, EventSubject, Instance},
    records::{CpuRecord, DecisionInputs, DecisionRecord},
    site::{self, Site},
    tables::Table,
};
use billing::StockNeed;
use cpu::{Assignments, CpuSet};
use instance::has_own_cpus;
use placement::{Affinity, Constraint, Decision, HostRow, HostTable, NoStock, PlacementRequest};
use types::{ByteCount, DecisionId, InstanceId};

/// What an instance without a type is called when it is placed and priced.
const CUSTOM_TYPE: &str = "custom";

/// What an instance's type is called where it is placed and priced.
pub(crate) fn type_name(instance_type: Option<&str>) -> &str {
    instance_type.unwrap_or(CUSTOM_TYPE)
}

/// The hosts as they are within a transaction, to be filled one instance after the other.
pub(crate) struct Hosts {
    /// What is common to all instances, and the vCPUs that share CPUs.
    row: HostRow,
    /// The CPUs that are given to instances of enterprise families, if there are such CPUs.
    own: Option<Assignments<InstanceId>>,
}

/// What is to be placed.
pub(crate) struct Wanted<'a> {
    pub(crate) instance: InstanceId,
    pub(crate) instance_type: Option<String>,
    pub(crate) vcpus: u32,
    pub(crate) memory: ByteCount,
    /// What local disks are to be made for it.
    pub(crate) local_disk: ByteCount,
    /// Whether it is preemptible.
    pub(crate) spot: bool,
    /// Where it may be.
    pub(crate) site: &'a Site,
}

impl Hosts {
    /// The host with what holds room on it.
    ///
    /// An instance that is stopped without charge gave its room back, and with it its place in its deployment set: it does not count as a
    /// member on this host until it is started again, and is then placed among the others.
    pub(crate) fn new(transaction: &Transaction<'_>) -> Result<Self> {
        let core = transaction.core();
        let mut row = HostRow::new(
            core.host,
            &core.settings.zone,
            core.settings.vcpus,
            core.settings.memory,
        );
        row.local_disk_total = core.settings.local_disk;
        let mut own = core.own_cpus();
        row.local_disk_used = local_disks_given(&transaction.all(), &transaction.all());
        let instances = transaction.all::<Instance>();
        for instance in instances.values().filter(|it| it.holds_capacity()) {
            let record = match &own {
                Some(_) => transaction.get::<CpuRecord>(&instance.id)?,
                None => None,
            };
            let restored = match (&mut own, record) {
                (Some(own), Some(record)) => own.restore(instance.id, &record.cpus),
                _ => false,
            };
            if !restored {
                row.vcpus_used = row.vcpus_used.saturating_add(instance.vcpus);
            }
            row.memory_used = row.memory_used + instance.memory;
            row.instances = row.instances.saturating_add(1);
            site::count(&mut row, instance.deployment_set);
        }
        Ok(Self { row, own })
    }

    /// Whether instances of that type get CPUs of their own here. Those that do and those that do not take nothing of each other's
    /// CPUs.
    pub(crate) fn apart(&self, instance_type: Option<&str>) -> bool {
        self.own.is_some() && instance_type.is_some_and(has_own_cpus)
    }

    /// What is left on the host for instances that get CPUs of their own, or for all others.
    pub(crate) fn room(&self, apart: bool) -> StockNeed {
        let own = self.own.as_ref().filter(|_| apart);
        StockNeed {
            vcpus: own.map_or(self.row.vcpus_free(), Assignments::free),
            memory: self.row.memory_free(),
        }
    }

    /// Decides where it goes, and takes the room for it in this table; also what the policy was asked.
    pub(crate) fn place(
        &mut self,
        core: &Core,
        wanted: Wanted<'_>,
    ) -> (std::result::Result<Decision, NoStock>, DecisionInputs) {
        let mut request = PlacementRequest {
            instance: wanted.instance,
            instance_type: type_name(wanted.instance_type.as_deref()).to_owned(),
            vcpus: wanted.vcpus,
            memory: wanted.memory,
            local_disk: wanted.local_disk,
            zone: None,
            deployment_set: None,
            spot: wanted.spot,
            affinity: Affinity::default(),
        };
        wanted.site.put_into(&mut request, &self.row);
        // An instance of an enterprise family is asked for on CPUs that it has for itself, all others on the rest.
        let apart = self
            .own
            .as_mut()
            .filter(|_| has_own_cpus(&request.instance_type));
        let mut row = self.row.clone();
        if let Some(own) = &apart {
            row.vcpus_total = own.total();
            row.vcpus_used = own.total() - own.free();
        }
        // One row is a table.
        let hosts = HostTable::new(vec![row]).unwrap_or_default();
        let id = DecisionId::generate(core.ports.entropy.random());
        let in_force = core.policies.in_force();
        let scheduler = in_force.scheduler(request.instance);
        let decided = scheduler.decide(id, core.now(), &request, &hosts);
        let mut inputs = DecisionInputs {
            request,
            hosts,
            cpus: None,
        };
        if decided
            .as_ref()
            .is_ok_and(|decision| decision.host.is_some())
        {
            // The scheduler chose among hosts that have room.
            match apart {
                Some(own) => inputs.cpus = own.assign(wanted.instance, wanted.vcpus).ok(),
                None => self.row.vcpus_used = self.row.vcpus_used.saturating_add(wanted.vcpus),
            }
            self.row.memory_used = self.row.memory_used + wanted.memory;
            self.row.local_disk_used = self.row.local_disk_used + wanted.local_disk;
            self.row.instances = self.row.instances.saturating_add(1);
            wanted.site.placed_on(&mut self.row);
        }
        (decided, inputs)
    }
}

impl Core {
    /// The CPUs that instances of enterprise families have for themselves, all of them free; `None`: everybody shares all.
    pub(crate) fn own_cpus(&self) -> Option<Assignments<InstanceId>> {
        let dedicated = &self.settings.dedicated_cpus;
        if dedicated.is_empty() {
            return None;
        }
        let topology = self.ports.processors.topology()?;
        Some(Assignments::new(&topology, dedicated))
    }

    /// The CPUs that the instance has for itself, if there are any and they are still given out.
    pub(crate) fn cpus_of(&self, instance: &Instance) -> Result<Option<CpuSet>> {
        let Some(mut own) = self.own_cpus() else {
            return Ok(None);
        };
        let record = self.get::<CpuRecord>(&instance.id)?;
        let record = record.filter(|_| instance.holds_capacity());
        Ok(record
            .filter(|record| own.restore(instance.id, &record.cpus))
            .map(|record| record.cpus))
    }
}

/// What of the local disks is given: those that are there, and those that are still to be made for instances that hold room.
pub(crate) fn local_disks_given(instances: &Table<Instance>, disks: &Table<Disk>) -> ByteCount {
    let local = disks.values().filter(|disk| disk.category.is_local());
    let given = local.filter(|disk| {
        let instance = disk.instance.and_then(|id| instances.get(&id));
        disk.allocated || instance.is_some_and(|instance| instance.holds_capacity())
    });
    given.map(|disk| disk.size).sum()
}

/// Keeps a decision, and what the policy was asked.
pub(crate) fn record(
    transaction: &mut Transaction<'_>,
    decision: &Decision,
    inputs: DecisionInputs,
) -> Result<()> {
    transaction.decided(decision, &inputs);
    let instance = decision.instance;
    match &inputs.cpus {
        Some(cpus) => transaction.put(&CpuRecord {
            instance,
            cpus: cpus.clone(),
        })?,
        None => {
            transaction.delete::<CpuRecord>(&instance)?;
        }
    }
    transaction.put(&DecisionRecord {
        decision: decision.clone(),
        inputs: Some(inputs),
    })?;
    let message = format!(
        "placement of instance {}: {}",
        decision.instance, decision.reason
    );
    transaction.event(EventSubject::Decision(decision.id), message);
    Ok(())
}

/// Whether a host would take `count` such instances if only it had nothing on it: whether it helps to make room.
pub(crate) fn room_would_do(inputs: &DecisionInputs, count: u32) -> bool {
    let DecisionInputs { request, hosts, .. } = inputs;
    hosts.rows().any(|row| {
        let members = request.deployment_set.as_ref().map(|set| {
            let there = row.deployment_sets.get(&set.id).copied();
            (there.unwrap_or_default(), set.max_per_host)
        });
        let empty = HostRow {
            vcpus_used: 0,
            memory_used: ByteCount::ZERO,
            // Local disks stay with their instances.
            ..row
        };
        let local_disk = request.local_disk.bytes().saturating_mul(count.into());
        empty.obstacle(request).is_none()
            && empty.local_disk_free().bytes() >= local_disk
            && request.affinity.allows(empty.id)
            && members.is_none_or(|(there, most)| there.saturating_add(count) <= most)
    })
}

/// What the user is told when no host will do.
pub(crate) fn no_stock(refusal: &NoStock) -> ControlError {
    let id = refusal.decision.id;
    let constraint = refusal
        .constraint
        .as_ref()
        .map(|constraint| format!(" (constraint `{constraint}`)"));
    let message = format!(
        "No host can take the instance{}: {}.",
        constraint.unwrap_or_default(),
        refusal.decision.reason
    );
    let way_out = way_out(refusal.constraint.as_ref());
    ControlError::new(ErrorKind::NoStock, "OperationDenied.NoStock", message).with_next_step(
        format!("{way_out}; decision {id} says what each host lacked."),
    )
}

/// What helps against the constraint that ruled out most hosts.
fn way_out(constraint: Option<&Constraint>) -> &'static str {
    match constraint {
        None => "Add a host",
        Some(Constraint::NotAccepting) => "Wait until a host takes new instances again",
        Some(Constraint::Zone) => "Ask for another zone, or for none",
        Some(Constraint::Vcpus | Constraint::Memory) => {
            "Release instances or stop some with StopCharging, or ask for fewer vCPUs or less memory"
        }
        Some(Constraint::LocalDisk) => {
            "Release instances with local disks, ask for less of them, or for a type without any"
        }
        Some(Constraint::DeploymentSet) => {
            "Release a member of the deployment set or stop one with StopCharging, or run the instance outside of it"
        }
        Some(Constraint::Affinity) => {
            "Ask for it without some of the instances it is to be with or apart from, or release those that keep it away"
        }
        Some(Constraint::Named(_)) => "Ask for what the scheduling policy has a host for",
    }
}
