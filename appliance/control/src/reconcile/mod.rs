//! Leading the host to what is intended.
//!
//! ```text
//!  use case ── intent ──► store ◄── observed, plan, steps ── one actor per instance ◄── machine events
//!      └────── wake ─────────────────────────────────────────────▲
//! ```
//!
//! An instance's actor alone changes its state; everybody else writes intents and wakes it. It takes no input but reads all,
//! compares and converges: on a wake-up, on an event of its machine, and on a timer. What belongs to nobody is swept
//! away at the start and on a timer.

mod actor;
mod commerce;
pub(crate) mod credits;
mod disks;
mod instances;
pub(crate) mod meter;
mod networks;
mod plan;
mod release;
mod start;
mod sweep;

pub(crate) use commerce::{note_debt, spot, unlock};
pub(crate) use disks::Disks;
pub(crate) use instances::Instances;
pub(crate) use networks::Networks;

use crate::{
    Result,
    core::Core,
    model::{Instance, Intent, State},
    ports::{Machine, MachineEvent, MachineEventKind, MachineExit},
    use_cases::begin_start,
};
use std::{collections::HashMap, sync::Arc};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::InstanceId;

/// Takes over what a former daemon left: its machines, its interfaces, and what it had begun.
pub(crate) async fn adopt(
    core: &Arc<Core>,
    networks: &Arc<Networks>,
    instances: &Arc<Instances>,
    events: &mut mpsc::Receiver<MachineEvent>,
) -> Result<()> {
    let records = core.list::<Instance>()?;
    let mut machines: HashMap<InstanceId, Machine> = HashMap::new();
    let (found, early) = look_around(core, events).await?;
    for machine in found {
        if records.iter().any(|record| record.id == machine.instance) {
            tracing::info!(instance = %machine.instance, pid = machine.pid, "machine adopted");
            machines.insert(machine.instance, machine);
        } else {
            tracing::warn!(instance = %machine.instance, pid = machine.pid, "ending a machine without a record");
            core.ports.machines.kill(machine.instance).await?;
        }
    }
    let (mut exits, mut others) = (HashMap::new(), Vec::new());
    for event in early {
        match event.kind {
            MachineEventKind::Exited(exit) if !machines.contains_key(&event.instance) => {
                exits.insert(event.instance, exit);
            }
            _ => others.push(event),
        }
    }
    let running = |record: &&Instance| machines.contains_key(&record.id);
    networks.resume(records.iter().filter(running)).await?;
    if core.settings.restart_vanished {
        let vanished = |record: &&Instance| {
            !machines.contains_key(&record.id) && !exits.contains_key(&record.id)
        };
        restart_vanished(core, records.iter().filter(vanished)).await?;
    }
    for record in &records {
        let found = match (machines.remove(&record.id), exits.remove(&record.id)) {
            (Some(machine), _) => Found::Machine(machine),
            (None, Some(exit)) => Found::Ended(exit),
            (None, None) => Found::Nothing,
        };
        instances.adopt(record.id, found);
    }
    // Of machines that were adopted: they have somebody to tell now.
    others.into_iter().for_each(|event| instances.tell(event));
    Ok(())
}

/// What a new daemon found of an instance's machine.
pub(crate) enum Found {
    /// It runs.
    Machine(Machine),
    /// It ended while no daemon ran, and left word how.
    Ended(MachineExit),
    /// Nothing, or the daemon is not new.
    Nothing,
}

/// The machines there are, and what was told of any meanwhile: there may be more of that than the channel holds.
async fn look_around(
    core: &Core,
    events: &mut mpsc::Receiver<MachineEvent>,
) -> Result<(Vec<Machine>, Vec<MachineEvent>)> {
    let mut early = Vec::new();
    let mut adopting = core.ports.machines.adopt();
    let found = loop {
        tokio::select! {
            found = &mut adopting => break found?,
            Some(event) = events.recv() => early.push(event),
        }
    };
    while let Ok(event) = events.try_recv() {
        early.push(event);
    }
    Ok((found, early))
}

/// Has instances started again that ran when the host went down.
async fn restart_vanished(
    core: &Arc<Core>,
    vanished: impl Iterator<Item = &Instance>,
) -> Result<()> {
    let ran =
        |record: &&Instance| record.state == State::Running && record.intent == Intent::Running;
    let ids: Vec<InstanceId> = vanished.filter(ran).map(|record| record.id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let requested_ns = core.ports.clock.monotonic_ns();
    let begin = move |transaction: &mut crate::core::Transaction<'_>| {
        for id in ids {
            if let Some(mut instance) = transaction.get::<Instance>(&id)? {
                crate::use_cases::meters::instance_runs(transaction, &id.to_string(), false)?;
                instance.state = State::Stopped;
                begin_start(transaction, &mut instance, requested_ns)?;
            }
        }
        Ok(())
    };
    core.write(begin).await
}

/// Starts what runs beside the actors: the events' distribution, the meter, the sweeper and the settling of CPU credits.
pub(crate) fn spawn(
    core: &Arc<Core>,
    networks: &Arc<Networks>,
    instances: &Arc<Instances>,
    disks: &Disks,
    events: mpsc::Receiver<MachineEvent>,
    tasks: &TaskTracker,
    end: &CancellationToken,
) {
    tasks.spawn(
        end.clone()
            .run_until_cancelled_owned(distribute(instances.clone(), events)),
    );
    tasks.spawn(
        end.clone()
            .run_until_cancelled_owned(meter::run(core.clone(), instances.clone())),
    );
    tasks.spawn(
        end.clone()
            .run_until_cancelled_owned(commerce::run(core.clone(), instances.clone())),
    );
    let sweeper = sweep::Sweeper::new(
        core.clone(),
        networks.clone(),
        instances.clone(),
        disks.clone(),
    );
    tasks.spawn(end.clone().run_until_cancelled_owned(sweeper.run()));
    tasks.spawn(credits::run(core.clone(), end.clone()));
}

async fn distribute(instances: Arc<Instances>, mut events: mpsc::Receiver<MachineEvent>) {
    while let Some(event) = events.recv().await {
        instances.tell(event);
    }
}
