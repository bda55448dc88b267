//! Placing an instance within the transaction that accepts it.

use crate::{
    ControlError, ErrorKind, Result,
    core::{Core, Transaction},
    model::{EventSubject, Instance},
    records::{DecisionInputs, DecisionRecord},
};
use billing::StockNeed;
use placement::{Decision, HostRow, HostTable, NoStock, PlacementRequest};
use types::{ByteCount, DecisionId, InstanceId};

/// What an instance without a type is called when it is placed and priced.
pub(crate) const CUSTOM_TYPE: &str = "custom";

/// The hosts as they are within a transaction, to be filled one instance after the other.
pub(crate) struct Hosts {
    table: HostTable,
}

/// What is to be placed.
pub(crate) struct Wanted {
    pub(crate) instance: InstanceId,
    pub(crate) instance_type: Option<String>,
    pub(crate) vcpus: u32,
    pub(crate) memory: ByteCount,
    /// Whether it is preemptible.
    pub(crate) spot: bool,
}

impl Hosts {
    pub(crate) fn new(transaction: &Transaction<'_>) -> Result<Self> {
        let core = transaction.core();
        let mut row = HostRow::new(
            core.host,
            &core.settings.zone,
            core.settings.vcpus,
            core.settings.memory,
        );
        for instance in transaction
            .list::<Instance>()?
            .iter()
            .filter(|instance| instance.state.holds_capacity())
        {
            row.vcpus_used = row.vcpus_used.saturating_add(instance.vcpus);
            row.memory_used = row.memory_used + instance.memory;
            row.instances = row.instances.saturating_add(1);
        }
        let table = HostTable::new(vec![row])
            .map_err(|error| ControlError::internal("The table of hosts cannot be made.", error))?;
        Ok(Self { table })
    }

    /// What is left on the host with the most virtual CPUs to spare.
    pub(crate) fn room(&self) -> StockNeed {
        let free = |row: &HostRow| StockNeed {
            vcpus: row.vcpus_total.saturating_sub(row.vcpus_used),
            memory: row.memory_total.saturating_sub(row.memory_used),
        };
        let rows = self.table.rows().map(|row| free(&row));
        rows.max_by_key(|free| free.vcpus).unwrap_or_default()
    }

    /// Decides where it goes, and takes the room for it in this table; also what the policy was asked.
    pub(crate) fn place(
        &mut self,
        core: &Core,
        wanted: Wanted,
    ) -> (std::result::Result<Decision, NoStock>, DecisionInputs) {
        let request = PlacementRequest {
            instance: wanted.instance,
            instance_type: wanted
                .instance_type
                .unwrap_or_else(|| CUSTOM_TYPE.to_owned()),
            vcpus: wanted.vcpus,
            memory: wanted.memory,
            local_disk: ByteCount::ZERO,
            zone: None,
            deployment_set: None,
            spot: wanted.spot,
        };
        let id = DecisionId::generate(core.ports.entropy.random());
        let in_force = core.policies.in_force();
        let scheduler = in_force.scheduler(request.instance);
        let decided = scheduler.decide(id, core.now(), &request, &self.table);
        let inputs = DecisionInputs {
            request,
            hosts: self.table.clone(),
        };
        if let Ok(Decision {
            host: Some(host), ..
        }) = &decided
        {
            // The scheduler chose among hosts that have room.
            let _ = self.table.reserve(*host, &inputs.request.footprint());
        }
        (decided, inputs)
    }
}

/// Keeps a decision, and what the policy was asked.
pub(crate) fn record(
    transaction: &mut Transaction<'_>,
    decision: &Decision,
    inputs: DecisionInputs,
) -> Result<()> {
    transaction.decided(decision, &inputs);
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
    ControlError::new(ErrorKind::NoStock, "OperationDenied.NoStock", message).with_next_step(format!(
        "Stop or release instances, or ask for fewer vCPUs or less memory; decision {id} says what each host lacked."
    ))
}
